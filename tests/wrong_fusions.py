"""For every law of the conformance suite, fusions that break it and little else."""

import torch
from torch import nn
from wrong_terms import TermsInFloat64, TermsOfOneRow, TermsWithoutGradient, WrongTerms

import pairfuse as pf


class Declared(pf.Fusion):
    symmetry, additive, xnor = "symmetric", False, "generic"


class Good(Declared):
    """What the others spoil."""

    def fuse(self, u, v):
        return u * v


class NotSymmetric(Declared):
    def fuse(self, u, v):
        return u * v + v


class NotAntisymmetric(Declared):
    symmetry, xnor = "antisymmetric", "never"

    def fuse(self, u, v):
        return u - v + u * v


class SymmetricAfterAll(Good):
    symmetry = "none"


class NotAdditive(Good):
    additive, xnor = True, "never"


class AdditiveAfterAll(Declared):
    def fuse(self, u, v):
        return u + v


class NotAlways(Good):
    xnor = "always"


class NotNever(Good):
    xnor = "never"


class NotGeneric(Declared):
    """One number that grows with a sum: no sum itself, and no better."""

    def __init__(self, in_features):
        super().__init__(in_features)
        self.out_features = 1

    def fuse(self, u, v):
        return (u + v).sum(-1, keepdim=True).tanh()


class NeverLearns(Declared):
    """Weights that do not help: a bilinear form cannot tell collinear embeddings apart."""

    symmetry, xnor = "none", "always"

    def __init__(self, in_features):
        super().__init__(in_features)
        self.out_features = 1
        self.weight = nn.Parameter(torch.randn(in_features, in_features))

    def fuse(self, u, v):
        return ((u @ self.weight) * v).sum(-1, keepdim=True)


class LittleWithSum(Declared):
    """Always, by declaration; but cosine does not tell collinear embeddings apart, with or without their sum."""

    xnor_with_sum = "always"

    def __init__(self, in_features):
        super().__init__(in_features)
        self.out_features = 1

    def fuse(self, u, v):
        return nn.functional.cosine_similarity(u, v, dim=-1)[..., None]


class ReadsNoSum(Good):
    spans_sum = True


class WrongContrast(Good):
    feature_means = (0.0, 1.0)


class ClaimsTranslation(Good):
    translation_invariant = True


class LooseWeight(Declared):
    def __init__(self, in_features):
        super().__init__(in_features)
        self.weights = [nn.Parameter(torch.randn(in_features))]

    def fuse(self, u, v):
        return u * v * self.weights[0].to(u)


class LooseLayer(Declared):
    def __init__(self, in_features):
        super().__init__(in_features)
        self.layers = {"mix": nn.Linear(in_features, in_features)}

    def fuse(self, u, v):
        return self.layers["mix"].to(u.dtype)(u * v)


class UnregisteredBuffer(Declared):
    def __init__(self, in_features):
        super().__init__(in_features)
        self.scale = torch.arange(1.0, in_features + 1)

    def fuse(self, u, v):
        return u * v * self.scale.to(u.dtype)


class HiddenWeight(Declared):
    """In a closure, where no attribute shows it."""

    def __init__(self, in_features):
        super().__init__(in_features)
        weight = torch.rand(in_features) + 1
        self.weigh = lambda x: x * weight.to(x.dtype)

    def fuse(self, u, v):
        return self.weigh(u * v)


class RootOfSquares(Declared):
    xnor = "always"

    def __init__(self, in_features):
        super().__init__(in_features)
        self.out_features = 1

    def fuse(self, u, v):
        return (u - v).square().sum(-1, keepdim=True).sqrt()


class InPlace(Declared):
    def fuse(self, u, v):
        return u.detach().mul_(v) if not u.requires_grad else u * v


class ZeroByZero(Declared):
    """The χ² distance, without care for two zeros."""

    xnor = "always"

    def fuse(self, u, v):
        return (u - v) ** 2 / (u.abs() + v.abs())


class CentersTheBatch(Declared):
    def fuse(self, u, v):
        return (u - u.mean(0)) * (v - v.mean(0)) if u.ndim == 2 and len(u) else u * v


class GuessesTheAxis(Declared):
    """Takes for the features whichever axis has their size."""

    def fuse(self, u, v):
        axis = u.shape.index(self.in_features)
        return u.softmax(axis) * v.softmax(axis)


class Flattens(Declared):
    def fuse(self, u, v):
        return (u * v).reshape(-1, self.in_features)


class HiddenRandomness(Declared):
    def fuse(self, u, v):
        return u * v + torch.rand_like(u)


class ChangesDtype(Declared):
    def fuse(self, u, v):
        return u.float() * v.float()


class Imprecise(Declared):
    """Right in name: in float32 the features have the dtype, but not its precision."""

    def fuse(self, u, v):
        return (u.bfloat16() * v.bfloat16()).to(u.dtype) if u.dtype == torch.float32 else u * v


class KeepsTheLast(Declared):
    """A tensor that appears at the first call."""

    def fuse(self, u, v):
        self.last = u.detach()
        return u * v


class OfTheClass(Declared):
    scale = torch.tensor([2.0])

    def fuse(self, u, v):
        return u * v * self.scale.to(u.dtype)


class RunningSum(Declared):
    """Every row but the first depends on others."""

    def fuse(self, u, v):
        return u * v + u.cumsum(0) * v.cumsum(0) if u.ndim == 2 else u * v * 2


class ManyRows(Declared):
    def fuse(self, u, v):
        return u * v * (2 if u.ndim == 2 and len(u) > 16 else 1)


class TakesNoSecondWidth(Good):
    two_widths = True

    def __init__(self, in_features):
        super().__init__(in_features)


class SaysOtherwise(Good):
    def __init__(self, in_features):
        super().__init__(in_features)
        self.symmetry = "skew"


class ForgetsItsWidth(Declared):
    def fuse(self, u, v):
        return torch.cat([u * v, u * v], -1)


class MadeOnTheCPU(Declared):
    def fuse(self, u, v):
        return u * v * torch.ones(self.in_features, dtype=u.dtype)


class WrongForAllPairs(Declared):
    def score_all(self, u, v, weight):
        return super().score_all(u, v, weight) + (0 if u.requires_grad else 1)

    def fuse(self, u, v):
        return u * v


class NeedsContiguous(Declared):
    def fuse(self, u, v):
        return (u.view(-1) * v.view(-1)).view(u.shape)


class InPlaceWhenTraining(Declared):
    def fuse(self, u, v):
        return u.detach().mul_(v) if self.training and not u.requires_grad else u * v


class OnlySums(Declared):
    """Tells apart what differs in its sum; not permuted coordinates."""

    xnor = "always"

    def __init__(self, in_features):
        super().__init__(in_features)
        self.out_features = 1

    def fuse(self, u, v):
        return (u - v).sum(-1, keepdim=True).abs()


class TwoZeroFactors(Declared):
    symmetry, xnor = "none", "always"

    def __init__(self, in_features):
        super().__init__(in_features)
        self.left, self.right = (nn.Linear(in_features, 3) for _ in range(2))
        self.out_features = 3
        for layer in (self.left, self.right):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def fuse(self, u, v):
        return self.left(u) * self.right(v)


class UnusedWeight(Good):
    def __init__(self, in_features):
        super().__init__(in_features)
        self.weight = nn.Parameter(torch.randn(3))


class WrongGradient(Declared):
    class Times(torch.autograd.Function):
        @staticmethod
        def forward(ctx, u, v):
            ctx.save_for_backward(u, v)
            return u * v

        @staticmethod
        def backward(ctx, grad):
            u, v = ctx.saved_tensors
            return grad * v, grad * u * 2

    def fuse(self, u, v):
        return self.Times.apply(u, v)


class Broadcasts(Declared):
    def forward(self, u, v):
        return u * v


class BreaksTheGraph(Declared):
    def fuse(self, u, v):
        return u * v if u.sum().item() != 1e9 else u


class OneWidthOnly(Good):
    two_widths = True

    def __init__(self, in_features, *, in2_features=None):
        super().__init__(in_features, in2_features=in2_features)
        if in2_features not in (None, in_features):
            raise ValueError("one width, please")


class Undeclared(pf.Fusion):
    symmetry, additive = "symmetric", False


class Contradictory(Good):
    def __init__(self, in_features):
        super().__init__(in_features)
        self.additive = True


PLANTED = {
    "declaration": [Undeclared, Contradictory, SaysOtherwise, ForgetsItsWidth],
    "leaves_inputs": [InPlace, InPlaceWhenTraining],
    "deterministic": [HiddenRandomness],
    "shapes": [GuessesTheAxis, Flattens, NeedsContiguous],
    "two_widths": [OneWidthOnly, TakesNoSecondWidth],
    "refuses_what_does_not_fit": [Broadcasts],
    "finite": [ZeroByZero],
    "rows": [CentersTheBatch, RunningSum],
    "large_batches": [ManyRows],
    "dtype": [ChangesDtype, Imprecise],
    "symmetry": [NotSymmetric, NotAntisymmetric, SymmetricAfterAll],
    "additivity": [NotAdditive, AdditiveAfterAll],
    "xnor": [NotAlways, NotNever, NotGeneric, NeverLearns, OnlySums],
    "xnor_with_sum": [LittleWithSum],
    "spans_sum": [ReadsNoSum],
    "feature_means": [WrongContrast],
    "translation": [ClaimsTranslation],
    "terms": [WrongTerms, TermsOfOneRow, TermsWithoutGradient, TermsInFloat64],
    "all_pairs": [WrongForAllPairs],
    "gradients": [WrongGradient],
    "gradient_at_equal": [RootOfSquares],
    "trains": [TwoZeroFactors, UnusedWeight],
    "state": [LooseWeight, LooseLayer, UnregisteredBuffer, HiddenWeight, KeepsTheLast, OfTheClass],
    "device": [MadeOnTheCPU],
    "compiles": [BreaksTheGraph],
}
