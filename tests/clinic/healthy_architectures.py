"""Models that nothing is wrong with, as they are before any training."""

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody writes it)
from torch import nn

import pairfuse as pf
from clinic.case import (
    VOCABULARY,
    Patient,
    Siamese,
    black_white,
    captioned_images,
    concat,
    conv_encoder,
    distance,
    healthy,
    images,
    mlp_encoder,
    text_encoder,
    texts,
    tokenized_texts,
    vectors,
)


@healthy
def product():
    """Its accuracy is at chance, since it is untrained."""
    return Patient(Siamese(conv_encoder(), nn.Linear(16, 1)), *images())


@healthy
def question_with_product():
    """The founding question's network with the cure: one encoder, a product, the sigmoid in the loss."""
    net = Siamese(conv_encoder(features=32), nn.Linear(32, 1))
    return Patient(lambda x1, x2: net(*torch.stack([x1, x2], 1).unbind(1)), *black_white(), {"module": net})


@healthy
def abs_diff():
    """p(x, x) is the same for every x, as it should be."""
    return Patient(Siamese(mlp_encoder(), nn.Linear(16, 1), distance), *vectors())


@healthy
def comparator():
    """The default of our own library."""
    return Patient(pf.SiameseComparator(mlp_encoder()), *vectors())


@healthy
def concat_relu_mlp():
    """Untrained, this model is nearly additive: 1 to 6 % of its variance is interaction."""
    head = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    return Patient(Siamese(mlp_encoder(), head, concat), *vectors())


@healthy
def concat_gelu_mlp():
    """Smoother, and nearer to additive still: about 0.1 % or less."""
    head = nn.Sequential(nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 1))
    return Patient(Siamese(conv_encoder(), head, concat), *images())


@healthy
def wide_mlp():
    """Five hundred hidden units for 32 pairs: far more than enough."""
    head = nn.Sequential(nn.Linear(32, 512), nn.ReLU(), nn.Linear(512, 1))
    return Patient(Siamese(mlp_encoder(), head, concat), *vectors())


@healthy
def narrow_mlp():
    """Two hidden units suffice for XNOR, but from most starts the training gets stuck: slow, and not impossible."""
    head = nn.Sequential(nn.Linear(32, 2), nn.LeakyReLU(), nn.Linear(2, 1))
    return Patient(Siamese(mlp_encoder(), head, concat), *vectors())


@healthy
def deep_mlp_with_layer_norm():
    """Eight layers between the embeddings and the score."""
    layers = [layer for _ in range(4) for layer in (nn.Linear(32, 32), nn.LayerNorm(32), nn.GELU())]
    return Patient(Siamese(mlp_encoder(), nn.Sequential(*layers, nn.Linear(32, 1)), concat), *vectors())


class CrossAttention(nn.Module):
    """Every token of one text looks at the tokens of the other; there are no two embeddings to look at."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def look(self, a, b):
        return (a * self.attention(a, b, b, need_weights=False)[0]).mean(1)

    def forward(self, a, b):
        a, b = self.norm(self.embedding(a)), self.norm(self.embedding(b))
        return self.head(self.look(a, b) + self.look(b, a)).squeeze(1)


@healthy
def cross_attention():
    """A cross-encoder: no encoder runs on one item alone."""
    return Patient(CrossAttention(), *texts())


class EarlyFusion(nn.Module):
    """Change detection: the two images are the channels of one."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(6, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 1)),
        )

    def forward(self, before, after):
        return self.net(torch.cat([before, after], 1))


@healthy
def early_fusion():
    """A concatenation, and no encoders: but a network follows it."""
    return Patient(EarlyFusion(), *images())


class BradleyTerry(nn.Module):
    def __init__(self):
        super().__init__()
        self.strength = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, home, away):
        return (self.strength(home) - self.strength(away)).squeeze(1)


@healthy
def bradley_terry():
    """Additive on purpose: which of the two is stronger, not whether they are the same."""
    x1, x2 = torch.randn(2, 32, 12)
    y = (x1[:, 0] > x2[:, 0]).float()
    return Patient(BradleyTerry(), x1, x2, y, {"ranking": True})


@healthy
def bfloat16():
    """Rounding alone makes what is additive seem not to be, and equal scores differ."""
    x1, x2, y = vectors()
    return Patient(Siamese(mlp_encoder(), nn.Linear(16, 1)).bfloat16(), x1.bfloat16(), x2.bfloat16(), y)


class ImageText(nn.Module):
    """CLIP in small."""

    def __init__(self):
        super().__init__()
        self.visual = conv_encoder()
        self.textual = text_encoder()
        self.out = nn.Linear(16, 1)

    def forward(self, image, ids):
        return self.out(self.visual(image) * self.textual(ids)).squeeze(1)


@healthy
def image_and_text_towers():
    """Two encoders, since there are two kinds of items; they cannot be swapped."""
    return Patient(ImageText(), *captioned_images())


@healthy
def dropout():
    """No two calls in train mode agree."""
    encoder = nn.Sequential(nn.Dropout(0.1), nn.Linear(12, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 16))
    return Patient(Siamese(encoder, nn.Sequential(nn.Dropout(0.2), nn.Linear(16, 1))), *vectors())


@healthy
def group_norm():
    """Normalized, but each item by itself."""
    encoder = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(200, 16)),
    )
    return Patient(Siamese(encoder, nn.Linear(16, 1), distance), *images(channels=1, size=12))


class JointPass(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = conv_encoder()
        self.head = nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 1))

    def forward(self, x):
        both = self.encoder(x.transpose(0, 1).flatten(0, 1))
        u, v = both.chunk(2)
        return self.head(u * v)[:, 0]


@healthy
def batch_norm_in_one_pass():
    """In train mode every score depends on the whole batch, as batch normalization does."""
    net = JointPass()
    return Patient(lambda x1, x2: net(torch.stack([x1, x2], dim=1)), *images(), {"module": net})


class BilinearScore(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 16), nn.Tanh())
        self.score = nn.Bilinear(16, 16, 1)

    def forward(self, pair):
        return self.score(*(self.encoder(x) for x in pair)).squeeze(-1)


@healthy
def bilinear():
    """Its random matrix is not symmetric, so that the order matters a little."""
    net = BilinearScore()
    return Patient(lambda x1, x2: net((x1, x2)), *vectors(), {"module": net})


class ScaledCosine(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = text_encoder()
        self.log_scale = nn.Parameter(torch.tensor(2.0))
        self.bias = nn.Parameter(torch.tensor(-2.0))

    def forward(self, a, b):
        cosine = F.cosine_similarity(self.encoder(a), self.encoder(b))
        return self.log_scale.exp() * cosine + self.bias


@healthy
def cosine_with_temperature():
    """A cosine, but scaled by a number that learns, and shifted."""
    return Patient(ScaledCosine(), *texts(), {"loss": nn.BCEWithLogitsLoss()})


class NegativeDistance(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()
        self.scale = nn.Parameter(torch.tensor(-2.0))
        self.bias = nn.Parameter(torch.tensor(1.0))

    def forward(self, x1, x2):
        return self.bias + self.scale * (self.encoder(x1) - self.encoder(x2)).square().sum(1)


@healthy
def squared_distance():
    """Its gradient is 0 at two equal items, and its logits have an upper bound: the bias, which learns."""
    return Patient(NegativeDistance(), *vectors())


class ZeroStart(nn.Module):
    """As ReZero: a branch that begins at 0 and grows."""

    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()
        self.linear = nn.Linear(32, 1)
        self.interaction = nn.Linear(16, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x1, x2):
        u, v = self.encoder(x1), self.encoder(x2)
        return (self.linear(torch.cat([u, v], 1)) + self.gamma * self.interaction(u * v)).squeeze(1)


@healthy
def interaction_that_starts_at_zero():
    """Exactly additive at the start, and no longer after one step."""
    return Patient(ZeroStart(), *vectors())


@healthy
def small_inputs():
    """Inputs of the size of 0.001: everything is small, and nothing is wrong."""
    x1, x2, y = vectors()
    encoder = nn.Sequential(nn.Linear(12, 32, bias=False), nn.LeakyReLU(0.1), nn.Linear(32, 16, bias=False))
    return Patient(Siamese(encoder, nn.Linear(16, 1), distance), x1 / 1000, x2 / 1000, y)


@healthy
def large_inputs():
    """Inputs of the size of 1000, normalized by the first layer."""
    x1, x2, y = vectors()
    encoder = nn.Sequential(nn.LayerNorm(12), *mlp_encoder())
    return Patient(Siamese(encoder, nn.Linear(16, 1)), x1 * 1000, x2 * 1000, y)


class TextPair(nn.Module):
    """Takes what a tokenizer gives, as the models of transformers do."""

    def __init__(self):
        super().__init__()
        self.embeddings = nn.Embedding(VOCABULARY, 16, padding_idx=0)
        self.dense = nn.Linear(16, 16)
        self.classifier = nn.Linear(32, 1)

    def encode(self, input_ids, attention_mask):
        mask = attention_mask[..., None].to(self.dense.weight.dtype)
        return torch.tanh(self.dense((self.embeddings(input_ids) * mask).sum(1) / mask.sum(1)))

    def forward(self, left, right):
        u, v = self.encode(**left), self.encode(**right)
        return self.classifier(torch.cat([u * v, torch.abs(u - v)], 1)).squeeze(1)


@healthy
def tokenizer_output():
    """The inputs are dicts of ids and masks, not tensors."""
    return Patient(TextPair(), *tokenized_texts())


class SiameseLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 12)
        self.lstm = nn.LSTM(12, 16, batch_first=True)
        self.fc = nn.Linear(16, 1)

    def forward_once(self, ids):
        output, _ = self.lstm(self.embedding(ids))
        return output[:, -1]

    def forward(self, a, b):
        return self.fc(torch.abs(self.forward_once(a) - self.forward_once(b)))


@healthy
def lstm_abs_diff():
    """Recurrent, on token ids, through which no gradient flows to the input."""
    return Patient(SiameseLSTM(), *texts())


class StopGradient(nn.Module):
    """As SimSiam: each side is detached once, and learns through the other term."""

    def __init__(self):
        super().__init__()
        self.encoder = mlp_encoder()
        self.predictor = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 16))
        self.scale = nn.Linear(1, 1)
        nn.init.constant_(self.scale.weight, 4.0)

    def forward(self, x1, x2):
        z1, z2 = self.encoder(x1), self.encoder(x2)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        cosine = F.cosine_similarity(p1, z2.detach()) + F.cosine_similarity(p2, z1.detach())
        return self.scale(cosine[:, None] / 2)


@healthy
def stop_gradient_on_both_sides():
    """Two `.detach()`s, on purpose."""
    return Patient(StopGradient(), *vectors())
