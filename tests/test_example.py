"""The quick start, in small."""

import re

import matplotlib
import pytest

from examples import black_white

matplotlib.use("Agg")


def rows(printed: str) -> dict[str, list[float]]:
    """The numbers of each printed row: four probabilities, cross-entropy, accuracy in per cent."""
    found = re.findall(r"^ *([a-z][a-z -]*?)  +((?:[\d.]+ +){5})(\d+)%$", printed, re.MULTILINE)
    return {title: [float(x) for x in numbers.split()] + [float(accuracy)] for title, numbers, accuracy in found}


def test_the_whole_page(tmp_path, capsys):
    """Concat fails, the others and the controls succeed, and the picture is drawn."""
    plot = tmp_path / "picture.png"
    black_white.main(["--steps", "100", "--image-size", "32", "--plot", str(plot)])
    table = rows(capsys.readouterr().out)
    assert set(table) == {"right answer", *black_white.FUSIONS, *black_white.CONTROLS}
    assert table["concat"][4] >= 0.65
    assert table["concat"][5] <= 75
    for title in {*black_white.FUSIONS, *black_white.CONTROLS} - {"concat"}:
        assert table[title][5] == 100, title
    for title in {*black_white.FUSIONS} - {"concat"}:
        errors = [abs(p - y) for p, y in zip(table[title][:4], table["right answer"][:4], strict=True)]
        assert max(errors) < 0.1, title
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
