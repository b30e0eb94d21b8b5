"""Rows of dots: what stands where, and in words."""

import matplotlib.pyplot as plt
import pytest

from course_lib.classroom.by_seed import dots
from course_lib.measure import Sample

RESULT = {f"{arm}{what}": Sample((1.0, 3.0)) for arm in "ab" for what in ("", "_time")}
ARMS = {"a": "arm A", "b": "arm B"}


@pytest.fixture
def drawn(monkeypatch):
    """The figure and the words that dots gives to the page."""
    given = {}
    monkeypatch.setattr(
        "course_lib.classroom.by_seed.figure", lambda fig, **told: given.update(told, fig=fig)
    )
    yield given
    plt.close("all")


def test_every_seed_is_a_dot_and_every_mean_a_stroke(drawn):
    dots(RESULT, {"": "loss", "_time": "seconds"}, ARMS, lines=[(0.5, "counted")], log=True)
    assert len(drawn["fig"].axes) == 2
    for ax, xlabel in zip(drawn["fig"].axes, ("loss", "seconds"), strict=True):
        assert (ax.get_xlabel(), ax.get_xscale()) == (xlabel, "log")
        lines = [[list(map(float, xy)) for xy in line.get_xydata()] for line in ax.lines]
        assert [[1.0, 0.0], [3.0, 0.0]] in lines
        assert [[2.0, 1.0]] in lines
    assert [tick.get_text() for tick in drawn["fig"].axes[0].get_yticklabels()] == ["arm A", "arm B"]
    assert "arm B, seconds: 2.0 ± " in drawn["alt"]
    assert "counted: 0.5" in drawn["alt"]


def test_a_line_may_belong_to_one_panel_or_to_all(drawn):
    def dotted():
        return [sum(line.get_linestyle() == ":" for line in ax.lines) for ax in drawn["fig"].axes]

    panels = {"": "loss", "_time": "seconds"}
    dots(RESULT, panels, ARMS, lines={"": [(0.5, "counted")]})
    assert dotted() == [1, 0]
    dots(RESULT, panels, ARMS, lines=iter([(0.5, "counted")]))
    assert dotted() == [1, 1]
    assert drawn["alt"].count("counted") == 1


def test_labels_of_neighbouring_panels_do_not_touch(drawn):
    dots(RESULT, {"": "loss", "_time": "seconds"}, ARMS)
    drawn["fig"].canvas.draw()
    left, right = (ax.xaxis.get_majorticklabels() for ax in drawn["fig"].axes)
    boxes = [label.get_window_extent() for label in (left[-1], right[0])]
    assert boxes[0].x1 < boxes[1].x0


def test_one_panel_needs_words_only(drawn):
    dots(RESULT, "loss", ARMS, caption="below")
    assert [ax.get_xlabel() for ax in drawn["fig"].axes] == ["loss"]
    assert drawn["caption"] == "below"


def test_a_quantity_that_is_not_there_is_an_error():
    with pytest.raises(KeyError, match="c"):
        dots(RESULT, "loss", {"c": "none"})
