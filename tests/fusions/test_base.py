"""The contract: what a fusion must declare, and what it says of input that does not fit."""

import re

import numpy as np
import pytest
import torch

import pairfuse as pf


def declare(**facts):
    return type("Mine", (pf.Fusion,), {"fuse": lambda self, u, v: u * v, **facts})


FACTS = {"symmetry": "symmetric", "additive": False, "xnor": "generic"}


def test_fuse_must_be_written():
    class Mine(pf.Fusion):
        symmetry, additive, xnor = "symmetric", False, "generic"

    with pytest.raises(NotImplementedError, match=r"Mine must define fuse\(self, u, v\)"):
        Mine(3)(torch.zeros(1, 3), torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("u", "v"),
    [
        ((2, 3), (2, 4)),
        ((2, 4), (2, 3)),
        ((2, 4), (3, 4)),
        ((4,), (1, 4)),
        ((5, 4), (5, 1)),
        ((50,), (50, 1)),
        ((), ()),
    ],
)
def test_shapes_that_do_not_fit(u, v):
    """Nothing is broadcast in silence; both shapes are shown."""

    message = re.escape(
        f"u of shape (..., 4) and v of shape (..., 4) with the same leading dimensions, got u of shape {u}"
    )
    with pytest.raises(ValueError, match=f"Product expects {message} and v of shape {re.escape(str(v))}"):
        pf.fusions.Product(4)(torch.zeros(u), torch.zeros(v))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_embeddings_must_be_floats(dtype):
    """|u − v| of uint8 would wrap around."""
    with pytest.raises(TypeError, match=f"AbsDiff expects floating-point embeddings, got u of dtype {dtype}"):
        pf.fusions.AbsDiff(2)(torch.zeros(2, dtype=dtype), torch.zeros(2, dtype=dtype))


def test_out_features_must_be_true():
    class Both(pf.Fusion):
        symmetry, additive, xnor = "none", True, "never"

        def fuse(self, u, v):
            return torch.cat([u, v], -1)

    message = "Both has out_features=3, so its fuse must return shape (2, 3), got shape (2, 6): keep the leading"
    with pytest.raises(ValueError, match=re.escape(message)):
        Both(3)(torch.zeros(2, 3), torch.zeros(2, 3))


@pytest.mark.parametrize("fuse", [lambda u, v: (u * v).sum(0), lambda u, v: (u * v).sum(), lambda u, v: (u, v)])
def test_fuse_keeps_the_rows(fuse):
    """A sum over the batch would give one logit for all pairs."""
    mine = type("Mine", (pf.Fusion,), {"fuse": lambda self, u, v: fuse(u, v), **FACTS})
    with pytest.raises(ValueError, match=r"Mine has out_features=3, so its fuse must return shape \(2, 3\), got"):
        mine(3)(torch.zeros(2, 3), torch.zeros(2, 3))


def test_numpy_integers_are_integers():
    assert pf.fusions.Product(np.int64(3)).in_features == 3


@pytest.mark.parametrize("name", ["product", "abs-diff"])
def test_one_width_where_the_formula_needs_one(name):
    with pytest.raises(ValueError, match="expects embeddings of one width, got in_features=3 and in2_features=2"):
        pf.make_fusion(name, 3, in2_features=2)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_widths_are_positive_integers(value, error):
    with pytest.raises(error, match="Product expects in_features to be"):
        pf.fusions.Product(value)


def test_two_widths():
    """Where the formula allows it, the two sides may differ."""
    u, v = torch.randn(4, 3), torch.randn(4, 2)
    concat, bilinear = pf.fusions.Concat(3, in2_features=2), pf.fusions.Bilinear(3, 5, in2_features=2)
    assert torch.equal(concat(u, v), torch.cat([u, v], 1))
    expected = torch.nn.functional.bilinear(u, v, bilinear.weight, bilinear.bias)
    torch.testing.assert_close(bilinear(u, v), expected)
    assert repr(concat) == "Concat(in_features=3, in2_features=2, out_features=5)"


@pytest.mark.parametrize("left", [lambda u: 3, lambda u: (), lambda u: (u, u), lambda u: (None,)])
def test_terms_that_do_not_match_are_refused(left):
    """Both sides return as many terms, and no product may be empty."""

    class Wrong(pf.fusions.Separable):
        symmetry, xnor = "symmetric", "generic"

        def left(self, u):
            return left(u)

        def right(self, v):
            return (None,) if left(v) == (None,) else (v,)

    with pytest.raises(ValueError, match=r"Wrong.left and .right must return as many terms each"):
        Wrong(4)(torch.randn(2, 4), torch.randn(2, 4))


@pytest.mark.parametrize(("method", "argument"), [("left", "u"), ("right", "v")])
def test_a_term_that_is_not_in_a_tuple(method, argument):
    terms = {"left": lambda self, u: (u,), "right": lambda self, v: (v,)}
    terms[method] = lambda self, x: x
    fusion = type("Bare", (pf.fusions.Separable,), {"symmetry": "symmetric", "xnor": "generic", **terms})
    words = rf"Bare: {method} must return a tuple of tensors, got a Tensor: write `return \({argument},\)`"
    for call in (lambda: fusion(4).additive, lambda: fusion(4)(torch.randn(2, 4), torch.randn(2, 4))):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize(
    ("term", "words"),
    [
        (lambda x: torch.stack([x, -x], -1), ": if each feature is a sum over the last dimension, set summed = True"),
        (lambda x: x[..., :3], ": set self.out_features = 3 in __init__; or, if each feature is a sum over the last"),
    ],
)
def test_terms_that_would_fit_a_sum(term, words):
    """The error names `summed`, for one pair after the other and for all pairs."""

    class Wrong(pf.fusions.Separable):
        symmetry, xnor = "symmetric", "generic"

        def left(self, u):
            return (term(u),)

        def right(self, v):
            return (term(v),)

    for width in (4, 2) if term(torch.zeros(2)).ndim == 2 else (4,):  # 2: as many features as terms of a sum
        model, x = pf.SiameseComparator(torch.nn.Identity(), Wrong(width), embedding_dim=width), torch.randn(2, width)
        for call in (model, model.score_embeddings):
            with pytest.raises(ValueError, match=words):
                call(x, x)


@pytest.mark.parametrize("term", [lambda u: u[:, :2], lambda u: u[0], lambda u: u[None]])
def test_terms_of_another_shape_are_refused(term):
    class Wrong(pf.fusions.Separable):
        symmetry, additive, xnor = "symmetric", False, "generic"

        def left(self, u):
            return (term(u),)

        def right(self, v):
            return (v,)

    words = r"terms of Wrong.left and .right must have shape \(2, 4\) for 2 items, got"
    model = pf.SiameseComparator(torch.nn.Identity(), Wrong(4), embedding_dim=4)
    with pytest.raises(ValueError, match=words):
        model.score_embeddings(torch.randn(2, 4), torch.randn(3, 4))


def test_a_sum_for_all_features_is_one_feature():
    """With terms of shape (..., R) alone, all features would be equal: `fuse` and all pairs refuse more than one."""

    class Sums(pf.fusions.Separable):
        symmetry, xnor, summed = "symmetric", "generic", True

        def left(self, u):
            return (u,)

        def right(self, v):
            return (v,)

    model, x = pf.SiameseComparator(torch.nn.Identity(), Sums(4), embedding_dim=4), torch.randn(2, 4)
    for call in (model, model.score_embeddings, lambda u, v: model.inner_product_form().to_query(u)):
        with pytest.raises(ValueError, match=r"Sums has out_features=4, .* set self.out_features"):
            call(x, x)


def test_the_algebra_of_a_parent_is_not_used_for_another_fuse():
    """A mix-in or a subclass that overrides `fuse` alone is scored by its own `fuse`, whatever the order of bases."""

    class Doubling:
        def fuse(self, u, v):
            return 2 * super().fuse(u, v)

    class Mixed(Doubling, pf.fusions.Product):
        symmetry, additive, xnor = "symmetric", False, "generic"

    class Derived(pf.fusions.SquaredDiff):
        symmetry, additive, xnor = "symmetric", False, "always"

        def fuse(self, u, v):
            return 2 * super().fuse(u, v)

    class NewTerms(pf.fusions.SquaredDiff):  # without a fuse of its own: it follows from the terms
        symmetry, additive, xnor = "none", False, "generic"

        def left(self, u):
            return u, None

        def right(self, v):
            return v, v

    u, v = torch.randn(3, 4), torch.randn(5, 4)
    for fusion, fast in ((Mixed(4), False), (Derived(4), False), (NewTerms(4), True)):
        model = pf.SiameseComparator(torch.nn.Identity(), fusion, embedding_dim=4)
        assert fusion.fast_path == fast
        for i in range(5):
            expected = model(u, v[i].expand(3, -1))
            torch.testing.assert_close(model.score_embeddings(u, v)[:, i], expected)


class Doubling:
    def fuse(self, u, v):
        return 2 * super().fuse(u, v)


def overriding(*bases, method="fuse", **facts):
    """A class that overrides one method, and declares these facts."""

    def other(self, u, v):
        return getattr(super(cls, self), method)(u, v)

    cls = type("Mine", bases, {method: other, **facts})
    return cls


INHERITED = {
    "fuse": lambda: overriding(pf.fusions.Product)(3),
    "forward": lambda: overriding(pf.fusions.AbsDiff, method="forward")(3),
    "call": lambda: overriding(pf.fusions.Product, method="__call__")(3),
    "mixin": lambda: type("Mine", (Doubling, pf.fusions.Product), {})(3),
    "terms": lambda: type("Mine", (pf.fusions.SquaredDiff,), {"left": lambda self, u: (u, u, None)})(3),
    "option": lambda: overriding(pf.fusions.Bilinear)(3),
    "grandchild": lambda: type("Mine", (overriding(pf.fusions.Product),), {})(3),
    "stack": lambda: overriding(pf.fusions.Stack)([pf.fusions.Product(3)]),
    "preset": lambda: overriding(pf.fusions.InferSent)(3),
    "symmetrized": lambda: overriding(pf.fusions.Symmetrized)(pf.fusions.NTN(3)),
    "normalized": lambda: overriding(pf.fusions.PowerNormalized)(pf.fusions.NTN(3)),
}


@pytest.mark.parametrize("build", INHERITED.values(), ids=INHERITED)
def test_facts_of_a_parent_are_not_believed_of_another_fuse(build):
    """Else `xnor` or symmetry would be promised of a function that nobody declared it of."""
    with pytest.raises(TypeError, match=r"Mine must declare `symmetry` .* in the class body that defines fuse"):
        build()


@pytest.mark.parametrize("fact", ["symmetry", "additive", "xnor"])
def test_each_fact_is_declared_for_the_new_fuse(fact):
    facts = {name: value for name, value in FACTS.items() if name != fact}
    with pytest.raises(TypeError, match=f"Mine must declare `{fact}`"):
        overriding(pf.fusions.Product, **facts)(3)


def test_additive_does_not_follow_from_the_terms_of_a_parent():
    class Terms(pf.fusions.Separable):
        symmetry, xnor = "none", "never"

        def left(self, u):
            return (u,)

        def right(self, v):
            return (None,)

    assert Terms(3).additive
    with pytest.raises(TypeError, match="Mine must declare `additive`"):
        overriding(Terms, symmetry="none", xnor="generic")(3)


def test_facts_that_are_declared_for_the_new_fuse_hold():
    """Optional ones that are not have their default, also those that an instance of the parent computes."""
    mine = overriding(pf.fusions.AbsDiff, **FACTS)(3)
    assert (mine.translation_invariant, mine.all_feature_means()) == (False, [(0.0, 0.0)] * 3)
    product = overriding(pf.fusions.Product, **FACTS)(3)
    assert product.xnor_with_sum is None
    facts = {"symmetry": "none", "additive": True, "xnor": "never"}
    for fusion in (
        overriding(pf.fusions.Stack, **facts)([pf.fusions.Product(3), pf.fusions.Sum(3)]),
        overriding(pf.fusions.Symmetrized, **facts)(pf.fusions.Product(3)),
        overriding(pf.fusions.Bilinear, **facts)(3),
    ):
        found = fusion.facts()
        assert (found.symmetry, found.additive, found.xnor) == ("none", True, "never")
        assert (fusion._balanced, fusion.spans_sum) == (True, False)
        assert set(fusion.all_feature_means()) == {(0.0, 0.0)}


def test_an_abstract_class_may_declare_for_its_children():
    """It has no `fuse` for which it could have declared the facts instead."""
    abstract = type("Abstract", (pf.Fusion,), FACTS)
    child = type("Child", (abstract,), {"fuse": lambda self, u, v: u * v})
    assert child(3).facts().xnor == "generic"
    terms = {"left": lambda self, u: (u,), "right": lambda self, v: (v,)}
    separable = type("Abstract", (pf.fusions.Separable,), {"symmetry": "symmetric", "xnor": "generic"})
    assert type("Child", (separable,), terms)(3).facts().fast_path
