"""All pairs under torch's own tools: export, vmap, meta tensors and one whole graph."""

import pytest
import torch
from scoring_cases import HEADS, build, paired, randn

FUSIONS = ["product", "squared-diff", "abs-diff", "symmetric", "bilinear", "ntn"]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_meta(fusion):
    model = build(fusion, HEADS["mlp"], 4).to("meta")
    u, v = torch.empty(3, 4, device="meta", dtype=torch.float64), torch.empty(5, 4, device="meta", dtype=torch.float64)
    with torch.no_grad():
        assert model.score_embeddings(u, v).shape == (3, 5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_vmap(fusion):
    model = build(fusion, HEADS["linear"], 4)
    u, v = randn(2, 3, 4), randn(2, 5, 4, seed=1)
    with torch.no_grad():
        found = torch.vmap(model.score_embeddings)(u, v)
        for i in range(2):
            torch.testing.assert_close(found[i], paired(model, u[i], v[i]))


class AllPairs(torch.nn.Module):
    """The training class of the docs: scores of all pairs of a batch."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x1, x2):
        return self.model.score_embeddings(self.model.encode(x1), self.model.encode(x2))


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("gradients", [False, True])
def test_export_with_two_dynamic_batches(fusion, gradients):
    module = AllPairs(build(fusion, HEADS["linear"], 4))
    dims = {"x1": {0: torch.export.Dim("n")}, "x2": {0: torch.export.Dim("m")}}
    with torch.set_grad_enabled(gradients):
        program = torch.export.export(module, (randn(3, 4), randn(5, 4)), dynamic_shapes=dims).module()
        for n, m in ((3, 5), (6, 2)):
            u, v = randn(n, 4, seed=2), randn(m, 4, seed=3)
            torch.testing.assert_close(program(u, v), paired(module.model, u, v))


@pytest.mark.parametrize("fusion", ["squared-diff", "symmetric"])
def test_one_graph(fusion):
    module = AllPairs(build(fusion, HEADS["mlp"], 4))
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    u, v = randn(3, 4), randn(5, 4, seed=1)
    torch.testing.assert_close(compiled(u, v), paired(module.model, u, v))
