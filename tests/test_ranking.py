"""`rank_fusions`: a table of fusions, judged on identities that they were not solved on."""

import math

import pytest
import torch

import pairfuse as pf

LABELS = torch.arange(160) // 4
ITEMS = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))[LABELS]
ITEMS = ITEMS + torch.linspace(0.1, 2.5, 8) * torch.randn(160, 8, generator=torch.Generator().manual_seed(1))


def test_ranking():
    """Best first, with cosine as the measure; the best is ready to be used."""
    ranking = pf.rank_fusions(ITEMS, LABELS, fusions=["product", "quadratic", ["cosine", "abs-diff"]], folds=3)
    areas = [row.auc.value for row in ranking.rows]
    assert areas == sorted(areas, reverse=True)
    assert {row.name for row in ranking.rows} == {"cosine", "product", "quadratic", "cosine + abs-diff"}
    by_name = {row.name: row for row in ranking.rows}
    assert by_name["cosine"].gain == 0
    assert by_name["quadratic"].gain > 0.02
    assert [by_name[name].index for name in ("quadratic", "cosine + abs-diff")] == [True, False]
    assert all(row.auc.low <= row.auc.value <= row.auc.high for row in ranking.rows)
    assert ranking.rows[0].name == "quadratic"
    assert type(ranking.best.fusion).__name__ == "Quadratic"
    assert bool(ranking.best.head_started)
    lines = str(ranking).splitlines()
    assert lines[0].split() == ["fusion", "AUC", "TAR", "at", "FAR", "0.01", "over", "cosine", "seconds", "index"]
    assert len(lines) == 5


def test_the_figures_are_those_of_unseen_identities():
    """A fold is judged by a head that never saw it: labels that mean nothing give an area of about one half."""
    labels = LABELS[torch.randperm(160, generator=torch.Generator().manual_seed(2))]
    ranking = pf.rank_fusions(torch.randn(160, 8), labels, fusions=["quadratic", "product"], folds=4)
    assert all(math.isclose(row.auc.value, 0.5, abs_tol=0.12) for row in ranking.rows)


def test_plot():
    pytest.importorskip("matplotlib").use("Agg")
    figure = pf.rank_fusions(ITEMS, LABELS, fusions=["product"], folds=2).plot()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()].count("cosine") == 1


@pytest.mark.parametrize(
    ("items", "labels", "options", "error", "message"),
    [
        (ITEMS.tolist(), LABELS, {}, TypeError, "embeddings to be a tensor"),
        (ITEMS.long(), LABELS, {}, ValueError, "floating-point embeddings"),
        (ITEMS, LABELS % 2, {}, ValueError, "at least 4 identities"),
        (ITEMS * torch.inf, LABELS, {}, ValueError, "finite embeddings"),
        (ITEMS, LABELS[:5], {}, ValueError, "5 labels and 160 items"),
        (ITEMS, LABELS, {"fusions": ["sum"]}, ValueError, "affine head"),
        (ITEMS, LABELS, {"fusions": ["prodct"]}, ValueError, "did you mean 'product'"),
        (ITEMS, LABELS, {"folds": 1}, ValueError, "folds to be at least 2"),
    ],
)
def test_bad_input(items, labels, options, error, message):
    with pytest.raises(error, match=message):
        pf.rank_fusions(items, labels, **options)
