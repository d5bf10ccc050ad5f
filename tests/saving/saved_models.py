"""Models of every kind, for the tests of saving: each is built the same in every process."""

import sys
from pathlib import Path

import torch
from oracles import ORACLES
from scoring_cases import FUSIONS, HEADS
from torch import nn

import pairfuse as pf
from pairfuse.decisions import Decision, Estimate, Isotonic, Platt
from pairfuse.scoring import InnerProductForm

WIDTH = 4
PLATT = Platt(1.25, -0.3)
ISOTONIC = Isotonic((-1.0, 0.1, 2.0), (-2.5, 0.0, 3.1))


class OwnEncoder(nn.Module):
    """An encoder of a user's own, with a tied weight, a buffer that is not saved, and one that is None."""

    embedding_dim = WIDTH
    item_ndim = 1

    def __init__(self, hidden=3):
        super().__init__()
        self.into, self.out = nn.Linear(WIDTH, hidden), nn.Linear(hidden, WIDTH)
        self.again = nn.Linear(WIDTH, hidden)
        self.again.weight = self.into.weight
        self.register_buffer("scale", torch.tensor(0.5), persistent=False)
        self.register_buffer("nothing", None)
        self.register_buffer("shift", torch.arange(float(2 * WIDTH))[::2])  # neither contiguous nor all of its memory

    def forward(self, x):
        return self.out((self.into(x) + self.again(x)).relu() * self.scale) + self.shift


class OwnHead(nn.Module):
    """A head of a user's own."""

    def __init__(self, features):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features))

    def forward(self, features):
        return (features.tanh() * self.weight).sum(-1)


class OwnFusion(pf.Fusion):
    """A fusion of a user's own that is not registered."""

    symmetry, additive, xnor = "none", False, "always"

    def __init__(self, in_features, power):
        super().__init__(in_features)
        self.exponent = power
        self.weight = nn.Parameter(torch.randn(in_features))

    def fuse(self, u, v):
        return self.weight * (u - v).abs() ** self.exponent


def own_parts():
    """What `from_pretrained` is given for the parts of a user's own, new and with other weights."""
    return {"encoder": OwnEncoder(), "head": OwnHead(WIDTH), "fusion": OwnFusion(WIDTH, 2)}


def decide(model, calibration):
    """A decision on a model's scores."""
    rates = Estimate(0.01, 0.002, 0.03), Estimate(0.9)  # the second has no interval: NaN
    return Decision(0.1, {"far": 0.01}, *rates, calibration, prior=0.2, comparison=model.comparison)


def compare(encoder, fusion, head="linear", *, calibration=None, **options):
    """A comparator whose every parameter counts."""
    fusion = fusion(WIDTH) if callable(fusion) and not isinstance(fusion, nn.Module) else fusion
    model = pf.SiameseComparator(encoder, fusion, head, allow_additive=True, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        if model.head_started is not None:
            model.embedding_scale.fill_(0.7)
            model.head_started.fill_(True)
    if calibration is not None:
        model.decision = decide(model, calibration)
    return model.eval()


def all_models():
    """Models by name, each with the parts that have to be passed when it is loaded."""
    torch.manual_seed(0)
    models = {}

    def add(name, model, *own):
        models[name] = model, own

    for fusion, oracle in ORACLES.items():
        for i, options in enumerate(oracle.options):
            made = pf.make_fusion(fusion, WIDTH, **options)
            add(f"{fusion}-{i}-tied", compare(nn.Linear(WIDTH, WIDTH), made, calibration=PLATT))
            made = pf.make_fusion(fusion, WIDTH, **options)
            encoders = {"right_encoder": nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh())}
            model = compare(nn.Linear(WIDTH, WIDTH), made, "mlp", calibration=ISOTONIC, **encoders)
            add(f"{fusion}-{i}-untied", model)
        if pf.make_fusion(fusion, WIDTH).two_widths:
            made = pf.make_fusion(fusion, WIDTH, in2_features=3)
            model = compare(nn.Identity(), made, right_encoder=nn.Linear(WIDTH, 3))
            add(f"{fusion}-two-widths", model)
    for name in ("stack of all", "Symmetrized(NTN)", "Symmetrized([max, ntn])", "PowerNormalized"):
        add(name, compare(nn.Linear(WIDTH, WIDTH), FUSIONS[name], calibration=PLATT))
    nested = pf.fusions.PowerNormalized(pf.fusions.Stack([pf.fusions.Product(WIDTH), pf.make_fusion("mou", WIDTH)]))
    add("nested", compare(nn.Linear(WIDTH, WIDTH), nested))
    for name, head in HEADS.items():
        add(f"head-{name}", compare(nn.Linear(WIDTH, WIDTH), "product", head(WIDTH)))
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        add(f"{dtype}", compare(nn.Linear(WIDTH, WIDTH), ["bilinear", "cosine"], "mlp", joint_pass=False).to(dtype))
    add("item_ndim", compare(nn.Linear(WIDTH, WIDTH), "product", item_ndim=1))
    add("own encoder", compare(OwnEncoder(), "product", calibration=PLATT), "encoder")
    add("own head", compare(nn.Identity(), "abs-diff", OwnHead(WIDTH), embedding_dim=WIDTH), "head")
    add("all own", compare(OwnEncoder(), OwnFusion(WIDTH, 2), OwnHead(WIDTH)), "encoder", "fusion", "head")
    return models


def all_forms():
    """Inner-product forms by name: of all separable fusions, with and without an origin and a scale."""
    fusions = {
        f"{name}-{i}": pf.make_fusion(name, WIDTH, **options)
        for name, oracle in ORACLES.items()
        for i, options in enumerate(oracle.options)
    }
    fusions["stack"] = pf.make_fusion(["bilinear", "squared-diff"], WIDTH)
    fusions["wrapped"] = pf.fusions.Symmetrized(pf.make_fusion("mfb", WIDTH))
    separable = {name: fusion for name, fusion in fusions.items() if fusion.fast_path}
    models = {name: compare(nn.Linear(WIDTH, WIDTH), fusion) for name, fusion in separable.items()}
    origins = {name: torch.ones(WIDTH) if "diff" in name else None for name in models}
    models["float64"] = compare(nn.Linear(WIDTH, WIDTH), "bilinear").double()
    models["own head"] = compare(nn.Linear(WIDTH, WIDTH), "product", nn.Linear(WIDTH, 1))
    return {name: model.inner_product_form(origin=origins.get(name)) for name, model in models.items()}


def vectors(form):
    """What a form makes of the same embeddings in every process."""
    x = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    return {"query": form.to_query(x), "gallery": form.to_gallery(x), "constant": form.constant}


def answers(model):
    """What a model says about the same pairs in every process."""
    x1, x2 = torch.randn(2, 7, WIDTH, generator=torch.Generator().manual_seed(1))
    dtype = next(model.parameters()).dtype
    x1, x2 = x1.to(dtype), x2.to(dtype)
    with torch.no_grad():
        found = {"logits": model(x1, x2)}
    if model.decision is not None:
        found |= {"same": model.same(x1, x2), "probabilities": model.predict_proba(x1, x2)}
    return found


def main(folder):
    """Load every saved model and form, and write what it answers."""
    from safetensors.torch import save_file

    for path in sorted(Path(folder).glob("*.form")):
        save_file(vectors(InnerProductForm.load(path)), path.with_suffix(".vectors"))
    for path in sorted(path for path in Path(folder).iterdir() if path.is_dir()):
        own = (path / "own.txt").read_text().split()
        given = {name: part for name, part in own_parts().items() if name in own}
        save_file(answers(pf.SiameseComparator.from_pretrained(path, **given)), path / "answers.safetensors")


if __name__ == "__main__":
    main(sys.argv[1])
