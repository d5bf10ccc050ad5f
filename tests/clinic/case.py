"""A case of the clinic, and the parts of the cases: small data, small encoders, a short training."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import pairfuse as pf


@dataclass
class Patient:
    """The arguments of a diagnosis: call `pf.diagnose(model, x1, x2, y, **options)`."""

    model: Callable[..., Any]
    x1: Any
    x2: Any
    y: Tensor | None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A model to be examined, and the id of the one fault planted in it: None if it is healthy."""

    name: str
    build: Callable[[int], Patient]  # its docstring: what the owner sees, or why a healthy model may be suspected
    finding: str | None


def faulty(finding: str) -> Callable[[Callable[[], Patient]], Case]:
    """Make the decorated function a case with a planted fault."""
    return lambda build: Case(build.__name__, _seeded(build), finding)


def healthy(build: Callable[[], Patient]) -> Case:
    """Make the decorated function a case without a fault."""
    return Case(build.__name__, _seeded(build), None)


def _seeded(build: Callable[[], Patient]) -> Callable[[int], Patient]:
    """The same patient for the same seed, and the global random state as it was."""

    @functools.wraps(build)
    def build_from(seed: int) -> Patient:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build()

    return build_from


class Pairs(NamedTuple):
    """A batch of pairs and its targets, so that `Patient(model, *pairs)` reads well."""

    x1: Any
    x2: Any
    y: Tensor


class _Kinds(NamedTuple):
    left: Tensor
    right: Tensor
    y: Tensor


def _kinds(pairs: int, classes: int) -> _Kinds:
    """The classes of the two items of every pair; half of the pairs are of one class."""
    same = torch.arange(pairs)[torch.randperm(pairs)] < pairs // 2
    left = torch.randint(classes, (pairs,))
    other = (left + torch.randint(1, classes, (pairs,))) % classes
    return _Kinds(left, left.where(same, other), same.float())


def _noisy(centers: Tensor, kinds: Tensor, noise: float) -> Tensor:
    items = centers[kinds]
    return items + noise * torch.randn_like(items)


def vectors(pairs: int = 32, width: int = 12, classes: int = 4, noise: float = 0.3) -> Pairs:
    """Feature vectors `(B, width)` around the centers of a few classes: of one class or not?"""
    left, right, y = _kinds(pairs, classes)
    centers = torch.randn(classes, width)
    return Pairs(_noisy(centers, left, noise), _noisy(centers, right, noise), y)


def images(pairs: int = 32, channels: int = 3, size: int = 8, classes: int = 4) -> Pairs:
    """Normalized images `(B, channels, size, size)`: a template for each class, and noise."""
    left, right, y = _kinds(pairs, classes)
    templates = torch.randn(classes, channels, size, size)
    return Pairs(_noisy(templates, left, 0.3), _noisy(templates, right, 0.3), y)


def black_white(repeats: int = 8) -> Pairs:
    """The four pairs of a black and a white image, several times over."""
    table = pf.data.BlackWhitePairs(size=8).truth_table()
    return Pairs(*(part.repeat(repeats, *[1] * (part.ndim - 1)) for part in table))


VOCABULARY = 33  # 0 pads; each of four topics has eight words


def _words(kinds: Tensor, length: int = 8) -> Tensor:
    """Token ids `(B, length)`: most words are of the text's topic, one in five is any word."""
    shape = (len(kinds), length)
    own = 1 + 8 * kinds[:, None] + torch.randint(8, shape)
    return own.where(torch.rand(shape) > 0.2, torch.randint(1, VOCABULARY, shape))


def texts(pairs: int = 32) -> Pairs:
    """Token ids: of one topic or not?"""
    left, right, y = _kinds(pairs, 4)
    return Pairs(_words(left), _words(right), y)


def tokenized_texts(pairs: int = 32) -> Pairs:
    """The same as a tokenizer gives them: ids and a mask, padded to one length."""

    def padded(ids: Tensor) -> dict[str, Tensor]:
        mask = (torch.arange(ids.shape[1]) < torch.randint(4, ids.shape[1] + 1, (len(ids), 1))).long()
        return {"input_ids": ids * mask, "attention_mask": mask}

    x1, x2, y = texts(pairs)
    return Pairs(padded(x1), padded(x2), y)


def captioned_images(pairs: int = 32) -> Pairs:
    """An image and a text: does the caption fit? The two inputs are of different kinds."""
    left, right, y = _kinds(pairs, 4)
    return Pairs(_noisy(torch.randn(4, 3, 8, 8), left, 0.3), _words(right), y)


def sorted_vectors(pairs: int = 32, width: int = 12) -> Pairs:
    """Two classes; of two different items the one of class 0 always stands on the left."""
    left = torch.tensor([0, 0, 0, 1]).repeat(pairs // 4)
    right = torch.tensor([0, 1, 1, 1]).repeat(pairs // 4)
    centers = torch.randn(2, width)
    return Pairs(_noisy(centers, left, 0.3), _noisy(centers, right, 0.3), (left == right).float())


def mlp_encoder(width: int = 12, features: int = 16) -> nn.Sequential:
    """Vectors `(B, width)` to embeddings `(B, features)`."""
    return nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, features))


def conv_encoder(channels: int = 3, features: int = 16) -> nn.Sequential:
    """Images `(B, channels, 8, 8)` to embeddings `(B, features)`, with batch normalization."""
    return nn.Sequential(
        *(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(16 * 4 * 4, features)),
    )


def text_encoder(features: int = 16) -> nn.Sequential:
    """Token ids `(B, T)` to embeddings `(B, features)`: a bag of words."""
    return nn.Sequential(nn.EmbeddingBag(VOCABULARY, 16), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, features))


class Siamese(nn.Module):
    """One encoder for both items, a fuse, a head: what most people write, and many of the patients are."""

    def __init__(self, encoder: nn.Module, head: nn.Module, fuse: Callable[[Tensor, Tensor], Tensor] = torch.mul):
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.fuse = fuse

    def forward(self, x1: Any, x2: Any) -> Tensor:
        return self.head(self.fuse(self.encoder(x1), self.encoder(x2))).squeeze(-1)


def concat(u: Tensor, v: Tensor) -> Tensor:
    """[u; v]."""
    return torch.cat([u, v], dim=1)


def distance(u: Tensor, v: Tensor) -> Tensor:
    """|u − v|, element by element."""
    return (u - v).abs()


def distance_net(bias: float = 0.0) -> Siamese:
    """|u − v| of vectors and a linear layer; a positive bias lets equal items be the same from the start."""
    net = Siamese(mlp_encoder(), nn.Linear(16, 1), distance)
    nn.init.constant_(net.head.bias, bias)
    return net


def train(
    model: nn.Module,
    pairs: Pairs | Patient,
    steps: int = 100,
    lr: float = 1e-2,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.binary_cross_entropy_with_logits,
) -> None:
    """Train with Adam on the whole batch, in whichever mode the model is; leave no gradients behind."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(pairs.x1, pairs.x2).flatten(), pairs.y).backward()
        optimizer.step()
    optimizer.zero_grad()
