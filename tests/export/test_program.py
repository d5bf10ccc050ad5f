"""`to_program`: what torch.export makes of our modules takes other sizes, and anything else is one clear error."""

import copy
import subprocess
import sys
from collections import UserDict, namedtuple

import pytest
import torch
from export_cases import BATCHES, LENGTHS, Series, Texts, apart, comparator, cross, decision, texts
from scoring_cases import FUSIONS
from small_encoders import convnet, count_calls
from torch import nn

import pairfuse as pf

slow = pytest.mark.slow


def program_of(module, *inputs, **options):
    return pf.export.to_program(module, *inputs, **options).module()


@cross(FUSIONS, ["linear", "mlp"], quick=[("symmetric", "linear"), ("ntn", "mlp")])
@pytest.mark.parametrize("tied", [True, False])
def test_decider(fusion, head, tied):
    """The same numbers as in eager mode, at batch sizes and lengths other than those of the example."""
    calibration = "isotonic" if tied else "platt"
    decider = comparator(fusion, head, tied=tied, calibration=calibration).decider()
    program = program_of(decider, texts(1, 4), texts(1, 4), dynamic=LENGTHS)
    for pairs, left, right in BATCHES:
        x1, x2 = texts(pairs, left), texts(pairs, right, seed=1)
        (probability, same), (p, answers) = program(x1, x2), decider(x1, x2)
        torch.testing.assert_close(probability, p, atol=1e-6, rtol=1e-5)
        clear = apart(decider.model, x1, x2)
        assert torch.equal(same[clear], answers[clear])


@cross(FUSIONS, [False, True], ["fusion", "inner_product"], quick=[("mou", False), ("mou", True)])
def test_search_modules(fusion, inner_product):
    """N and M vary apart, also if they are equal in the example."""
    model = comparator(fusion)
    if inner_product and not model.fusion.fast_path:
        return
    modules, x = model.search_modules(inner_product=inner_product), texts(2, 4)
    queries, gallery = (program_of(module, x, dynamic={"items": 1}) for module in modules[:2])
    scorer = program_of(modules.scorer, queries(x), gallery(x))
    for n, m in ((2, 2), (1, 1), (1, 300), (7, 2)):
        left, right = texts(n, 5), texts(m, 3, seed=1)
        found = scorer(queries(left), gallery(right))
        torch.testing.assert_close(found, model.score_matrix(left, right), atol=1e-4, rtol=1e-5)


def calls(program):
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


def test_a_scorer_keeps_the_fast_path():
    """One matrix product of N and M rows, not the fusion on N × M pairs: torch's tracer patches `__call__`."""
    scorer = comparator("mou").search_modules().scorer
    program = pf.export.to_program(scorer, torch.randn(2, 4), torch.randn(2, 4))
    sizes = [node.meta["val"].shape for node in program.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)]
    for shape in sizes:  # none is (N, M, D)
        assert [isinstance(size, int) for size in shape] != [False, False, True] or shape[2] == 1


def test_equal_shapes_are_one_pass_and_free_lengths_two():
    """The sides are joined if no length varies, as in eager mode. Otherwise equal lengths would be tied."""
    model, x = comparator(encoder=Series), torch.randn(2, 5, 3)
    for dynamic, passes in ({}, 1), (LENGTHS, 2):
        program = pf.export.to_program(model, x, x, dynamic=dynamic)
        assert sum("relu" in call for call in calls(program)) == passes


@pytest.mark.parametrize("fusion", [f if f == "sbert" else pytest.param(f, marks=slow) for f in pf.list_fusions()])
def test_plain_export_of_a_comparator(fusion):
    """torch.export itself, without our exporter: the logits, with a dynamic batch."""
    model = comparator(fusion, encoder=Series)
    batch = torch.export.Dim("batch")
    shapes = {"x1": {0: batch}, "x2": {0: batch}}
    x1, x2 = torch.randn(3, 5, 3), torch.randn(3, 5, 3)
    program = torch.export.export(model, (x1, x2), dynamic_shapes=shapes).module()
    for pairs in (1, 7):
        x1, x2 = torch.randn(pairs, 5, 3), torch.randn(pairs, 5, 3)
        torch.testing.assert_close(program(x1, x2), model(x1, x2))


METHODS = {
    "encode": lambda model, form, u, v, x: model.encode(x),
    "encode_items": lambda model, form, u, v, x: model.encode_items(x),
    "to_query": lambda model, form, u, v, x: form.to_query(u),
    "to_gallery": lambda model, form, u, v, x: form.to_gallery(v),
    "score_embeddings": lambda model, form, u, v, x: model.score_embeddings(u, v),
}


@pytest.mark.parametrize(
    ("method", "fusion"),
    [
        pytest.param(method, fusion, marks=[] if fusion == "mou" else slow)
        for method in METHODS
        for fusion in (["mou"] if method.startswith("encode") else FUSIONS)
    ],
)
def test_plain_export_of_methods(fusion, method):
    """torch.export itself, on what a user writes: N, M and the number of items are three, and vary."""
    model = comparator(fusion, encoder=Series)
    if method in ("to_query", "to_gallery") and not model.fusion.fast_path:
        return

    class Calls(nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.form = model, model.inner_product_form() if model.fusion.fast_path else None
            self.fusion = self.form and self.form.fusion  # registers its parameters

        def forward(self, u, v, x):
            return METHODS[method](self.model, self.form, u, v, x)

    def inputs(n, m, items):
        return torch.randn(n, 4), torch.randn(m, 4), torch.randn(items, 5, 3)

    shapes = tuple({0: torch.export.Dim(name)} for name in "nmb")
    with torch.no_grad():
        program = torch.export.export(Calls(), inputs(3, 3, 3), dynamic_shapes=shapes).module()
        for sizes in ((7, 2, 300), (1, 7, 1)):
            given = inputs(*sizes)
            torch.testing.assert_close(program(*given), Calls()(*given), atol=1e-5, rtol=1e-5)


def test_train_mode_and_autocast_stay_outside():
    """A model in train mode is exported in eval mode, and not changed; autocast around the call does not count."""
    model = pf.SiameseComparator(convnet(), item_ndim=3)
    x1, x2 = torch.rand(3, 3, 8, 8), torch.rand(3, 3, 8, 8)
    model(x1, x2)
    state = copy.deepcopy(model.state_dict())
    dtypes = set()
    hook = model.encoder.register_forward_hook(lambda _, __, output: dtypes.add(output.dtype))
    with torch.autocast("cpu"):
        program = program_of(model, x1, x2)
    hook.remove()
    assert dtypes == {torch.float32}
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    x1, x2 = torch.rand(5, 3, 8, 8), torch.rand(5, 3, 8, 8)
    torch.testing.assert_close(program(x1, x2), model.eval()(x1, x2))


@slow
def test_a_program_loads_without_pairfuse(tmp_path):
    """The server needs torch alone."""
    x = texts(2, 4)
    program = pf.export.to_program(comparator().decider(), x, x, dynamic=LENGTHS)
    torch.export.save(program, tmp_path / "decider.pt2")
    torch.save((x, program.module()(x, x)), tmp_path / "case.pt")
    code = """if True:
        import sys, torch
        program = torch.export.load(sys.argv[1] + "/decider.pt2").module()
        x, due = torch.load(sys.argv[1] + "/case.pt")
        print(all(map(torch.equal, program(x, x), due)), "pairfuse" in sys.modules)
    """
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "True False"


Pair = namedtuple("Pair", "ids mask")


class Parts(Texts):
    """Takes one nested argument."""

    def forward(self, x):
        return super().forward(*(x.values() if isinstance(x, dict) else x))


@pytest.mark.parametrize("container", [tuple, list, dict, UserDict, Pair])
def test_nested_inputs(container):
    """Tuples, lists, named tuples and mappings, also those that torch.export does not know."""

    def nested(batch):
        ids, mask = batch.values()
        if container is Pair:
            return Pair(ids, mask)
        return container({"a": ids, "b": mask} if container in (dict, UserDict) else (ids, mask))

    model = comparator(encoder=Parts)
    program = program_of(model, nested(texts(1, 4)), nested(texts(1, 4)), dynamic=LENGTHS)
    x1, x2 = nested(texts(7, 3)), nested(texts(7, 5, seed=1))
    given = [dict(x) if container is UserDict else x for x in (x1, x2)]
    torch.testing.assert_close(program(*given), model(*given))


def test_dynamic_of_one_tensor():
    """A key may be one tensor of a nested input; the others keep their sizes."""

    class Mixed(nn.Module):
        out_features = 4

        def __init__(self):
            super().__init__()
            self.series, self.plain = Series(), nn.Linear(6, 4)

        def forward(self, series, plain):
            return self.series(series) + self.plain(plain)

    model = pf.SiameseComparator(Mixed(), "product").eval()

    def batch(items, length):
        return {"series": torch.randn(items, length, 3), "plain": torch.randn(items, 6)}

    dynamic = {"x1_series": 1, "x2_series": 1}
    program = program_of(model, batch(2, 5), batch(2, 5), dynamic=dynamic)
    x1, x2 = batch(3, 2), batch(3, 4)
    torch.testing.assert_close(program(x1, x2), model(x1, x2))
    with pytest.raises(ValueError, match=r"fails: .*6"):  # its linear layer has 6 inputs
        pf.export.to_program(model, batch(2, 5), batch(2, 5), dynamic=LENGTHS)


def encode(function):
    """A comparator whose encoder is a function of `(B, L, 3)`."""

    class Encoder(nn.Module):
        out_features = 3

        def forward(self, x):
            return function(x)

    return pf.SiameseComparator(Encoder(), "product").eval()


FAULTS = {
    "fixed length": (
        lambda x: x.mean(1) * int(x.shape[1]),
        "fixes dimension 1 of x1 at 5: use the sizes of the tensors themselves",
    ),
    "values": (lambda x: x.mean(1) if x.sum() > 0 else x.sum(1), "cannot trace SiameseComparator: .*data-dependent"),
    "branch": (
        lambda x: x.mean(1) if x.shape[1] > 4 else x.sum(1),
        "gives other values|fails, though",
    ),
    "random": (lambda x: x.mean(1) + torch.rand(x.shape[0], 3), "gives other values"),
    "NumPy": (lambda x: torch.from_numpy(x.numpy().mean(1)), "cannot trace"),
    "one length": (
        lambda x: x.reshape(len(x), 5, 3).mean(1),
        r"such as shape \(1, 5, 3\) and shape \(1, 4, 3\), but it fails",
    ),
}


@pytest.mark.parametrize("function", [case for case, _ in FAULTS.values()], ids=FAULTS)
def test_faults_of_encoders(function, request):
    """What would make a program for the example alone is one error, which names the input and the dimension."""
    message = FAULTS[request.node.callspec.id][1]
    model, x = encode(function), torch.randn(2, 5, 3)
    with pytest.raises(ValueError, match=message):
        pf.export.to_program(model, x, x, dynamic=LENGTHS)


def test_two_dimensions_that_become_one():
    """An encoder that asks whether an image is square is traced for square ones, if the example is one."""

    def pool(x):
        return x.mean((2, 3)) if x.shape[2] == x.shape[3] else x.amax((2, 3))

    dynamic = {"x1": (2, 3), "x2": (2, 3)}
    x = torch.rand(2, 3, 8, 8)
    with pytest.raises(ValueError, match="makes dimension 3 of x1 equal to dimension 2 of x1: use the sizes"):
        pf.export.to_program(encode(pool), x, x, dynamic=dynamic)


def test_bad_inputs():
    model, x = comparator(encoder=Series), torch.randn(2, 5, 3)
    to_program = pf.export.to_program
    with pytest.raises(TypeError, match=r"expects module to be a SiameseComparator, its decider.* got Linear: export"):
        to_program(nn.Linear(5, 3), x)
    with pytest.raises(TypeError, match=r"module to be an nn.Module, got <class .*Linear"):
        to_program(nn.Linear, x)
    with pytest.raises(ValueError, match="example of each input of SiameseComparator, x1 and x2, got 0"):
        to_program(model)
    with pytest.raises(ValueError, match="x1 of at least one item, got none"):
        to_program(model, x[:0], x[:0])
    with pytest.raises(TypeError, match=r"x2 must be a tensor, .*got str: tokenize"):
        to_program(model, x, "text")
    with pytest.raises(ValueError, match=r"dynamic for the inputs x1, x2, got \['u'\]"):
        to_program(model, x, x, dynamic={"u": 1})
    with pytest.raises(ValueError, match="expects x1 to have a dimension 3, got 3 dimensions"):
        to_program(model, x, x, dynamic={"x1": 3})
    with pytest.raises(TypeError, match=r"dynamic to be a mapping such as {'x1': 1}, got int"):
        to_program(model, x, x, dynamic=1)
    with pytest.raises(TypeError, match=r"dynamic\['x1'\] to be an int, got 'L'"):
        to_program(model, x, x, dynamic={"x1": "L"})
    with pytest.raises(ValueError, match=r"dynamic\['x1'\] to be at least 1, got 0"):
        to_program(model, x, x, dynamic={"x1": 0})
    single = pf.SiameseComparator(nn.Linear(8, 4), item_ndim=1)
    with pytest.raises(ValueError, match=r"a batch for each input, got single items of shape \(8,\) and shape \(8,\)"):
        to_program(single, torch.randn(8), torch.randn(8))
    lazy = pf.SiameseComparator(nn.LazyLinear(4), "product", embedding_dim=4)
    with pytest.raises(ValueError, match=r"layers that know their width, got LazyLinear.*: call the model once first"):
        to_program(lazy, x, x)


def test_an_exported_encoder():
    """An encoder that is a program of torch.export already, with any batch size."""
    shapes = ({0: torch.export.Dim("n")},)
    encoder = torch.export.export(Series(), (torch.randn(3, 5, 3),), dynamic_shapes=shapes).module()
    model = pf.SiameseComparator(encoder, "product", embedding_dim=4)
    model.decision = decision()
    x = torch.randn(2, 5, 3)
    program = program_of(model.decider(), x, x)
    x1, x2 = torch.randn(7, 5, 3), torch.randn(7, 5, 3)
    torch.testing.assert_close(program(x1, x2)[0], model.predict_proba(x1, x2))


def test_the_encoder_is_called_a_few_times():
    """An export costs a few small forward passes, however large the example is."""
    model = comparator(encoder=Series)
    sizes = count_calls(model.encoder)
    pf.export.to_program(model, torch.randn(500, 5, 3), torch.randn(500, 5, 3))
    assert sorted(size[0] for size in sizes if isinstance(size[0], int))[-1] <= 1000
