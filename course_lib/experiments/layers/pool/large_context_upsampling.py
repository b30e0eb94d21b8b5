"""Trained claims of large-context-upsampling."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data import load
from course_lib.data.canvas import centre_heatmaps
from course_lib.experiments.layers.pool._shared import canvases
from course_lib.layers.pool import (
    LargeContextTransposedConv2d,
    spectral_artifact_energy,
)
from course_lib.measure import Sample, at_most, experiment, paper_claim, question
from course_lib.training.loop import cosine_schedule, fit


class FixedFeatures(nn.Module):
    """The image itself beside random features that are not trained, so that only the decoder learns."""

    def __init__(self, channels: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("weight", torch.randn(channels - 1, 1, 3, 3, generator=generator) / 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, F.conv2d(x - 0.5, self.weight, padding=1).relu()], dim=1)


DECODERS: dict[str, tuple[int, Callable[[int], nn.Module]]] = {
    # channels of the features, and the one layer whose weights are fitted
    "2x2": (16, lambda c: nn.ConvTranspose2d(c, 1, 2, 2, bias=False)),
    "3x3": (16, lambda c: nn.ConvTranspose2d(c, 1, 3, 2, 1, output_padding=1, bias=False)),
    "3x3_wide": (103, lambda c: nn.ConvTranspose2d(c, 1, 3, 2, 1, output_padding=1, bias=False)),
    "7x7+3x3": (16, lambda c: LargeContextTransposedConv2d(c, 1, bias=False)),
}


def grey_pairs(split: str) -> tuple[Tensor, Tensor]:
    """Grey photo patches of 32 x 32 pixels and their halves: (16 x 16, 32 x 32)."""
    high = load("photos").splits[split].x.mean(1, keepdim=True)
    return F.avg_pool2d(high, 2), high


def harm(m: Mapping[str, Sample], name: str) -> Sample:
    """By how much the attack raises the error of a decoder."""
    return m[f"{name}_attacked"] - m[f"{name}_error"]


def interior(x: Tensor) -> Tensor:
    """Without a border of four pixels, where the decoders see zeros."""
    return x[..., 4:-4, 4:-4]


def interior_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of the interior."""
    return F.mse_loss(interior(output), interior(target))


@torch.no_grad()
def fit_by_least_squares(decoder: nn.Module, features: Tensor, target: Tensor) -> None:
    """The best weights of a transposed convolution of stride 2: a linear problem for each of four phases.

    Output row 2 i + a reads tap u from feature row i + (a + padding - u) / 2, where that is whole. A small
    branch beside a large one adds nothing to what can be expressed and stays zero.
    """
    if isinstance(decoder, LargeContextTransposedConv2d):
        decoder.small.weight.zero_()
        decoder = decoder.large
    padding, taps = decoder.padding[0], range(decoder.kernel_size[0])
    reach = range(2, features.shape[-1] - 2)  # the rows behind the interior of the target
    rows = torch.tensor(reach)
    for a in (0, 1):
        for b in (0, 1):
            used = [
                (u, v) for u in taps for v in taps if not ((a + padding - u) % 2 or (b + padding - v) % 2)
            ]
            columns = [
                features[:, :, rows + (a + padding - u) // 2][..., rows + (b + padding - v) // 2]
                for u, v in used
            ]
            x = torch.stack(columns, 1).permute(0, 3, 4, 1, 2).flatten(3).flatten(0, 2).double()
            y = target[:, 0, a::2, b::2][:, rows][:, :, rows].flatten().double()
            gram = x.mT @ x
            gram.diagonal().add_(1e-6 * gram.diagonal().mean())
            weights = torch.linalg.solve(gram, x.mT @ y).reshape(len(used), -1).to(features)
            for (u, v), weight in zip(used, weights, strict=True):
                decoder.weight[:, 0, u, v] = weight


SOLVED = "one layer, solved exactly"


@experiment(
    paper="large-context-upsampling",
    seeds=10,
    trained={"*_error": lambda m: at_most(m["bilinear"].mean)},
    claims=[
        question(
            "a 7 x 7 kernel beside a 3 x 3 can restore more than a 3 x 3: ratio of errors",
            of=SOLVED,
            value=lambda m: m["7x7+3x3_error"] / m["3x3_error"],
            expect=at_most(0.9),
            verdict="not as expected",
        ),
        question(
            "it leaves less energy at the copies of the spectrum: ratio",
            of=SOLVED,
            value=lambda m: m["7x7+3x3_energy"] / m["3x3_energy"],
            expect=at_most(1.0),
        ),
        question(
            "it is more stable: harm of a one-step attack, 7 x 7 + 3 x 3 over 3 x 3",
            of=SOLVED,
            value=lambda m: harm(m, "7x7+3x3") / harm(m, "3x3"),
            expect=at_most(1.0),
            verdict="not as expected",
        ),
    ],
)
def upsampling(seed: int) -> dict[str, float]:
    """Photos of half size brought back by one layer on fixed features, solved exactly by least squares.

    Squared error, energy at the copies of the spectrum, squared error after a one-step attack.
    """
    (train_low, train_high), (low, high) = grey_pairs("train"), grey_pairs("test")
    bilinear = F.interpolate(low, scale_factor=2, mode="bilinear")
    result = {
        "bilinear": interior_loss(bilinear, high).item(),
        "photo_energy": spectral_artifact_energy(interior(high)).mean().item(),
    }
    for name, (channels, make_decoder) in DECODERS.items():
        torch.manual_seed(seed)
        model = nn.Sequential(FixedFeatures(channels, seed), make_decoder(channels))
        fit_by_least_squares(model[1], model[0](train_low), train_high)
        result[f"{name}_error"] = interior_loss(model(low), high).item()
        moved = attacked(model, low, high, interior_loss)
        result[f"{name}_attacked"] = interior_loss(model(moved), high).item()
        with torch.no_grad():
            result[f"{name}_energy"] = spectral_artifact_energy(interior(model(low))).mean().item()
    return result


def attacked(model: nn.Module, x: Tensor, target: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The input after one step of 4/255 along the sign of the gradient of the loss."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(model(x), target), x)
    return (x + 4 / 255 * gradient.sign()).detach()


STEPS_UP: dict[str, tuple[int, Callable[[int, int], nn.Module]]] = {
    # channels between two steps up, and the layer of both steps; with 62 channels 3x3 has as many weights
    "2x2": (16, lambda a, b: nn.ConvTranspose2d(a, b, 2, 2)),
    "3x3": (16, lambda a, b: nn.ConvTranspose2d(a, b, 3, 2, 1, output_padding=1)),
    "3x3_wide": (62, lambda a, b: nn.ConvTranspose2d(a, b, 3, 2, 1, output_padding=1)),
    "7x7+3x3": (16, lambda a, b: LargeContextTransposedConv2d(a, b)),
}


def two_steps_up(channels: int, step: Callable[[int, int], nn.Module]) -> nn.Module:
    """24 x 24 to 6 x 6 by two strided convolutions, and back by two steps of upsampling."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, channels, 3, 2, 1),
        nn.ReLU(),
        step(channels, 16),
        nn.ReLU(),
        step(16, 1),
    )


UP = "heat maps, two steps up"


@experiment(
    paper="large-context-upsampling",
    seeds=10,
    trained={"*_error": lambda m: at_most(m["one_map"].mean)},
    claims=[
        paper_claim(
            "large spatial context makes predictions stable: error under a one-step attack, 7 x 7 + 3 x 3 "
            "over 2 x 2",
            where="abstract",
            headline=True,
            of=UP,
            scale="four convolutions on canvases of 24 x 24 and one step of an attack; the paper: networks "
            "for restoration, segmentation and disparity, and attacks of many steps",
            value=lambda m: m["7x7+3x3_attacked"] / m["2x2_attacked"],
            expect=at_most(1.0),
            verdict="not tested",
        ),
        paper_claim(
            "large spatial context makes predictions of high quality: error of 7 x 7 + 3 x 3 over 2 x 2",
            where="abstract",
            of=UP,
            value=lambda m: m["7x7+3x3_error"] / m["2x2_error"],
            expect=at_most(1.0),
            verdict="not tested",
        ),
        question(
            "it is the context and not the number of weights: error of 7 x 7 + 3 x 3 over a 3 x 3 with as "
            "many",
            of=UP,
            value=lambda m: m["7x7+3x3_error"] / m["3x3_wide_error"],
            expect=at_most(1.0),
            verdict="open",
        ),
        question(
            "the same under the attack: error of 7 x 7 + 3 x 3 over a 3 x 3 with as many weights",
            of=UP,
            value=lambda m: m["7x7+3x3_attacked"] / m["3x3_wide_attacked"],
            expect=at_most(1.0),
            verdict="open",
        ),
        question(
            "the attack does less harm: rise of the error, 7 x 7 + 3 x 3 over 2 x 2",
            of=UP,
            value=lambda m: harm(m, "7x7+3x3") / harm(m, "2x2"),
            expect=at_most(1.0),
            verdict="open",
        ),
    ],
)
def upsampling_network(seed: int) -> dict[str, float]:
    """Heat maps of a digit's centre by a network with two steps of upsampling, 200 steps of 32 canvases.

    Squared error, squared error after a one-step attack; and that of one map for all canvases.
    """
    train, test = canvases("train", 4000, 3), canvases("test", 400, 3)
    targets = [centre_heatmaps(split.boxes, 24) for split in (train, test)]
    result = {"one_map": F.mse_loss(targets[0].mean(0).expand_as(targets[1]), targets[1]).item()}
    for name, (channels, step) in STEPS_UP.items():
        torch.manual_seed(seed)
        model = two_steps_up(channels, step)
        options = {"loss": F.mse_loss, "schedule": cosine_schedule(), "seed": seed}
        fit(model, (train.x, targets[0]), steps=200, batch_size=32, lr=1e-2, **options)
        moved = attacked(model, test.x, targets[1], F.mse_loss)
        with torch.no_grad():
            result[f"{name}_error"] = F.mse_loss(model(test.x), targets[1]).item()
            result[f"{name}_attacked"] = F.mse_loss(model(moved), targets[1]).item()
    return result
