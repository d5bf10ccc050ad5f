"""Models that refuse what most take: swapped sides, a change of mode, other weights."""

import warnings

import pytest
import torch
from torch import nn

import pairfuse as pf

X1, X2 = torch.randn(2, 32, 8, generator=torch.Generator().manual_seed(0))
Y = (torch.arange(32) % 2).float()


class UsersAndItems(nn.Module):
    """Two tables of different sizes, read by numbers that look alike."""

    def __init__(self, additive=False):
        super().__init__()
        self.users, self.items, self.additive = nn.Embedding(1000, 8), nn.Embedding(50, 8), additive

    def forward(self, user, item):
        u, v = self.users(user), self.items(item)
        return (u + v if self.additive else u * v).sum(1)


@pytest.mark.parametrize(("additive", "verdict"), [(False, "ok"), (True, "fail")])
def test_two_tables(additive, verdict):
    """The sides take different kinds of items, since they cannot be swapped."""
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randint(1000, (32,), generator=generator), torch.randint(50, (32,), generator=generator)
    diagnosis = pf.diagnose(UsersAndItems(additive), users, items, Y)
    assert diagnosis["additive"].verdict == verdict
    assert diagnosis.ok is not additive
    assert diagnosis.skipped["asymmetric"] == "the two sides take different kinds of items"


def test_error_of_the_given_pairs():
    """A model that raises for the given pairs too still raises."""
    with pytest.raises(IndexError):
        pf.diagnose(UsersAndItems(), torch.arange(32), torch.arange(32) + 1000, Y)


def encoder():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def exported():
    rows = torch.export.Dim("rows", min=1)
    return torch.export.export(encoder(), (X1,), dynamic_shapes=({0: rows},)).module()


def frozen():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have us compile
        return torch.jit.freeze(torch.jit.script(encoder().eval()))


class Sealed(torch.Tensor):
    """A class of weights that knows only what a linear layer needs, as quantized ones do."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if (name := getattr(func, "__name__", "")) in ("square", "add_", "copy_", "mul"):
            raise NotImplementedError(f"Sealed: {func}")
        if name in ("linear", "matmul", "__rmatmul__", "as_subclass"):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)


def quantized():
    layers = encoder()
    layers[0].weight = nn.Parameter(layers[0].weight.detach().as_subclass(Sealed), requires_grad=False)
    return layers


@pytest.mark.parametrize("make", [exported, frozen, quantized])
@pytest.mark.parametrize(("fusion", "verdict"), [("symmetric", "ok"), ("concat", "fail")])
def test_encoder_that_refuses(make, fusion, verdict):
    """It is diagnosed like any other, and left as it was."""
    model = pf.SiameseComparator(make(), fusion, embedding_dim=4, allow_additive=True)
    before = {name: set(vars(part)) for name, part in model.named_modules()}
    diagnosis = pf.diagnose(lambda a, b: model(a, b), X1, X2, Y) if make is exported else pf.diagnose(model, X1, X2, Y)
    assert diagnosis["additive"].verdict == verdict
    assert not [reason for reason in diagnosis.skipped.values() if reason.startswith("could not run")]
    assert {name: set(vars(part)) for name, part in model.named_modules()} == before


def test_weights_that_cannot_be_redrawn():
    """What holds at the given weights is observed, and not said of others."""
    module = nn.Module()
    module.weight = nn.Parameter(torch.randn(16).as_subclass(Sealed), requires_grad=False)

    def model(a, b):
        return torch.cat([a, b], 1) @ module.weight.as_subclass(torch.Tensor)

    finding = pf.diagnose(model, X1, X2, module=module)["additive"]
    assert (finding.verdict, finding.ground) == ("fail", "observed")
