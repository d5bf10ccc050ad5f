"""The examples of images, texts and series, in small: from labels to a decision that a new process loads."""

import re

import pytest

pytest.importorskip("matplotlib").use("Agg")
pytest.importorskip("tqdm")

SMALL = {
    "images": ["--images", "1500", "--epochs", "1", "--splits", "1"],
    "texts": ["--people", "210", "--epochs", "2", "--far", "0.01"],
    "series": ["--machines", "40", "--epochs", "1"],
}


def load(name):
    """The module of an example, whose packages are imported here so that a test is skipped without them."""
    if name == "images":
        from examples import images as module
    elif name == "texts":
        from examples import texts as module
    else:
        from examples import series as module
    return module


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "series" else [pytest.mark.slow]) for name in SMALL]
)
def test_from_labels_to_a_new_process(name, tmp_path, capfd):
    """Report, decision, its check on other identities, the picture, and answers of a process that loads the model."""
    plot = tmp_path / "picture.png"
    load(name).main([*SMALL[name], "--plot", str(plot)])
    printed = capfd.readouterr().out
    assert re.search(r"^AUC +\S", printed, re.MULTILINE)
    assert re.search(r"^called the same +score ≥ -?[\d.]+ \(chosen for far 0\.0[15]\)$", printed, re.MULTILINE)
    assert re.search(r"FAR .*\d, on .*\d|FAR .*\], on other .*\d", printed)  # where it was chosen, and on others
    answers = printed[printed.index("In a new process") :]
    assert (
        len(re.findall(r"\b(?:True|False|the same|different)\b", answers))
        == {"images": 10, "texts": 2, "series": 8}[name]
    )
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_threshold_holds_for_other_machines(capfd):
    """At full size the error rate on new machines is about the one that was asked for."""
    load("series").main([])
    printed = capfd.readouterr().out
    chosen, seen = (
        float(x) for x in re.search(r"^FAR .*chosen ([\d.]+) .*machines ([\d.]+) ", printed, re.MULTILINE).groups()
    )
    assert chosen <= 0.01
    assert 0.003 < seen < 0.03
    assert re.search(r"of one machine +\[True, True, True, True\]", printed)
    assert re.search(r"of two machines +\[False, False, False, False\]", printed)
