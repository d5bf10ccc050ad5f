"""`SiameseComparator`: what it computes, how often it encodes, what it leaves unchanged."""

import copy
import pickle
from collections import UserDict, namedtuple

import pytest
import torch
from small_encoders import convnet, count_calls
from torch import nn

import pairfuse as pf
from pairfuse.fusions import Symmetrized


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("fusion", ["product", "abs-diff", "bilinear", "concat", ["product", "abs-diff"]])
def test_is_head_of_fusion_of_encodings(fusion, head):
    """In eval mode the joint pass gives what two separate passes give."""
    model = pf.SiameseComparator(convnet(), fusion, head, allow_additive=True).eval()
    x1, x2 = torch.rand(6, 3, 8, 8), torch.rand(6, 3, 8, 8)
    expected = model.head(model.fusion(model.encoder(x1), model.encoder(x2))).squeeze(-1)
    torch.testing.assert_close(model(x1, x2), expected)


def test_the_default_is_product_and_abs_diff_with_a_linear_head():
    model = pf.SiameseComparator(nn.Linear(5, 4))
    assert [type(part).__name__ for part in model.fusion.fusions] == ["Product", "AbsDiff"]
    assert isinstance(model.head, nn.Linear)
    assert (model.symmetric, model.additive, model.tied) == (True, False, True)


def test_defaults_are_not_shared():
    """No module is shared between two models: the bug of `def __init__(self, encoder=resnet18())`."""
    encoders = nn.Linear(5, 4), nn.Linear(5, 4)
    one, other = (pf.SiameseComparator(encoder) for encoder in encoders)
    assert not {id(module) for module in one.modules()} & {id(module) for module in other.modules()}
    assert not {id(p) for p in one.parameters()} & {id(p) for p in other.parameters()}


@pytest.mark.parametrize("training", [True, False])
def test_tied_encoders_run_once_over_both_sides(training):
    """One call over 2B items; in train mode both sides share the statistics of that batch."""
    model = pf.SiameseComparator(convnet(), "product").train(training)
    reference = copy.deepcopy(model)
    calls = count_calls(model.encoder)
    x1, x2 = torch.rand(6, 3, 8, 8), torch.rand(6, 3, 8, 8) + 1
    logits = model(x1, x2)
    assert calls == [(12, 3, 8, 8)]
    u, v = reference.encoder(torch.cat([x1, x2])).split(6)
    torch.testing.assert_close(logits, reference.head(u * v).squeeze(-1))
    torch.testing.assert_close(model.encoder[1].running_mean, reference.encoder[1].running_mean)
    separate = reference.head(reference.encoder(x1) * reference.encoder(x2)).squeeze(-1)
    assert torch.allclose(logits, separate, atol=1e-5) != training


def test_different_shapes_take_two_calls():
    """Images of two sizes, say: each side is encoded by itself."""
    model = pf.SiameseComparator(convnet(), "product").eval()
    calls = count_calls(model.encoder)
    x1, x2 = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 12, 9)
    expected = model.head(model.encoder(x1) * model.encoder(x2)).squeeze(-1)
    calls.clear()
    torch.testing.assert_close(model(x1, x2), expected)
    assert calls == [(2, 3, 8, 8), (2, 3, 12, 9)]


def test_untied_encoders():
    """Each side has its own encoder, with its own parameters and its own call."""
    left, right = nn.Linear(5, 4), nn.Linear(3, 4)
    model = pf.SiameseComparator(left, "product", right_encoder=right)
    x1, x2 = torch.randn(6, 5), torch.randn(6, 3)
    torch.testing.assert_close(model(x1, x2), model.head(left(x1) * right(x2)).squeeze(-1))
    assert (model.tied, model.symmetric) == (False, False)
    assert {"encoder.weight", "right_encoder.weight"} <= set(model.state_dict())
    torch.testing.assert_close(model.encode(x1), left(x1))
    torch.testing.assert_close(model.encode(x2, side="right"), right(x2))
    with pytest.raises(ValueError, match="side must be 'left' or 'right', got 'both'"):
        model.encode(x1, side="both")


def test_untied_encoders_of_two_widths():
    model = pf.SiameseComparator(nn.Linear(5, 4), ["concat", "bilinear"], right_encoder=nn.Linear(5, 3))
    assert (model.fusion.in_features, model.fusion.in2_features, model.fusion.out_features) == (4, 3, 8)
    assert model(torch.randn(2, 5), torch.randn(2, 5)).shape == (2,)
    with pytest.raises(ValueError, match="Product expects embeddings of one width, got in_features=4"):
        pf.SiameseComparator(nn.Linear(5, 4), "product", right_encoder=nn.Linear(5, 3))


def test_two_kinds_of_input():
    """Images on the left, text on the right: each side has its own item_ndim."""
    image, text = pf.encoders.vision_encoder("resnet18", embedding_dim=4), TextEncoder()
    model = pf.SiameseComparator(image, ["concat", "product"], right_encoder=text).eval()
    images, tokens = torch.rand(2, 3, 32, 32), (torch.randint(50, (2, 7)), torch.ones(2, 7))
    assert model(images, tokens).shape == (2,)
    assert model.encode(tokens, side="right").shape == (2, 4)
    text.item_ndim = 1
    model = pf.SiameseComparator(image, right_encoder=text).eval()
    assert model(images[0], (tokens[0][0], tokens[1][0])).shape == ()


def test_a_right_encoder_that_is_empty_is_still_an_encoder():
    """An nn.Sequential without layers, for embeddings that are there already, has length 0 and is false."""
    model = pf.SiameseComparator(nn.Linear(4, 4), "product", right_encoder=nn.Sequential(), embedding_dim=4)
    x = torch.randn(3, 4)
    assert torch.equal(model.encode(x, side="right"), x)
    torch.testing.assert_close(model(x, x), model.head(model.encoder(x) * x).squeeze(-1))


def test_the_same_encoder_on_both_sides_is_tied():
    encoder = nn.Linear(5, 4)
    model = pf.SiameseComparator(encoder, right_encoder=encoder)
    assert model.tied
    assert not [key for key in model.state_dict() if key.startswith("right_encoder")]


@pytest.mark.parametrize("batch", [0, 1, 7])
@pytest.mark.parametrize("encoder", [nn.Linear(5, 4), convnet()])
def test_logits_are_one_per_pair(encoder, batch):
    """(B,) always: also for a batch of one and for an empty one, in train mode too."""
    x = torch.rand(batch, 5) if isinstance(encoder, nn.Linear) else torch.rand(batch, 3, 8, 8)
    model = pf.SiameseComparator(copy.deepcopy(encoder))
    assert model(x, x).shape == (batch,)
    assert model.predict_proba(x, x).shape == (batch,)
    statistics = [b for name, b in model.named_buffers() if "running" in name]
    assert all(b.isfinite().all() for b in statistics)


def test_several_logits():
    model = pf.SiameseComparator(nn.Linear(5, 4), "product", nn.Linear(4, 3), item_ndim=1)
    assert model(torch.randn(2, 5), torch.randn(2, 5)).shape == (2, 3)
    assert model(torch.randn(5), torch.randn(5)).shape == (3,)


def test_a_head_may_squeeze_by_itself():
    head = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    model = pf.SiameseComparator(nn.Linear(5, 4), "product", head)
    assert model(torch.randn(1, 5), torch.randn(1, 5)).shape == (1,)


def test_single_items():
    """Where item_ndim is known, one unbatched pair gives what a batch of this pair gives."""
    model = pf.SiameseComparator(convnet(), item_ndim=3).eval()
    x1, x2 = torch.rand(3, 8, 8), torch.rand(3, 8, 8)
    assert model(x1, x2).shape == ()
    torch.testing.assert_close(model(x1, x2), model(x1[None], x2[None])[0])
    assert model.encode(x1).shape == (4,)
    assert model.predict_proba(x1, x2).shape == ()


Tokens = namedtuple("Tokens", ["ids", "mask"])


class TextEncoder(nn.Module):
    """The mean of the embeddings of the words that are not masked."""

    embedding_dim = 4

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 4)
        self.calls = 0

    def forward(self, tokens):
        self.calls += 1
        self.got = type(tokens)
        if isinstance(tokens, Tokens):
            tokens = tokens._asdict()
        ids, mask = (tokens["ids"], tokens["mask"]) if hasattr(tokens, "keys") else tokens
        return (self.words(ids) * mask[..., None]).sum(1)


@pytest.mark.parametrize(
    "pack",
    [
        lambda ids, mask: {"ids": ids, "mask": mask},
        lambda ids, mask: UserDict(ids=ids, mask=mask),  # a tokenizer's output is one
        lambda ids, mask: (ids, mask),
        lambda ids, mask: [ids, mask],
        Tokens,
    ],
)
def test_nested_inputs(pack):
    """A tokenizer's output is one input: the encoder gets the container that came, once for both sides."""
    model = pf.SiameseComparator(TextEncoder(), "product")
    ids1, ids2 = torch.randint(50, (6, 7)), torch.randint(50, (6, 7))
    mask1, mask2 = torch.randint(2, (6, 7)), torch.randint(2, (6, 7))
    x1, x2 = pack(ids1, mask1), pack(ids2, mask2)
    logits = model(x1, x2)
    assert model.encoder.calls == 1
    assert model.encoder.got is type(x1)
    torch.testing.assert_close(logits, model.head(model.encoder(x1) * model.encoder(x2)).squeeze(-1))
    for given, kept in ((x1, ids1), (x2, ids2)):  # nothing of the user's is changed
        assert (given["ids"] if hasattr(given, "keys") else given[0]) is kept
    assert model(x1, pack(ids2[:, :5], mask2[:, :5])).shape == (6,)  # two lengths: two calls


def test_single_nested_items():
    model = pf.SiameseComparator(TextEncoder(), item_ndim=1)
    ids, mask = torch.randint(50, (7,)), torch.ones(7)
    assert model({"ids": ids, "mask": mask}, {"ids": ids, "mask": mask}).shape == ()


@pytest.mark.parametrize("fusion", ["product", "abs-diff", ["product", "abs-diff"]])
def test_symmetric_models_do_not_care_for_the_order(fusion):
    model = pf.SiameseComparator(convnet(), fusion, "mlp").eval()
    x1, x2 = torch.rand(5, 3, 8, 8), torch.rand(5, 3, 8, 8)
    assert model.symmetric
    torch.testing.assert_close(model(x1, x2), model(x2, x1))


def test_additive_is_a_fact_of_fusion_and_head():
    def additive(fusion, head):
        return pf.SiameseComparator(nn.Linear(5, 4), fusion, head, allow_additive=True).additive

    assert additive("concat", "linear")
    assert not additive("concat", "mlp")
    assert not additive("product", "linear")
    assert additive(["concat", "concat"], "linear")
    assert not additive(["concat", "product"], "linear")


@pytest.mark.parametrize(
    "fusion",
    [
        "concat",
        ["concat"],
        ["concat", "concat"],
        "sum",
        "mean",
        "diff",
        ["sum", "diff"],
        Symmetrized(pf.fusions.Concat(4)),
    ],
)
@pytest.mark.parametrize(
    "head", ["linear", nn.Sequential(nn.Dropout(), nn.LazyLinear(8), nn.Linear(8, 1), nn.Sigmoid())]
)
def test_an_additive_comparator_is_refused(fusion, head):
    """The error says why, and names both cures and the way out."""
    message = r"[A-Z][a-z]+ with an affine head computes g\(u\) \+ h\(v\).*fusion='product'.*head='mlp'.*allow_add"
    with pytest.raises(pf.AdditiveComparatorError, match=message) as caught:
        pf.SiameseComparator(nn.Linear(5, 4), fusion, head)
    assert isinstance(caught.value, ValueError)


class Cubed(pf.Fusion):
    """Antisymmetric, but no sum."""

    symmetry, additive, xnor = "antisymmetric", False, "never"

    def fuse(self, u, v):
        return (u - v) ** 3


@pytest.mark.parametrize("fusion", [Cubed(4), [Cubed(4), "sum"]])
def test_what_never_learns_with_one_encoder_is_refused(fusion):
    """f(a, a) = 0 lies between f(a, b) and f(b, a). Two encoders are another matter, and so is a hidden layer."""
    message = "(Cubed|Stack) with an affine head and one encoder cannot tell same from different .*fusion='product'"
    with pytest.raises(pf.AdditiveComparatorError, match=message):
        pf.SiameseComparator(nn.Linear(5, 4), fusion)
    assert not pf.SiameseComparator(nn.Linear(5, 4), fusion, allow_additive=True).additive
    pf.SiameseComparator(nn.Linear(5, 4), fusion, "mlp")
    pf.SiameseComparator(nn.Linear(5, 4), fusion, right_encoder=nn.Linear(5, 4))


def test_a_ranking_model_may_be_additive():
    model = pf.SiameseComparator(nn.Linear(5, 4), "concat", allow_additive=True)
    assert model(torch.randn(2, 5), torch.randn(2, 5)).shape == (2,)


@pytest.mark.parametrize("right", [None, nn.Linear(5, 4)])
def test_everything_is_part_of_the_model(right):
    """state_dict, parameters, deepcopy and pickle hold encoder, fusion and head."""
    model = pf.SiameseComparator(nn.Linear(5, 4), ["bilinear", "abs-diff"], "mlp", right_encoder=right)
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert names == {"encoder", "fusion", "head"} | ({"right_encoder"} if right else set())
    x1, x2 = torch.randn(3, 5), torch.randn(3, 5)
    model(x1, x2).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    fresh = pf.SiameseComparator(
        nn.Linear(5, 4), ["bilinear", "abs-diff"], "mlp", right_encoder=nn.Linear(5, 4) if right else None
    )
    fresh.load_state_dict(model.state_dict())
    for twin in (fresh, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x1, x2), model(x1, x2))


def test_named_parts_follow_the_encoder():
    """A fusion or head built from a name gets the encoder's dtype and device; what is given stays as it is."""
    model = pf.SiameseComparator(nn.Linear(5, 4, dtype=torch.float64), "bilinear", "mlp")
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    with torch.device("meta"):
        encoder = nn.Linear(5, 4)
    assert {p.device.type for p in pf.SiameseComparator(encoder, ["bilinear", "abs-diff"]).parameters()} == {"meta"}
    given = pf.fusions.Bilinear(4)
    pf.SiameseComparator(nn.Linear(5, 4, dtype=torch.float64), given)
    assert given.weight.dtype == torch.float32
    with torch.device("meta"):
        assert pf.SiameseComparator(nn.Linear(5, 4)).head.weight.is_meta


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes(dtype):
    model = pf.SiameseComparator(convnet(), ["product", "abs-diff", "bilinear"]).to(dtype)
    x = torch.rand(4, 3, 8, 8, dtype=dtype)
    assert model(x, x).dtype == dtype


def test_autocast():
    model = pf.SiameseComparator(convnet(), ["product", "abs-diff", "bilinear"], "mlp")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8))
    logits.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("joint", [True, False])
def test_autocast_inside_the_encoder(joint):
    """Its bfloat16 embeddings are compared in the dtype of fusion and head, as all-pairs scoring compares them."""

    class Autocast(nn.Linear):
        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return super().forward(x)

    x = torch.randn(4, 5)
    for fusion in ("product", ["bilinear", "abs-diff"]):
        model = pf.SiameseComparator(Autocast(5, 4), fusion, joint_pass=joint)
        torch.testing.assert_close(model(x, x), model.score_matrix(x, x).diagonal(), check_dtype=True)


@pytest.mark.parametrize("right", [None, nn.Linear(5, 4)])
def test_compiles_whole_and_exports(right):
    """One graph for torch.compile; torch.export with any batch size."""
    model = pf.SiameseComparator(nn.Linear(5, 4), ["product", "bilinear"], right_encoder=right).eval()
    x1, x2 = torch.randn(4, 5), torch.randn(4, 5)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x1, x2), model(x1, x2))
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(model, (x1, x2), dynamic_shapes={"x1": {0: batch}, "x2": {0: batch}})
    torch.testing.assert_close(exported.module()(x1[:3], x2[:3]), model(x1[:3], x2[:3]))


def test_distributed_data_parallel(tmp_path):
    """A tied model under DDP trains: its encoder is called once a step."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(pf.SiameseComparator(convnet()))
        calls = count_calls(model.module.encoder)
        for _ in range(2):
            model(torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)).sum().backward()
        assert len(calls) == 2
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")  # of logits that are a view
def test_fully_sharded(tmp_path):
    """Only calling a sharded model gathers its weights. Another method says so, and how it is made to gather them."""
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model, x = pf.SiameseComparator(nn.Linear(5, 4), "product"), torch.randn(3, 5)
        due = model.score_matrix(x, x)
        fsdp.fully_shard(model.encoder, mesh=torch.distributed.device_mesh.init_device_mesh("cpu", (1,)))
        fsdp.fully_shard(model, mesh=torch.distributed.device_mesh.init_device_mesh("cpu", (1,)))
        for call in (model.encode, model.encode_items, lambda x: model.score_matrix(x, x)):
            with pytest.raises(RuntimeError, match=r"fully_shard has sharded.*register_fsdp_forward_method\(model"):
                call(x)
        fsdp.register_fsdp_forward_method(model, "score_matrix")
        for _ in range(2):
            torch.testing.assert_close(model.score_matrix(x, x), due)
            model(x, x).sum().backward()
    finally:
        torch.distributed.destroy_process_group()


def test_repr_tells_the_facts():
    model = pf.SiameseComparator(nn.Linear(5, 4), "product")
    assert "tied=True, symmetric=True, additive=False, item_ndim=None" in repr(model)
    assert "(fusion): Product(in_features=4, out_features=4)" in repr(model)
