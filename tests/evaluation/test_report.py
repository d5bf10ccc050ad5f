"""What a report shows: a table, a page, a picture, and plain numbers."""

import json
import math

import matplotlib
import pytest
from evaluation.cases import comparator, labeled_items

import pairfuse as pf


@pytest.fixture(scope="module")
def report():
    """A report with errors of both kinds."""
    return pf.evaluate(comparator(), *labeled_items(40))


def test_the_table(report):
    """Every figure has a line with its interval; rates have their threshold."""
    lines = str(report).splitlines()
    assert lines[0] == "240 positive and 12,480 negative pairs of 160 items of 40 identities"
    names = [line.split("  ")[0] for line in lines[2:]]
    rates = ["TAR at FAR 0.001", "TAR at FAR 0.01", "TAR at FAR 0.1"]
    assert names == ["AUC", "average precision", "EER", *rates, "log loss", "Brier score", "calibration error"]
    assert f"score ≥ {report.thresholds[0.01]:.4g}" in lines[6]
    assert f"{report.auc}" in lines[2]


def test_digits_follow_the_interval():
    """Two digits of half the width are shown, also near 1."""
    assert str(pf.evaluation.Estimate(0.99987, 0.99979, 0.99992)) == "0.999870 [0.999790, 0.999920]"
    assert str(pf.evaluation.Estimate(0.5, 0.3, 0.7)) == "0.50 [0.30, 0.70]"
    assert str(pf.evaluation.Estimate(0.51234)) == "0.5123"
    assert str(pf.evaluation.Estimate(0.5, 0.5, 0.5)) == "0.5000 [0.5000, 0.5000]"


def test_the_page(report):
    """In a notebook it is a table of HTML."""
    page = report._repr_html_()
    assert page.count("<tr>") == 9
    assert "score ≥ " in page


def test_plain_numbers(report):
    """The dictionary is JSON, without hidden parts."""
    read = json.loads(json.dumps(report.to_dict()))
    assert read["auc"]["value"] == report.auc.value
    assert [row["far"] for row in read["tar"]] == [0.001, 0.01, 0.1]
    assert read["tar"][1]["threshold"] == report.thresholds[0.01]
    assert not any(name.startswith("_") for name in read)


def test_the_picture(report):
    """Three panels: errors on normal-deviate axes, scores with thresholds, probabilities."""
    figure = report.plot()
    errors, scores, probabilities = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["errors", "scores", "probabilities, half of the pairs same"]
    x, y = errors.lines[1].get_data()  # the point at FAR 0.001
    assert float(x[0]) == pytest.approx(-3.1, abs=0.05)
    miss = 1 - report.tar[0.001].value
    assert math.erfc(-float(y[0]) / math.sqrt(2)) / 2 == pytest.approx(miss, abs=1e-6)
    assert len(scores.lines) == 4
    values = [patch.get_data().values.sum() for patch in scores.patches]
    assert values == pytest.approx([1, 1])
    assert probabilities.get_xlabel() == "predicted"
    matplotlib.pyplot.close(figure)


def test_the_picture_in_a_figure_of_the_user(report):
    """It fills a subfigure and leaves the other one alone."""
    figure = matplotlib.pyplot.figure()
    above, below = figure.subfigures(2, 1)
    assert report.plot(above) is above
    assert [len(part.axes) for part in (above, below)] == [3, 0]
    matplotlib.pyplot.close(figure)
