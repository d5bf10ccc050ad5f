"""The example of searching, in small."""

import re

import pytest

pytest.importorskip("matplotlib").use("Agg")


def test_it_learns_and_finds_the_same_everywhere(tmp_path, capsys):
    from examples import search

    plot = tmp_path / "new folder" / "digits.png"
    search.main(["--epochs", "15", "--plot", str(plot)])
    printed = capsys.readouterr().out
    assert float(re.search(r"neighbors: ([\d.]+)% right", printed)[1]) > 93
    assert "faiss finds the same: True" in printed
    assert "from the file on disk: the same: True" in printed
    assert plot.read_bytes().startswith(b"\x89PNG")
