"""Local learning against values of released code: the authors' of AugLocal, a peer's of Forward-Forward."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.training.local_learning import (
    AugLocal,
    ForwardForward,
    auxiliary_layer_index,
    goodness,
    pyramid_depth,
)
from tests.vectors import fill, vector

STAGES = [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]  # stage and number in it of the residual blocks


def test_auglocal_copies_the_layers_that_the_authors_copy():
    def sums(num_layers: int, depths: range | tuple[int, ...]) -> Tensor:
        rows = [
            [
                sum(k * i for k, i in enumerate(auxiliary_layer_index(l, num_layers, d), 1))
                for l in range(num_layers - 1)
            ]
            for d in depths
        ]
        return torch.tensor(rows, dtype=torch.float64)

    vector("auglocal", "copied layers").check(sums(16, range(1, 6)), sums(55, (2, 7, 9)))


def test_auglocal_has_the_depths_of_the_authors_pyramid():
    def depths(num_layers: int, depth: int) -> Tensor:
        modules = num_layers - depth
        return torch.tensor([pyramid_depth(l, modules, depth) for l in range(modules - 1)])

    pairs = ((16, 2), (16, 3), (16, 5), (55, 9))
    vector("auglocal", "pyramid").check(*(depths(*pair) for pair in pairs))


class Block(nn.Module):
    """The residual block with batch norms of their network; its stem where three colours come."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        conv = partial(nn.Conv2d, bias=False)
        self.conv1 = conv(in_channels, out_channels, 3, stride=stride, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.stem = in_channels == 3
        if self.stem:
            return
        self.conv2 = conv(out_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = nn.Sequential()
        if stride > 1 or in_channels != out_channels:
            shortcut = conv(in_channels, out_channels, 1, stride=stride)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn1(self.conv1(x)).relu()
        return h if self.stem else (self.bn2(self.conv2(h)) + self.downsample(x)).relu()


def their_name(ours: str) -> str:
    """The name in the authors' network of one of our parameters."""
    _, module, part, inner, rest = ours.split(".", 4)
    module, inner = int(module), int(inner)
    if part == "layers":
        layer = module + inner
        return rest if layer == 0 else "layer{}.{}.{}".format(*STAGES[layer - 1], rest)
    rest = rest.removeprefix("linear.")
    if module == 3:
        return f"fc.{rest}"
    stage, number = [(0, 0), *STAGES][module]
    place = 4 if inner == 2 else inner  # pooling and flattening stand in between
    return f"aux_classifier_{stage}_{number}.head.{place}.{rest}"


def test_auglocal_takes_the_gradients_of_the_authors_step():
    theirs = vector("auglocal", "step")
    plan = [(16, 1)] * 3 + [(32, 2), (32, 1), (64, 2)]
    model = AugLocal(Block, 3, plan, 5, auxiliary_depth=2, make_optimizer=partial(torch.optim.SGD, lr=0.0))
    fill(model, theirs.weights(), their_name)
    (x,) = theirs.given()
    y = torch.arange(4)
    losses = model.train_step(x, y)  # in training mode; a rate of zero leaves weights as they are
    gradients = {their_name(name): p.grad for name, p in model.named_parameters()}
    named = [name.removeprefix("gradient of ") for name in theirs.output if name.startswith("gradient of")]
    h = x
    for module in model.modules_in_order:
        h = module(h)  # batch norms in training mode: the same statistics as in the step
    logits = model.modules_in_order[-1].auxiliary(h)
    torch.testing.assert_close(F.cross_entropy(logits, y).item(), losses["module_4"])
    theirs.check(
        logits,
        torch.tensor([losses["module_4"]]),
        gradients["conv1.weight"].square().sum()[None],
        *(gradients[name] for name in named),
    )


def test_plain_forward_forward_has_the_losses_of_a_peer():
    theirs = vector("collaborative-forward-forward", "peer: plain Forward-Forward")
    model = ForwardForward(784, [6] * 3, 10, theta=6.0)  # their threshold is the width
    fill(model, theirs.weights(), lambda name: name.replace("layers", "model"))
    h = torch.cat(theirs.given())  # positive, then negative
    losses = []
    for i in range(3):
        h = model.layer_output(i, h)
        every = [torch.zeros(8, dtype=torch.float64)] * i + [goodness(h)]
        losses.append(model.layer_loss(i, every)[None] / 2)  # theirs is the mean over both kinds of data
    theirs.check(*losses)
