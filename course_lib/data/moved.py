"""Images moved by a pixel: more examples for training, and a test of what a layer makes of place."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__numerics__ = 1


def moved_by_a_pixel(
    images: Float[Tensor, "b c u v"], generator: torch.Generator
) -> Float[Tensor, "b c u v"]:
    """Move every image by -1, 0 or 1 pixel in both directions; what leaves comes in on the other side.

    Args:
        images: at least one channel.
        generator: of the random moves.

    >>> ramp = torch.arange(4.0).reshape(1, 1, 2, 2)
    >>> sorted(moved_by_a_pixel(ramp, torch.Generator()).flatten().tolist())
    [0.0, 1.0, 2.0, 3.0]
    """
    b, _, u, v = images.shape
    down, right = torch.randint(-1, 2, (2, b, 1), generator=generator)
    rows, columns = (torch.arange(u) - down) % u, (torch.arange(v) - right) % v
    row_of_batch = torch.arange(b)[:, None, None]
    return images[row_of_batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def moved_each_way(images: Float[Tensor, "b c u v"]) -> list[Float[Tensor, "b c u v"]]:
    """The images one pixel further down, up, right and left; zeros come in.

    Args:
        images: at least one channel.

    >>> down, up, right, left = moved_each_way(torch.eye(2)[None, None])
    >>> down.squeeze().tolist(), right.squeeze().tolist()
    ([[0.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]])
    """
    u, v = images.shape[-2:]
    padded = F.pad(images, (1, 1, 1, 1))
    return [padded[..., i : i + u, j : j + v] for i, j in ((0, 1), (2, 1), (1, 0), (1, 2))]
