"""Interactive figures: every setting drawn once, the right drawing behind every position of the sliders."""

import html
import itertools
import json
import re
import zlib

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from course_lib.classroom import explore
from course_lib.classroom.sliders import Explore


@pytest.fixture(autouse=True)
def plain_matplotlib():
    with mpl.rc_context({"backend": "agg"}):
        yield
    assert plt.get_fignums() == []  # every drawing is closed


def bars(height=1, colour="red", alpha=1.0):
    fig, ax = plt.subplots(figsize=(1, 1))
    ax.bar([0], [height], color=colour, alpha=alpha)
    ax.set(ylim=(0, 4))
    ax.axis("off")
    return fig


def frames(figure: Explore) -> list[str]:
    """The drawings in order, as HTML."""
    return re.split(r'(?=<div class="course-frame")', figure.html_text)[1:]


def alts(figure: Explore) -> list[str]:
    return [html.unescape(re.search(r'aria-label="([^"]*)"', frame)[1]) for frame in frames(figure)]


def sliders(figure: Explore) -> dict[str, list[str]]:
    """The labels of each slider by its name."""
    names = re.findall(r"<label><span>(.*?)</span>", figure.html_text)
    labels = re.findall(r'data-labels="(.*?)"', figure.html_text)
    return {name: json.loads(html.unescape(text)) for name, text in zip(names, labels, strict=True)}


def test_one_control_shows_its_drawings_in_order_the_first_at_first():
    figure = explore(bars, alt="A bar.", height=[1, 2, 3])
    assert sliders(figure) == {"height": ["1", "2", "3"]}
    assert 'min="0" max="2" value="0" aria-valuetext="1"' in figure.html_text
    assert alts(figure) == [f"A bar. (height {h})" for h in (1, 2, 3)]
    assert [frame.startswith('<div class="course-frame" hidden>') for frame in frames(figure)] == [
        False,
        True,
        True,
    ]


def test_two_controls_reach_every_drawing_the_last_fastest():
    def alt(height, colour):
        return f"{colour} bar of height {height}"

    figure = explore(bars, alt=alt, height=[1, 2], colour=["red", "green", "blue"])
    assert list(sliders(figure)) == ["height", "colour"]
    assert alts(figure) == [alt(h, c) for h in (1, 2) for c in ("red", "green", "blue")]


def test_each_drawing_is_the_one_of_its_setting():
    figure = explore(bars, alt="A bar.", height=[1, 2, 3, 4])
    heights = []
    for frame in frames(figure):
        (path,) = re.findall(r'<path d="(M [^"]*)" clip-path="[^"]*" style="fill: #ff0000', frame)
        ys = [float(y) for y in re.findall(r"[ML] \S+ (\S+)", path)]
        heights.append(max(ys) - min(ys))
    assert np.allclose(np.array(heights) / heights[-1], [0.25, 0.5, 0.75, 1], atol=0.01)


def test_every_setting_is_drawn_once():
    calls = []

    def draw(height, colour):
        calls.append((height, colour))
        return bars(height, colour)

    explore(draw, alt="A bar.", height=[1, 2], colour=["red", "blue"])
    assert calls == list(itertools.product([1, 2], ["red", "blue"]))


def test_labels_come_from_names_and_may_be_chosen():
    def draw(bar_height, alpha):
        return bars(bar_height, alpha=alpha)

    figure = explore(draw, alt="A bar.", bar_height={"low": 1, "<high>": 3}, alpha=[0.25, 1.0])
    assert sliders(figure) == {"bar height": ["low", "<high>"], "alpha": ["0.25", "1"]}
    assert alts(figure)[2] == "A bar. (bar height <high>, alpha 0.25)"
    assert "<high>" not in figure.html_text


def test_values_may_be_an_array():
    assert sliders(explore(bars, alt="A bar.", height=np.linspace(1, 2, 3)))["height"] == ["1", "1.5", "2"]


def test_where_no_html_is_shown_there_is_a_description():
    figure = explore(bars, alt='x < 1 & "y"', height=[1, 2])
    assert repr(figure) == '[interactive figure: height 1, 2] x < 1 & "y" (height 1)'
    assert set(figure._repr_mimebundle_()) == {"text/html", "text/plain"}


def test_the_size_is_that_of_the_drawings_compressed():
    figure = explore(bars, alt="A bar.", height=[1, 2])
    drawn = "".join(re.search(r"<figure.*</figure>", frame, re.DOTALL)[0] for frame in frames(figure))
    assert figure.size_kb == pytest.approx(len(zlib.compress(drawn.encode())) / 1000)
    assert figure.size_kb < len(drawn) / 2000


def noise(seed):
    fig, ax = plt.subplots(figsize=(1, 1))
    ax.imshow(np.random.default_rng(seed).random((90, 90)), interpolation="nearest")
    ax.axis("off")
    return fig


def test_a_heavy_figure_warns_and_a_far_too_heavy_one_is_refused(monkeypatch):
    monkeypatch.setattr("course_lib.classroom.sliders._HEAVY_KB", 10)
    with pytest.warns(UserWarning, match=r"2 drawings weigh \d+ kB.*aim for 10 kB"):
        explore(noise, alt="Noise.", seed=[1, 2])
    monkeypatch.setattr("course_lib.classroom.sliders._TOO_HEAVY_KB", 20)
    with pytest.raises(ValueError, match=r"2 drawings weigh \d+ kB.*20 kB at most"):
        explore(noise, alt="Noise.", seed=[1, 2])


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({}, "one or two controls, got 0"),
        ({"height": [1, 2], "colour": ["red", "blue"], "alpha": [0.5, 1.0]}, "got 3"),
        ({"height": [1]}, "'height' needs two or more different values"),
        ({"height": [1, 1]}, "'height' needs two or more different values"),
        ({"colour": "red"}, "needs a list of values"),
        ({"height": 3}, "needs a list of values"),
        ({"height": list(range(12)), "alpha": [i / 11 for i in range(11)]}, "132 drawings are too many"),
    ],
)
def test_wrong_controls_are_refused(controls, message):
    with pytest.raises(ValueError, match=message):
        explore(bars, alt="A bar.", **controls)


@pytest.mark.parametrize("alt", ["", "  ", lambda height: ""])
def test_a_figure_without_alt_text_is_refused(alt):
    with pytest.raises(ValueError, match="needs alt texts"):
        explore(bars, alt=alt, height=[1, 2])
    plt.close("all")


def test_a_draw_that_returns_no_figure_is_refused():
    with pytest.raises(ValueError, match=r"draw\(\{'height': 1\}\) returned NoneType"):
        explore(lambda height: None, alt="A bar.", height=[1, 2])
