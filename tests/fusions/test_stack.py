"""Features side by side, and the facts of the whole."""

import pytest
import torch

import pairfuse as pf
from pairfuse.fusions import AbsDiff, Bilinear, Concat, Cosine, Diff, Max, Mean, Min, Product, Stack, Sum
from pairfuse.fusions.registry import as_fusion


class Cubed(pf.Fusion):
    """Antisymmetric, and no sum."""

    symmetry, additive, xnor = "antisymmetric", False, "never"

    def fuse(self, u, v):
        return (u - v) ** 3


class Grows(pf.Fusion):
    """One number that grows with a sum: no sum itself, and no better."""

    symmetry, additive, xnor = "symmetric", False, "never"

    def __init__(self, in_features):
        super().__init__(in_features)
        self.out_features = 1
        self.layer = torch.nn.Linear(in_features, 1)

    def fuse(self, u, v):
        return torch.tanh(self.layer(u) + self.layer(v))


def test_two_that_never_learn_may_learn_together():
    """So that a comparator must not refuse them."""
    stack, a, b = Stack([Grows(2), Grows(2)]), torch.randn(20, 2), torch.randn(20, 2)
    assert (pf.xnor_margin(stack, a, b) > 0).any()
    assert (pf.xnor_margin(stack.fusions[0], a, b) == 0).all()
    pf.SiameseComparator(torch.nn.Linear(3, 2), stack)


def test_features_stand_side_by_side():
    stack = Stack([Product(3), AbsDiff(3), Concat(3)])
    u, v = torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(stack(u, v), torch.cat([u * v, (u - v).abs(), u, v], dim=1))
    assert stack.out_features == 12


@pytest.mark.parametrize(
    ("parts", "symmetry", "additive", "xnor"),
    [
        ([Product(2), AbsDiff(2)], "symmetric", False, "always"),
        ([Product(2), Bilinear(2, symmetric=True)], "symmetric", False, "generic"),
        ([Product(2), Bilinear(2)], "none", False, "generic"),
        ([Concat(2), Concat(2)], "none", True, "never"),
        ([Concat(2), Product(2)], "none", False, "always"),  # neither of them alone
        ([Sum(2), Max(2)], "symmetric", False, "always"),
        ([Mean(2), Bilinear(2)], "none", False, "always"),
        ([Sum(2), Cosine(2)], "symmetric", False, "generic"),
        ([Diff(2), Product(2)], "none", False, "generic"),
        ([Stack([Concat(2), Diff(2)]), Stack([Cosine(2), Min(2)])], "none", False, "always"),
        ([Sum(2), Diff(2)], "none", True, "never"),
        ([Diff(2), Cubed(2)], "antisymmetric", False, "never"),
        ([Sum(2), Cubed(2)], "none", False, "never"),
        ([Grows(2)], "symmetric", False, "never"),
        ([Grows(2), Grows(2)], "symmetric", False, "generic"),  # two that never learn alone
        ([Sum(2), Grows(2)], "symmetric", False, "generic"),
        ([Stack([Product(2)]), AbsDiff(2)], "symmetric", False, "always"),
    ],
)
def test_facts_are_those_of_the_parts(parts, symmetry, additive, xnor):
    stack = Stack(parts)
    assert (stack.symmetry, stack.additive, stack.xnor) == (symmetry, additive, xnor)


def test_declared_symmetry_holds():
    stack = Stack([Product(3), Bilinear(3, 2, symmetric=True), AbsDiff(3)])
    u, v = torch.randn(5, 3), torch.randn(5, 3)
    torch.testing.assert_close(stack(u, v), stack(v, u))


def test_parameters_of_the_parts_are_seen():
    stack = Stack([Bilinear(3), Product(3), Bilinear(3)])
    assert set(dict(stack.named_parameters())) == {"parts.0.weight", "parts.0.bias", "parts.2.weight", "parts.2.bias"}


def test_parts_are_called_not_just_read():
    """Hooks on a part run, and what is wrong with a part is said of the part."""
    stack, calls = Stack([Product(3), AbsDiff(3)]), []
    stack.parts[1].register_forward_hook(lambda *_: calls.append(1))
    stack(torch.zeros(2, 3), torch.zeros(2, 3))
    assert calls == [1]
    stack.parts[0].out_features = 5
    with pytest.raises(ValueError, match=r"the terms of Product\.left and \.right must have shape"):
        stack(torch.zeros(2, 3), torch.zeros(2, 3))


def test_a_stack_of_nothing():
    with pytest.raises(ValueError, match="Stack expects at least one fusion, got none"):
        Stack([])
    with pytest.raises(ValueError, match="Stack expects at least one fusion, got none"):
        pf.SiameseComparator(torch.nn.Linear(2, 2), [])


def test_a_stack_of_one_without_brackets():
    with pytest.raises(TypeError, match=r"Stack expects a list of fusions, got Product\(.*: put it into brackets"):
        Stack(Product(3))


def test_parts_of_different_widths():
    with pytest.raises(ValueError, match=r"parts of one \(in_features, in2_features\), got \[\(2, 2\), \(3, 3\)\]"):
        Stack([Product(2), Product(3)])


@pytest.mark.parametrize("part", ["product", Product, torch.nn.Linear(2, 2)])
def test_parts_are_fusions(part):
    with pytest.raises(TypeError, match="Stack expects fusions, got"):
        Stack([part])


def test_a_fusion_argument_may_be_a_fusion_a_name_or_a_list():
    product = Product(3)
    assert as_fusion(product, 3, 3) is product
    assert isinstance(as_fusion("product", 3, 3), Product)
    stack = as_fusion(["product", product, ["abs-diff"]], 3, 3)
    assert [type(part) for part in stack.fusions] == [Product, Product, Stack]
    for wrong in (Product, None, 3, {"product"}):
        with pytest.raises(
            TypeError, match=r"fusion must be a pairfuse\.Fusion, a registered name, or a list of either"
        ):
            as_fusion(wrong, 3, 3)
