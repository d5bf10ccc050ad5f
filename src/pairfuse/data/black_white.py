"""Black/white pairs: the smallest data set that an additive model cannot learn."""

import operator
import random
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pairfuse._checks import check_int, unknown_name

Target = Literal["same", "zero", "first-is-black", "second-is-black"]


class Pairs(NamedTuple):
    """A batch of pairs: images `x1` and `x2` of shape `(B, C, H, W)`, and the target `y` of shape `(B,)`."""

    x1: Tensor
    x2: Tensor
    y: Tensor


class BlackWhitePairs(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Pairs of images that are entirely black (0.0) or white (1.0), for sanity checks.

    Each image is black or white with probability ½, independently. Item i depends only on `(seed, i)` and has its
    own generator. The global random state is neither read nor changed, and DataLoader workers agree.

    Args:
        length: Number of pairs, at least 0.
        size: Height and width of an image in pixels.
        channels: Number of channels of an image.
        seed: Data sets with the same seed hold the same pairs.
        target: The meaning of `y`. `"same"`: 1.0 if both images have the same color, else 0.0. No sum
            `g(x1) + h(x2)` can learn it. The other three are controls that such a sum learns easily: `"zero"` (always
            0.0), `"first-is-black"` and `"second-is-black"`.
        transform: Called on each image, a float32 tensor `(C, H, W)` in [0, 1], such as a transform of
            `torchvision.transforms.v2`. The seed does not control its randomness.

    Shape:
        - Item: `(x1, x2, y)` of shapes `(C, H, W)`, `(C, H, W)`, `()`, all float32

    Raises:
        IndexError: The index is outside `[-length, length)`.
        TypeError: A number is not an int.
        ValueError: `length` is negative, `size` or `channels` is below 1, or the target is unknown.

    Examples:
        >>> import pairfuse as pf
        >>> pairs = pf.data.BlackWhitePairs(length=3, size=2, channels=1)
        >>> x1, x2, y = pairs[0]
        >>> x1.shape, y.item() == float(x1.equal(x2))
        (torch.Size([1, 2, 2]), True)
    """

    def __init__(
        self,
        length: int = 100,
        size: int = 128,
        channels: int = 3,
        seed: int = 0,
        target: Target = "same",
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if target not in get_args(Target):
            raise unknown_name("target", target, get_args(Target))
        self.length = check_int("BlackWhitePairs", "length", length, least=0)
        self.size = check_int("BlackWhitePairs", "size", size)
        self.channels = check_int("BlackWhitePairs", "channels", channels)
        self.seed = check_int("BlackWhitePairs", "seed", seed, least=None)
        self.target = target
        self.transform = transform

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        index = operator.index(index)
        if not -self.length <= index < self.length:
            raise IndexError(f"BlackWhitePairs has {self.length} pairs, got index {index}")
        # A string seed is hashed, so neighboring items and seeds are unrelated.
        bits = random.Random(f"{self.seed}/{index % self.length}").getrandbits(2)
        return self._pair(bits >> 1, bits & 1)

    def truth_table(self) -> Pairs:
        """Return the pairs (black, black), (black, white), (white, black) and (white, white) as one batch.

        Returns:
            `(x1, x2, y)` of shapes `(4, C, H, W)`, `(4, C, H, W)`, `(4,)`; the transform is applied.

        Examples:
            >>> import pairfuse as pf
            >>> pf.data.BlackWhitePairs(size=8).truth_table().y
            tensor([1., 0., 0., 1.])
        """
        x1, x2, y = zip(*(self._pair(left, right) for left in (0, 1) for right in (0, 1)), strict=True)
        return Pairs(torch.stack(x1), torch.stack(x2), torch.stack(y))

    def _pair(self, left: int, right: int) -> tuple[Tensor, Tensor, Tensor]:
        y = {
            "same": left == right,
            "zero": False,
            "first-is-black": left == 0,
            "second-is-black": right == 0,
        }[self.target]
        return self._image(left), self._image(right), torch.tensor(float(y))

    def _image(self, value: int) -> Tensor:
        image = torch.full((self.channels, self.size, self.size), float(value))
        return image if self.transform is None else self.transform(image)

    def __repr__(self) -> str:
        return (
            f"BlackWhitePairs(length={self.length}, size={self.size}, channels={self.channels}, "
            f"seed={self.seed}, target={self.target!r}, transform={self.transform!r})"
        )
