"""A small image encoder, and a count of its calls."""

from torch import nn


def convnet(width: int = 4) -> nn.Module:
    """An image encoder with batch statistics."""
    layers = (
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, width),
    )
    return nn.Sequential(*layers)


def count_calls(module: nn.Module) -> list[tuple[int, ...]]:
    """The shapes with which a module is called from now on."""
    calls: list[tuple[int, ...]] = []
    module.register_forward_pre_hook(lambda _, inputs: calls.append(tuple(inputs[0].shape)))
    return calls
