"""Interactive figures: every setting drawn once, the right drawing behind every position of the sliders."""

import base64
import io
import itertools
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from ipywidgets import HTML, SelectionSlider, Stack, Widget
from ipywidgets.embed import embed_data
from PIL import Image

from course_lib.classroom import explore
from course_lib.classroom.sliders import Explore


@pytest.fixture(autouse=True)
def plain_matplotlib():
    with mpl.rc_context({"backend": "agg"}):
        yield
    assert plt.get_fignums() == []  # every drawing is closed
    Widget.close_all()


def bars(height=1, colour="red", alpha=1.0):
    fig, ax = plt.subplots(figsize=(1, 1))
    ax.bar([0], [height], color=colour, alpha=alpha)
    ax.set(ylim=(0, 4))
    ax.axis("off")
    return fig


def alt_of(frame: HTML) -> str:
    return re.search(r'alt="([^"]*)"', frame.value)[1]


def parts(figure: Explore) -> tuple[list[SelectionSlider], Stack]:
    sliders = [child for child in figure.children if isinstance(child, SelectionSlider)]
    (stack,) = [child for child in figure.children if isinstance(child, Stack)]
    return sliders, stack


def links(figure: Explore) -> list[tuple]:
    """What the browser ties together: source, target, and what of each."""
    state = embed_data([figure])["manager_state"]["state"]
    found = [m["state"] for m in state.values() if m["model_name"] == "LinkModel"]
    mine = {reference(slider) for slider in parts(figure)[0]}  # the state holds every link of the process
    return [(*link["source"], *link["target"]) for link in found if link["source"][0] in mine]


def reference(widget: Widget) -> str:
    return f"IPY_MODEL_{widget.model_id}"


def test_one_control_shows_its_drawings_in_order():
    figure = explore(bars, alt="A bar.", height=[1, 2, 3])
    (slider,), stack = parts(figure)
    assert slider.options == ("1", "2", "3")
    assert [alt_of(frame) for frame in stack.children] == [f"A bar. (height {h})" for h in (1, 2, 3)]
    assert (slider.index, stack.selected_index) == (0, 0)
    assert links(figure) == [(reference(slider), "index", reference(stack), "selected_index")]


def test_two_controls_reach_every_drawing():
    def alt(height, colour):
        return f"{colour} bar of height {height}"

    figure = explore(bars, alt=alt, height=[1, 2], colour=["red", "green", "blue"])
    (first, second), outer = parts(figure)
    shown = [[alt_of(frame) for frame in stack.children] for stack in outer.children]
    assert shown == [[alt(h, c) for c in ("red", "green", "blue")] for h in (1, 2)]
    expected = {(reference(first), "index", reference(outer), "selected_index")} | {
        (reference(second), "index", reference(inner), "selected_index") for inner in outer.children
    }
    assert set(links(figure)) == expected
    assert len(links(figure)) == 3


def test_each_drawing_is_the_one_of_its_setting():
    figure = explore(bars, alt="A bar.", height=[1, 2, 3, 4])
    _, stack = parts(figure)
    heights = []
    for frame in stack.children:
        png = base64.b64decode(re.search(r"base64,([^\"]*)\"", frame.value)[1])
        alpha = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))[..., 3]
        heights.append((alpha > 0).any(axis=1).sum())
    assert np.allclose(np.array(heights) / heights[-1], [0.25, 0.5, 0.75, 1], atol=0.03)


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

    figure = explore(draw, alt="A bar.", bar_height={"low": 1, "high": 3}, alpha=[0.25, 1.0])
    sliders, outer = parts(figure)
    assert [slider.description for slider in sliders] == ["bar height", "alpha"]
    assert [slider.options for slider in sliders] == [("low", "high"), ("0.25", "1")]
    assert alt_of(outer.children[1].children[0]) == "A bar. (bar height high, alpha 0.25)"


def test_values_may_be_an_array():
    (slider,), _ = parts(explore(bars, alt="A bar.", height=np.linspace(1, 2, 3)))
    assert slider.options == ("1", "1.5", "2")


def test_alt_text_is_escaped():
    figure = explore(bars, alt='x < 1 & "y"', height=[1, 2])
    assert 'alt="x &lt; 1 &amp; &quot;y&quot; (height 1)"' in parts(figure)[1].children[0].value


def test_without_widgets_there_is_the_first_drawing_and_its_description():
    figure = explore(bars, alt="A bar.", height=[1, 2])
    bundle = figure._repr_mimebundle_()
    assert bundle["text/plain"] == "[interactive figure: height 1, 2] A bar. (height 1)"
    assert bundle["image/png"] in parts(figure)[1].children[0].value
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == figure.model_id


def test_the_size_is_that_of_the_drawings():
    figure = explore(bars, alt="A bar.", height=[1, 2])
    _, stack = parts(figure)
    assert figure.size_kb == pytest.approx(sum(len(frame.value) for frame in stack.children) / 1000)
    state = sum(len(str(m["state"])) for m in embed_data([figure])["manager_state"]["state"].values()) / 1000
    assert figure.size_kb < state < figure.size_kb + 12  # the widgets themselves weigh little


def test_frames_share_layout_and_style():
    _, stack = parts(explore(bars, alt="A bar.", height=[1, 2, 3]))
    assert len({frame.layout.model_id for frame in stack.children}) == 1
    assert len({frame.style.model_id for frame in stack.children}) == 1


def noise(seed):
    fig, ax = plt.subplots(figsize=(6, 6))
    ax.imshow(np.random.default_rng(seed).random((720, 720)), interpolation="nearest")
    ax.axis("off")
    return fig


def test_a_heavy_figure_warns():
    with pytest.warns(UserWarning, match=r"2 drawings weigh \d+ kB.*aim for 500 kB"):
        explore(noise, alt="Noise.", seed=[1, 2])


def test_a_far_too_heavy_figure_is_refused():
    with pytest.raises(ValueError, match=r"7 drawings weigh \d+ kB.*1500 kB at most"):
        explore(noise, alt="Noise.", seed=list(range(7)))


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
