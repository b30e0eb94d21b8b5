"""Stick figures that wave, punch, jump, walk, bend or turn: short films of five joints in the plane."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.data.dataset import Dataset, Meta, Split, dataset

__all__ = ["ACTIONS", "JOINTS", "stick_figure_actions"]
__numerics__ = 1

ACTIONS = ("wave", "punch", "jump", "walk", "bend", "turn")
JOINTS = ("head", "left hand", "right hand", "left foot", "right foot")

# Standing at ease, in units of body height; the hip is the origin.
_REST = torch.tensor([[0.0, 0.5], [-0.25, 0.0], [0.25, 0.0], [-0.12, -0.5], [0.12, -0.5]])


def stick_figure_actions(
    n: int,
    *,
    speed: tuple[float, float] = (0.8, 1.2),
    frames: int = 30,
    noise: float = 0.02,
    seed: int = 0,
) -> Split:
    """Films of one action each, done twice, at a random speed, from a random phase, by a body of random size.

    A film at speed s has ``round(frames / s)`` frames, so that slow films are longer; shorter ones are filled
    up with zeros, and ``lengths`` says how many frames are real. The six movements are made of sines by hand:
    they stand in for recordings of people, which cannot be had offline.

    Args:
        n: number of films; the actions take turns.
        speed: slowest and fastest; the logarithm is uniform between them.
        frames: of a film at speed 1.
        noise: deviation of the independent noise on every coordinate, in body heights.
        seed: of all random numbers.

    Shape:
        x ``(n, longest, 5, 2)`` float32 in body heights, hip at the origin; y and lengths ``(n,)`` int64.

    >>> films = stick_figure_actions(12, speed=(0.5, 2.0))
    >>> films.x.shape[2:], int(films.lengths.min()) >= 15, ACTIONS[films.y[7]]
    (torch.Size([5, 2]), True, 'punch')
    """
    slow, fast = speed
    if n < 1 or not 0 < slow <= fast or frames < 2 * fast:
        raise ValueError(
            f"need n >= 1, 0 < slowest <= fastest and at least two frames a film, got n={n}, speed={speed}, "
            f"frames={frames}"
        )
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % len(ACTIONS)
    ratio = torch.rand(n, generator=g)
    lengths = (frames / (slow * (fast / slow) ** ratio)).round().long()
    time = torch.arange(int(lengths.max()))
    start = torch.rand(n, 1, generator=g)
    phase = 2 * torch.pi * (start + 2 * time / lengths[:, None])  # (n, t): two rounds from a random start
    films = torch.stack([_MOVES[action](phase) for action in ACTIONS])[y, torch.arange(n)]  # (n, t, 5, 2)
    size = 1 + 0.1 * (2 * torch.rand(n, 1, 1, 1, generator=g) - 1)
    films = size * films + noise * torch.randn(films.shape, generator=g)
    real = time < lengths[:, None]
    return Split(torch.where(real[:, :, None, None], films, 0.0), y, lengths)


@dataset(
    "stick_figure_actions",
    task="classification of films",
    x="(n, frames, 5, 2) float32: places of five joints in body heights, filled up with zeros",
    y="(n,) int64: the action; .lengths holds the number of real frames",
    licence="MIT (made by this package)",
    source="our own generator; train and validation at speeds 0.8 to 1.2, test at 0.4 to 2.5",
)
def _stick_figure_actions(
    meta: Meta,
    n: int = 600,
    speed: tuple[float, float] = (0.8, 1.2),
    test_speed: tuple[float, float] = (0.4, 2.5),
    frames: int = 30,
    noise: float = 0.02,
    seed: int = 0,
) -> Dataset:
    parts = ((n, speed), (300, speed), (300, test_speed))
    options = {"frames": frames, "noise": noise}
    splits = [
        stick_figure_actions(m, speed=s, seed=3 * seed + i, **options) for i, (m, s) in enumerate(parts)
    ]
    return Dataset(*splits, replace(meta, classes=ACTIONS, features=JOINTS))


def _pose(
    phase: Float[Tensor, "n t"], **moves: tuple[Tensor | float, Tensor | float]
) -> Float[Tensor, "n t 5 2"]:
    """The figure at rest with some joints moved by (sideways, upwards)."""
    pose = _REST.expand(*phase.shape, 5, 2).clone()
    for joint, (sideways, upwards) in moves.items():
        i = JOINTS.index(joint.replace("_", " "))
        pose[..., i, 0] += sideways
        pose[..., i, 1] += upwards
    return pose


def _wave(p: Tensor) -> Tensor:
    """The right hand swings to and fro above the head."""
    return _pose(p, right_hand=(0.1 + 0.2 * p.sin(), 0.65 + 0.05 * p.cos()))


def _punch(p: Tensor) -> Tensor:
    """Both hands at the chest; the right one shoots forward and comes back."""
    out = ((1 + p.sin()) / 2) ** 2
    return _pose(p, left_hand=(0.15, 0.25), right_hand=(-0.15 + 0.5 * out, 0.25 + 0.05 * out))


def _jump(p: Tensor) -> Tensor:
    """The whole body goes up and down, hands ahead of it."""
    up = p.sin().clamp(min=0)
    feet = (0.0, 0.25 * up - 0.1 * (-p.sin()).clamp(min=0))
    return _pose(
        p,
        head=(0.0, 0.25 * up),
        left_hand=(-0.1, 0.4 * up),
        right_hand=(0.1, 0.4 * up),
        left_foot=feet,
        right_foot=feet,
    )


def _walk(p: Tensor) -> Tensor:
    """Feet swing against each other and lift in turn; each hand swings with the foot of the other side."""
    swing, lift = 0.25 * p.sin(), 0.1 * p.cos()
    return _pose(
        p,
        head=(0.0, 0.02 * (2 * p).cos()),
        left_hand=(-0.6 * swing, 0.0),
        right_hand=(0.6 * swing, 0.0),
        left_foot=(swing, lift.clamp(min=0)),
        right_foot=(-swing, (-lift).clamp(min=0)),
    )


def _bend(p: Tensor) -> Tensor:
    """Head and hands go forward and down, then up again."""
    down = (1 + p.sin()) / 2
    return _pose(
        p,
        head=(0.35 * down, -0.3 * down),
        left_hand=(0.4 * down, -0.35 * down),
        right_hand=(0.25 * down, -0.35 * down),
    )


def _turn(p: Tensor) -> Tensor:
    """Seen from the front, a turning body grows narrow and wide: left and right change places."""
    pose = _pose(p)
    return torch.cat([pose[..., :1] * p.cos()[..., None, None], pose[..., 1:]], -1)


_MOVES = {"wave": _wave, "punch": _punch, "jump": _jump, "walk": _walk, "bend": _bend, "turn": _turn}
