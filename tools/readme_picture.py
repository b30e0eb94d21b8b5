"""Draw the picture of the README: ``python tools/readme_picture.py`` writes book/_static/readme.png."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from course_lib.classroom.style import BLUE, GREEN, ORANGE, VERMILLION, use_style
from course_lib.layers.norm import TransformerBlock, residual_variance_profile

PICTURE = Path(__file__).resolve().parents[1] / "book/_static/readme.png"
COLOURS = {"none": VERMILLION, "post": GREEN, "pre": ORANGE, "peri": BLUE}


def main() -> None:
    """The residual stream of 16 blocks over depth, for four placements of the norm."""
    use_style()
    fig, ax = plt.subplots(figsize=(6.5, 2.8))
    for placement, colour in COLOURS.items():
        torch.manual_seed(0)
        blocks = [TransformerBlock(64, 4, norm=placement) for _ in range(16)]
        profile = residual_variance_profile(blocks, torch.randn(4, 32, 64))
        ax.plot(profile, color=colour, marker="o", markersize=3, label=placement)
    ax.set(
        yscale="log", xlabel="block", ylabel="mean square of the stream", title="Where does the norm stand?"
    )
    ax.legend()
    fig.savefig(PICTURE, dpi=144, transparent=True)


if __name__ == "__main__":
    main()
