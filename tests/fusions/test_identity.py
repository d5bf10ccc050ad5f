"""A state says which fusion it is of: one of another fusion is refused, though all shapes fit."""

import copy
import io
import json

import pytest
import torch
from oracles import ORACLES
from torch import nn
from torch.optim.swa_utils import AveragedModel

import pairfuse as pf
from pairfuse.fusions import Cosine, LowRankBilinear, Mean, PowerNormalized, Product, SquaredDiff, Stack, Symmetrized

BUILT = {
    f"{name} {options or ''}": pf.make_fusion(name, 4, **options)
    for name, oracle in ORACLES.items()
    for options in oracle.options
}


def shapes(fusion):
    return {name: value.shape for name, value in fusion.state_dict().items() if not name.endswith("_extra_state")}


@pytest.mark.parametrize("name", BUILT)
def test_no_other_fusion_takes_the_state(name):
    """Of all registered ones with every option; its own copy does."""
    state = BUILT[name].state_dict()
    copy.deepcopy(BUILT[name]).load_state_dict(state)
    for other in BUILT:
        if other != name and shapes(BUILT[other]) == shapes(BUILT[name]):
            with pytest.raises(RuntimeError, match="the state is of"):
                copy.deepcopy(BUILT[other]).load_state_dict(state)


def test_the_error_says_both_and_the_way_out():
    model, other = (pf.SiameseComparator(nn.Linear(4, 4), [name, Mean(4)]) for name in ("squared-diff", "product"))
    words = (
        r"the state is of SquaredDiff\(in_features=4, in2_features=4\), not of Product\(in_features=4, "
        r"in2_features=4\)\. If you mean it, delete 'fusion\.parts\.0\._extra_state' from the state first"
    )
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=words):
            other.load_state_dict(model.state_dict(), strict=strict)
    state = model.state_dict()
    del state["fusion.parts.0._extra_state"]
    other.load_state_dict(state)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Cosine(4), Cosine(4, eps=1e-3)),
        (LowRankBilinear(4), LowRankBilinear(4, activation=None)),
        (pf.fusions.MFB(4, 3, rank=4), pf.fusions.MFB(4, 4, rank=3)),
        (PowerNormalized(Product(4)), PowerNormalized(Product(4), eps=1e-3)),
        (Symmetrized(Product(4)), Symmetrized(SquaredDiff(4))),
        (Symmetrized(Product(4)), PowerNormalized(Product(4))),
        (Stack([Product(4), Mean(4)]), Stack([Mean(4), Product(4)])),
        (Stack([Product(4), Mean(4)]), Stack([Product(4), Mean(4), Mean(4)])),
        (Stack([Product(4), Mean(4), Mean(4)]), Stack([Product(4), Mean(4)])),
    ],
)
def test_options_parts_and_their_order_count(first, second):
    with pytest.raises(RuntimeError, match="the state is of"):
        second.load_state_dict(first.state_dict())


def test_a_preset_is_the_list_of_its_parts():
    state = pf.make_fusion("symmetric", 4).state_dict()
    pf.make_fusion(["product", "abs-diff"], 4).load_state_dict(state)
    with pytest.raises(RuntimeError, match="the state is of AbsDiff"):
        pf.make_fusion(["product", "squared-diff"], 4).load_state_dict(state)


def test_a_stack_that_computes_something_else_has_its_own_name():
    class Doubled(Stack):
        symmetry, additive, xnor = "symmetric", False, "always"

        def fuse(self, u, v):
            return 2 * super().fuse(u, v)

    with pytest.raises(RuntimeError, match=r"the state is of Doubled\(.*\), not of Stack\(parts=1\)"):
        Stack([Product(4)]).load_state_dict(Doubled([Product(4)]).state_dict())


def test_older_states_still_load():
    """Those without any entry, and those from before a fusion had an option, which then has its default."""
    model = pf.SiameseComparator(nn.Linear(4, 4), ["cosine", "ntn"])
    state = {name: value for name, value in model.state_dict().items() if not name.endswith("_extra_state")}
    model.load_state_dict(state)
    for found, fits in (
        ({"fusion": "Cosine", "in_features": 4, "in2_features": 4}, True),
        ({"fusion": "Cosine", "in_features": 4, "in2_features": 4, "eps": 1e-8}, True),
        ({"fusion": "Cosine", "in_features": 4, "in2_features": 4, "of_the_future": 1}, False),
    ):
        state = {"_extra_state": torch.tensor(list(json.dumps(found).encode()), dtype=torch.uint8)}
        if fits:
            Cosine(4).load_state_dict(state)
        else:
            with pytest.raises(RuntimeError, match="of_the_future=1"):
                Cosine(4).load_state_dict(state)


def test_copies_and_files_keep_it():
    """Of torch, without pickled objects."""
    model = pf.SiameseComparator(nn.Linear(4, 4), Symmetrized(pf.fusions.NTN(4)))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    copy.deepcopy(model).load_state_dict(state)
    with torch.device("meta"):
        empty = pf.SiameseComparator(nn.Linear(4, 4), Symmetrized(pf.fusions.NTN(4)))
    empty.load_state_dict(state, assign=True)


def test_averages_of_models():
    """The mean of states is of no fusion that can be read, and is loaded as before."""
    models = [pf.SiameseComparator(nn.Linear(4, 4), "bilinear") for _ in range(3)]
    states = [model.state_dict() for model in models]
    mean = {name: sum(state[name] for state in states) / 3 for name in states[0]}
    models[0].load_state_dict(mean)
    assert torch.equal(models[0].fusion.weight, mean["fusion.weight"])
    average = AveragedModel(models[1], use_buffers=True)
    average.update_parameters(models[2])
    average.load_state_dict(average.state_dict())


@pytest.mark.slow  # imports the compiler
@pytest.mark.filterwarnings("ignore")
def test_export_checkpoints_and_functional_calls(tmp_path):
    """What else of torch reads states: torch.export, distributed checkpoints, torch.func."""
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

    model, x = pf.SiameseComparator(nn.Linear(4, 4), ["bilinear", "cosine"]).eval(), torch.randn(3, 4)
    due = model(x, 2 * x)
    exported = torch.export.export(model, (x, 2 * x))
    torch.testing.assert_close(exported.module()(x, 2 * x), due)
    torch.testing.assert_close(torch.func.functional_call(model, dict(model.state_dict()), (x, 2 * x)), due)
    other = pf.SiameseComparator(nn.Linear(4, 4), ["bilinear", "cosine"]).eval()
    checkpoint.save(get_model_state_dict(model), checkpoint_id=tmp_path)
    state = other.state_dict()
    checkpoint.load(state, checkpoint_id=tmp_path)
    set_model_state_dict(other, state)
    assert torch.equal(other(x, 2 * x), due)


def test_a_wrapped_class_keeps_its_name():
    """As fully_shard makes one, whose states load without it."""
    fusion = pf.fusions.Bilinear(4)
    wrapper = type("FSDPBilinear", (pf.fusions.Bilinear,), {"__module__": "torch.distributed.fsdp"})
    fusion.__class__ = wrapper
    pf.fusions.Bilinear(4).load_state_dict(fusion.state_dict())


def test_an_extra_state_of_a_users_own_stays_theirs():
    class Mine(Product):
        calls = 0

        def get_extra_state(self):
            return torch.tensor(self.calls)

        def set_extra_state(self, state):
            self.calls = int(state)

    first, second = Mine(4), Mine(4)
    first.calls = 3
    second.load_state_dict(first.state_dict())
    assert second.calls == 3
    with pytest.raises(RuntimeError, match="Missing key"):
        second.load_state_dict({})
