"""Small helpers that several files of this chapter share."""

from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._shapes import require_width

__all__ = ["SqueezeExcite", "require_image"]


def require_image(x: Tensor, channels: int, layer: str) -> None:
    """Raise ``ValueError`` unless ``x`` is a batch of images with so many channels."""
    if x.ndim != 4:
        raise ValueError(f"{layer} takes images (b, c, i, j), got shape {tuple(x.shape)}")
    require_width(x, channels, f"{layer}({channels})", axis=1)


class SqueezeExcite(nn.Module):
    """Scale every channel by a gate that reads the means of all channels; as LSNet and SpaRTAN use it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(4, channels // 4)  # a gate with one hidden unit is easily dead
        self.gate = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        return x * self.gate(x.mean((2, 3), keepdim=True))
