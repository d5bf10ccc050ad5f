"""Faults of what comes out: constant scores, an input without effect, saturation, and a wrong link for the loss."""

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody writes it)
from torch import nn

import pairfuse as pf
from clinic.case import (
    Patient,
    Siamese,
    black_white,
    captioned_images,
    conv_encoder,
    distance,
    faulty,
    images,
    mlp_encoder,
    text_encoder,
    texts,
    vectors,
)


@faulty("constant-output")
def dying_relu_encoder():
    """Every pair has the score of the head's bias."""
    encoder = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
    nn.init.constant_(encoder[2].bias, -100.0)
    return Patient(Siamese(encoder, nn.Linear(16, 1)), *vectors())


@faulty("constant-output")
def head_ends_in_dead_relu():
    """Every score is exactly 0."""
    head = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1), nn.ReLU())
    nn.init.constant_(head[2].bias, -10.0)
    return Patient(Siamese(conv_encoder(), head, distance), *images())


@faulty("constant-output")
def zero_head_on_dead_layer():
    """A careful zero start of the last layer, on a hidden layer that is dead."""
    net = pf.SiameseComparator(mlp_encoder(), "symmetric", "mlp")
    nn.init.constant_(net.head[0].bias, -100.0)
    nn.init.zeros_(net.head[2].weight)
    return Patient(net, *vectors())


class SoftmaxOfOne(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = text_encoder()
        self.fc = nn.Linear(16, 1)

    def forward(self, a, b):
        return F.softmax(self.fc(torch.abs(self.encoder(a) - self.encoder(b))), dim=1)


@faulty("constant-output")
def softmax_of_one_logit():
    """Every pair is "the same" with probability 1: a softmax over one number."""
    return Patient(SoftmaxOfOne(), *texts())


class Typo(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding_net = mlp_encoder()
        self.classify = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x1, x2):
        e1 = self.embedding_net(x1)
        e2 = self.embedding_net(x1)
        return self.classify(torch.cat([e1 * e2, (e1 - e2.flip(1)).abs()], 1)).squeeze(1)


@faulty("ignored-input")
def first_input_twice():
    """A slip of one character: the score is the same for every x2."""
    return Patient(Typo(), *vectors())


class TakesTheFirstHalf(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = 16
        self.encoder = conv_encoder(features=self.features)
        self.head = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 1))

    def forward(self, pair):
        both = torch.cat([self.encoder(x) for x in pair], dim=1)
        return self.head(both[:, : self.features])


@faulty("ignored-input")
def head_reads_one_half():
    """The features of the right image are cut off before the head."""
    net = TakesTheFirstHalf()
    return Patient(lambda x1, x2: net((x1, x2)), *images(), {"module": net})


class DeadTower(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = conv_encoder()
        self.text = nn.Sequential(text_encoder(), nn.ReLU())
        nn.init.constant_(self.text[0][-1].bias, -50.0)
        self.mlp = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, image, text):
        return self.mlp(torch.cat([self.image(image), self.text(text)], dim=1))


@faulty("ignored-input")
def one_dead_tower():
    """The text tower gives zeros, so that only the image counts."""
    return Patient(DeadTower(), *captioned_images())


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def _huge_product(*end):
    net = Siamese(mlp_encoder(), nn.Sequential(nn.Linear(16, 1), Times(1000.0), *end))
    pairs = vectors()
    with torch.no_grad():  # half of the answers are yes
        net.head[0].bias.sub_(net.head[0](net.encoder(pairs.x1) * net.encoder(pairs.x2)).median())
    return Patient(net, *pairs)


@faulty("saturated")
def logits_times_thousand():
    """The loss begins in the hundreds: half of the pairs are wrong with certainty."""
    return _huge_product()


@faulty("saturated")
def sigmoid_of_huge_logits():
    """Outputs are exactly 0 or 1 from the start, and the gradient through the sigmoid is 0."""
    return _huge_product(nn.Sigmoid())


@faulty("saturated")
def raw_pixels():
    """Bytes from 0 to 255 were never divided by 255."""
    x1, x2, y = images()
    net = Siamese(
        nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.Tanh(), nn.Linear(32, 16), Times(60.0)), nn.Linear(16, 1)
    )
    return Patient(net, (x1 * 50 + 127).clamp(0, 255), (x2 * 50 + 127).clamp(0, 255), y)


class SigmoidTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.tower = mlp_encoder()
        self.head = nn.Sequential(nn.Linear(16, 1), nn.Sigmoid())

    def forward(self, x1, x2):
        out = self.head(self.tower(x1) * self.tower(x2))
        return torch.sigmoid(out).squeeze(1)


@faulty("double-sigmoid")
def sigmoid_twice():
    """No output is below 0.5 or above 0.73."""
    return Patient(SigmoidTwice(), *vectors())


@faulty("double-sigmoid")
def sigmoid_and_logit_loss():
    """The loss cannot fall below 0.31 where the answer is yes, 0.69 where it is no."""
    net = Siamese(conv_encoder(), nn.Sequential(nn.Linear(16, 1), nn.Sigmoid()), distance)
    return Patient(net, *images(), {"loss": nn.BCEWithLogitsLoss()})


@faulty("double-sigmoid")
def softmax_and_cross_entropy():
    """`nn.CrossEntropyLoss` takes the softmax of a softmax, and learns slowly and never surely."""
    net = Siamese(text_encoder(), nn.Sequential(nn.Linear(16, 2), nn.Softmax(dim=1)))
    return Patient(net, *texts(), {"loss": nn.CrossEntropyLoss()})


@faulty("double-sigmoid")
def logits_and_probability_loss():
    """`nn.BCELoss` raises, or returns nonsense, since it was given logits."""
    net = Siamese(mlp_encoder(), nn.Sequential(nn.Linear(16, 1)))
    net.head[0].weight.data *= 20
    return Patient(net, *vectors(), {"loss": nn.BCELoss()})


def _with_sigmoid():
    return Siamese(mlp_encoder(), nn.Sequential(nn.Linear(16, 1), nn.Sigmoid()), distance)


@faulty("double-sigmoid")
def sigmoid_and_smoothed_labels():
    """The loss is a function of one's own, and calls the one that applies a sigmoid."""
    smoothed = lambda o, t: F.binary_cross_entropy_with_logits(o, 0.9 * t + 0.05)  # noqa: E731
    return Patient(_with_sigmoid(), *vectors(), {"loss": smoothed})


@faulty("double-sigmoid")
def sigmoid_and_temperature():
    """A temperature of ten: no probability is above 0.525."""
    cooled = lambda o, t: F.binary_cross_entropy_with_logits(o * 0.1, t)  # noqa: E731
    return Patient(_with_sigmoid(), *vectors(), {"loss": cooled})


@faulty("double-sigmoid")
def sigmoid_and_hard_sigmoid():
    """The second sigmoid is made of straight lines."""
    return Patient(_with_sigmoid(), *vectors(), {"loss": lambda o, t: F.binary_cross_entropy(F.hardsigmoid(o), t)})


class Cosine(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()
        self.similarity = nn.CosineSimilarity(dim=1)

    def forward(self, a, b):
        return self.similarity(self.encoder(a), self.encoder(b))


@faulty("bounded-output")
def cosine_as_logit():
    """p is between 0.27 and 0.73, and the loss above 0.31, however good the embeddings are."""
    return Patient(Cosine(), *vectors(), {"loss": nn.BCEWithLogitsLoss()})


@faulty("bounded-output")
def tanh_as_logit():
    """The same through a tanh."""
    net = Siamese(conv_encoder(), nn.Sequential(nn.Linear(16, 1), nn.Tanh()))
    return Patient(net, *images(), {"loss": nn.BCEWithLogitsLoss()})


class DotOfUnitVectors(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_encoder = self.k_encoder = conv_encoder()

    def forward(self, batch):
        u = F.normalize(self.q_encoder(batch[:, 0]), dim=-1)
        v = F.normalize(self.k_encoder(batch[:, 1]), dim=-1)
        return torch.einsum("bd,bd->b", u, v)


@faulty("bounded-output")
def dot_of_unit_vectors():
    """The dot product of normalized embeddings, without a temperature."""
    net, (x1, x2, y) = DotOfUnitVectors(), black_white()
    return Patient(
        lambda a, b: net(torch.stack([a, b], dim=1)), x1, x2, y, {"module": net, "loss": nn.BCEWithLogitsLoss()}
    )
