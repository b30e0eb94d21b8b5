"""Samples over seeds as rows of dots: a row for each arm, a dot for each seed, a stroke at the mean."""

from collections.abc import Iterable, Mapping

from course_lib.optional import needs

with needs("book"):
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

from course_lib.classroom.picture import figure
from course_lib.classroom.style import BLUE, GREY, VERMILLION
from course_lib.measure.sample import Sample

__all__ = ["dots"]


def dots(
    result: Mapping[str, Sample],
    panels: Mapping[str, str] | str,
    arms: Mapping[str, str],
    *,
    lines: Iterable[tuple[float, str]] | Mapping[str, Iterable[tuple[float, str]]] = (),
    log: bool = False,
    caption: str | None = None,
) -> None:
    """Show what each arm of an experiment measured, seed by seed.

    Args:
        result: the quantities of an experiment, by name.
        panels: for each panel what is added to an arm's name to get that of its quantity, and the words
            below the axis; or the words alone, for one panel of quantities named like the arms.
        arms: for each arm the words beside its row.
        lines: places to mark by a dotted line, each with its words; of every panel, or by the panel's key.
        log: whether the axis is logarithmic.
        caption: a line under the figure.

    Raises:
        KeyError: for a quantity that the result does not have.

    >>> dots({"a": Sample((1.0, 2.0))}, "loss", {"a": "arm A"}, lines=[(0.5, "counted")])
    [figure] A dot for each seed, a stroke at the mean. arm A, loss: 1.50 ± 0.71; dotted line, counted: 0.5.
    """
    panels = {"": panels} if isinstance(panels, str) else panels
    lines = lines if isinstance(lines, Mapping) else dict.fromkeys(panels, tuple(lines))
    samples = {suffix: [result[name + suffix] for name in arms] for suffix in panels}
    fig, axes = plt.subplots(
        1, len(panels), figsize=(7.5, 0.75 + 0.27 * len(arms)), sharey=True, squeeze=False
    )
    told = []
    for ax, (suffix, xlabel) in zip(axes[0], panels.items(), strict=True):
        for row, (label, sample) in enumerate(zip(arms.values(), samples[suffix], strict=True)):
            ax.plot(sample.values, [row] * len(sample.values), "o", color=BLUE, alpha=0.8, markeredgewidth=0)
            ax.plot([sample.mean], [row], "|", color=VERMILLION, markersize=16, markeredgewidth=3)
            told.append(f"{label}, {xlabel}: {sample}")
        for place, words in lines.get(suffix, ()):
            ax.axvline(place, color=GREY, linestyle=":", linewidth=1.5)
            ax.text(place, -0.75, words, fontsize=9, ha="center", va="bottom")
        ax.set(xlabel=xlabel, ylim=(len(arms) - 0.5, -0.7), xscale="log" if log else "linear")
        if len(panels) > 1 and not log:  # labels at the ends of neighbours would touch
            ax.xaxis.set_major_locator(MaxNLocator(10 // len(panels), prune="both"))
        ax.grid(axis="y")
        ax.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(range(len(arms)), list(arms.values()))
    drawn = dict.fromkeys(line for some in lines.values() for line in some)  # each once
    told += [f"dotted line, {words}: {place:.3g}" for place, words in drawn]
    figure(fig, alt="A dot for each seed, a stroke at the mean. " + "; ".join(told) + ".", caption=caption)
