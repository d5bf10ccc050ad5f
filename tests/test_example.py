"""The quick start, in small."""

import os
import re
from pathlib import Path

import pytest

pytest.importorskip("matplotlib").use("Agg")
pytest.importorskip("tqdm")

from examples import black_white  # noqa: E402


def rows(printed: str) -> dict[str, list[float]]:
    """The numbers of each printed row: four probabilities, cross-entropy, accuracy in per cent."""
    found = re.findall(r"^ *([a-z][a-z -]*?)  +((?:[\d.]+ +){5})(\d+)%$", printed, re.MULTILINE)
    return {title: [float(x) for x in numbers.split()] + [float(accuracy)] for title, numbers, accuracy in found}


@pytest.mark.slow
def test_the_whole_page(tmp_path, capsys):
    """Concat fails, the others and the controls succeed, and the picture is drawn.

    Where the example has run already, as in `.ci/run`, its output is read instead of training again.
    """
    plot = tmp_path / "picture.png"
    if "PAIRFUSE_EXAMPLE" in os.environ:
        folder = Path(os.environ["PAIRFUSE_EXAMPLE"])
        printed, plot = (folder / "example.txt").read_text(), folder / "black_white.png"
    else:
        black_white.main(["--steps", "100", "--image-size", "32", "--plot", str(plot)])
        printed = capsys.readouterr().out
    table = rows(printed)
    assert set(table) == {"right answer", *black_white.FUSIONS, *black_white.CONTROLS}
    assert table["concat"][4] >= 0.65
    assert table["concat"][5] <= 75
    for title in {*black_white.FUSIONS, *black_white.CONTROLS} - {"concat"}:
        assert table[title][5] == 100, title
    for title in {*black_white.FUSIONS} - {"concat"}:
        errors = [abs(p - y) for p, y in zip(table[title][:4], table["right answer"][:4], strict=True)]
        assert max(errors) < 0.1, title
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_all_rows_after_one_step(tmp_path, capsys):
    """Five fusions and three controls are trained, printed and drawn."""
    plot = tmp_path / "picture.png"
    black_white.main(["--steps", "1", "--image-size", "32", "--plot", str(plot)])
    table = rows(capsys.readouterr().out)
    assert set(table) == {"right answer", *black_white.FUSIONS, *black_white.CONTROLS}
    assert all(len(row) == 6 for row in table.values())
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_one_fusion(tmp_path, capsys):
    plot = tmp_path / "new folder" / "picture.png"
    black_white.main(["--fusion", "abs-diff", "--steps", "2", "--image-size", "32", "--seed", "3", "--plot", str(plot)])
    assert set(rows(capsys.readouterr().out)) == {"right answer", "abs-diff"}
    assert plot.exists()


def test_an_unknown_fusion(capsys):
    with pytest.raises(SystemExit):
        black_white.main(["--fusion", "addition"])
    assert "invalid choice: 'addition'" in capsys.readouterr().err
