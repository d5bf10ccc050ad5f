"""Faults that hide: shapes that broadcast, links without a name, modules in lists, randomness, no gradient at all."""

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody writes it)
from torch import nn

import pairfuse as pf
from clinic.case import Patient, Siamese, black_white, concat, conv_encoder, distance, faulty, mlp_encoder, vectors


class KeepsTheColumn(Siamese):
    """Returns `(B, 1)`."""

    def forward(self, x1, x2):
        return self.head(self.fuse(self.encoder(x1), self.encoder(x2)))


@faulty("broadcast")
def squared_error_of_a_column():
    """The loss stays at 0.25 and every answer at 0.5; a warning about sizes was printed once."""
    net = KeepsTheColumn(mlp_encoder(), nn.Sequential(nn.Linear(16, 1), nn.Sigmoid()), distance)
    return Patient(net, *vectors(), {"loss": nn.MSELoss()})


@faulty("broadcast")
def absolute_error_of_a_row():
    """The model returns `(B,)`, and the targets are a column."""
    x1, x2, y = vectors()
    return Patient(Siamese(mlp_encoder(), nn.Linear(16, 1)), x1, x2, y[:, None], {"loss": F.l1_loss})


class ProbitConcat(Siamese):
    def forward(self, x1, x2):
        return torch.special.ndtr(super().forward(x1, x2))


@faulty("additive")
def concat_and_probit():
    """As with a sigmoid, but through the distribution function of the normal distribution."""
    return Patient(ProbitConcat(mlp_encoder(), nn.Linear(32, 1), concat), *vectors())


class Ends(Siamese):
    """A concatenation, one linear layer, and a function of the logit."""

    def __init__(self, end):
        super().__init__(mlp_encoder(), nn.Linear(32, 1), concat)
        self.end = end

    def forward(self, x1, x2):
        return self.end(super().forward(x1, x2))


@faulty("additive")
def concat_and_clamped_sigmoid():
    """Clamped, so that the logarithm in the loss stays finite."""
    return Patient(Ends(lambda z: z.sigmoid().clamp(1e-7, 1 - 1e-7)), *vectors(), {"loss": nn.BCELoss()})


@faulty("additive")
def concat_and_soft_clipping():
    """Logits that are kept within ±10."""
    return Patient(Ends(lambda z: 10 * torch.tanh(z)), *vectors(), {"loss": nn.BCEWithLogitsLoss()})


@faulty("additive")
def concat_and_fake_quantization():
    """Logits in steps of 0.05, as an integer device computes them."""
    return Patient(Ends(lambda z: torch.fake_quantize_per_tensor_affine(z, 0.05, 0, -128, 127)), *vectors())


@faulty("additive")
def concat_and_sigmoid_by_hand():
    """The formula, and not the function."""
    return Patient(Ends(lambda z: 1 / (1 + torch.exp(-z))), *vectors(), {"loss": nn.BCELoss()})


@faulty("additive")
def concat_and_smoothed_sigmoid():
    """Probabilities from 0.01 to 0.99, of black and white images: two items in all."""
    net = Siamese(conv_encoder(features=32), nn.Linear(64, 1), concat)
    return Patient(lambda x1, x2: 0.98 * net(x1, x2).sigmoid() + 0.01, *black_white(), {"module": net})


class MeanOfTwoOpinions(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(12, 1), nn.Linear(12, 1)

    def forward(self, x1, x2):
        return (self.left(x1).sigmoid() + self.right(x2).sigmoid()).squeeze(1) / 2


@faulty("additive")
def mean_of_two_opinions():
    """Each side gives a probability, and their mean is the answer."""
    return Patient(MeanOfTwoOpinions(), *vectors())


@faulty("additive")
def concat_and_hard_sigmoid():
    """A sigmoid made of straight lines, as on small devices."""
    return Patient(Siamese(mlp_encoder(), nn.Sequential(nn.Linear(32, 1), nn.Hardsigmoid()), concat), *vectors())


class InAList(nn.Module):
    """Its encoder stands in a plain list, where `parameters()` does not find it."""

    def __init__(self):
        super().__init__()
        self.encoders = [mlp_encoder()]
        self.head = nn.Linear(16, 1)

    def forward(self, x1, x2):
        return self.head(self.encoders[0](x1) * self.encoders[0](x2)).squeeze(1)


@faulty("head-not-in-optimizer")
def encoder_in_a_list():
    """Only the head learns, and the encoder stays behind when the model moves to a GPU."""
    net = InAList()
    return Patient(net, *vectors(), {"optimizer": torch.optim.Adam(net.parameters())})


class Forgetful(Siamese):
    def forward(self, x1, x2):
        u, v = F.dropout(self.encoder(x1), 0.5), F.dropout(self.encoder(x2), 0.5)
        return self.head(u * v).squeeze(1)


@faulty("train-eval-gap")
def dropout_that_never_ends():
    """Two evaluations of one checkpoint give different scores."""
    return Patient(Forgetful(mlp_encoder(), nn.Linear(16, 1)), *vectors())


class Decides(Siamese):
    def forward(self, x1, x2):
        return (super().forward(x1, x2) > self.limit).float()


@faulty("dead-branch")
def decision_instead_of_a_score():
    """The loss has no gradient, or the loop asks for `requires_grad`."""
    net, pairs = Decides(mlp_encoder(), nn.Linear(16, 1)), vectors()
    net.limit = Siamese.forward(net, pairs.x1, pairs.x2).median().item()
    return Patient(net, *pairs, {"returns": "logits"})


class NoGradient(Siamese):
    @torch.no_grad()
    def forward(self, x1, x2):
        return super().forward(x1, x2)


@faulty("dead-branch")
def no_grad_left_over():
    """A decorator that stood there for an evaluation."""
    return Patient(NoGradient(mlp_encoder(), nn.Linear(16, 1), distance), *vectors())


@faulty("bounded-output")
def sigmoid_of_a_cosine():
    """Probabilities that never leave [0.27, 0.73]."""
    encoder, cosine = mlp_encoder(), nn.CosineSimilarity()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.cosine = encoder, cosine

        def forward(self, x1, x2):
            return self.cosine(self.encoder(x1), self.encoder(x2)).sigmoid()

    return Patient(Net(), *vectors(), {"loss": nn.BCELoss()})


@faulty("bounded-output")
def sigmoid_of_a_negative_distance():
    """p is 0.5 for equal items and less for all others: nothing is ever "the same"."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = mlp_encoder()

        def forward(self, x1, x2):
            return torch.sigmoid(-F.pairwise_distance(self.encoder(x1), self.encoder(x2)))

    return Patient(Net(), *vectors(), {"loss": nn.BCELoss()})


@faulty("additive")
def comparator_behind_an_object():
    """The model is an attribute of a trainer, which is what gets called."""

    class Trainer:
        def __init__(self):
            self.parts = {"model": pf.SiameseComparator(mlp_encoder(), "diff", allow_additive=True)}

        def predict(self, x1, x2):
            return self.parts["model"](x1, x2)

    return Patient(Trainer().predict, *vectors())
