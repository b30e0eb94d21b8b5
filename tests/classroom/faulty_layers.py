"""Small layers with one fault each, of those that show in another dtype, another run or another build."""

import torch
from torch import nn

from tests.classroom.layers_for_checks import Sound


class ReadsWhatItWrote(Sound):
    """Forward again, as checkpointing does, and another number is read."""

    def _add(self):
        self.register_buffer("steps", torch.empty((), dtype=torch.long))

    def start(self, name, x):
        x.zero_()

    def body(self, x):
        if self.training:
            self.steps += 1
        return super().body(x) * (1 + 0.5 * self.steps)


class ComputesOtherwiseCompiled(Sound):
    def body(self, x):
        return super().body(x.tanh() if torch.compiler.is_dynamo_compiling() else x)


class ComputesOtherwiseCompiledInTraining(Sound):
    """The value is right, the gradient is not."""

    def body(self, x):
        y = super().body(x)
        return y.detach() + 2 * (y - y.detach()) if torch.compiler.is_dynamo_compiling() else y


class CountsOnlyInPython(Sound):
    """Its buffer stays behind when it is compiled."""

    def _add(self):
        self.register_buffer("steps", torch.empty(()))

    def start(self, name, x):
        x.zero_()

    def body(self, x):
        if self.training and not torch.compiler.is_dynamo_compiling():
            self.steps += 1
        return super().body(x)


class BranchesOnWeights(Sound):
    """No branch where torch cannot take one, but vmap has many weights at once."""

    def body(self, x):
        if not torch.compiler.is_compiling() and not x.is_meta and (self.weight.abs() > 1e6).any():
            raise RuntimeError("the weights explode")
        return super().body(x)


class LoopsOverTime(Sound):
    def body(self, x):
        return torch.stack([super(LoopsOverTime, self).body(x_t) for x_t in x.unbind(-2)], -2)


class CountsTrainingOutside(Sound):
    """A number that training changes, evaluation reads and no state_dict holds."""

    steps = 0

    def body(self, x):
        if self.training:
            self.steps += 1
            return super().body(x)
        return super().body(x) * (1 + self.steps)


class GrowsOutside(Sound):
    factor = 1

    def grow(self) -> None:
        self.factor = 2

    def body(self, x):
        return super().body(x) * self.factor


class GrowsToAnotherShape(Sound):
    def grow(self) -> None:
        self.weight = nn.Parameter(torch.cat([self.weight, self.weight]))
        self.bias = nn.Parameter(torch.cat([self.bias, self.bias]))


class ForgetsTable(Sound):
    """The same in every build, so a round trip restores it; on the meta device it is lost."""

    def _add(self):
        self.register_buffer("table", torch.empty(self.dim), persistent=False)

    def start(self, name, x):
        x.copy_(torch.linspace(1, 2, self.dim))

    def body(self, x):
        return super().body(x) * self.table


class StartsInConstructorOnly(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(self.dim))

    def body(self, x):
        return super().body(x) * self.gain


class StartsOtherwiseInConstructor(Sound):
    def __init__(self) -> None:
        super().__init__()
        nn.init.uniform_(self.weight, -2, 2)


class LeavesCounter(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))


class LooksAtStartValues(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.largest = self.weight.abs().max().item()


class DecomposesAtTheStart(Sound):
    def reset_parameters(self):
        super().reset_parameters()
        nn.init.orthogonal_(self.weight)


class MixesUnderAutocast(Sound):
    """The weights stay wide where the input is narrow."""

    def body(self, x):
        return super().body(x).lerp(self.bias, 0.5)


class OverflowsForward(Sound):
    """Fits into float32, and into bfloat16, not into float16."""

    def body(self, x):
        return super().body(x) * 7e4 / 7e4


class SquaresInHalf(Sound):
    """The mean of squares leaves float16 at inputs that it could normalise."""

    def body(self, x):
        return super().body(x / ((4 * x).square().sum(-1, keepdim=True) + 1e-6).sqrt())


class CancelsInHalf(Sound):
    def body(self, x):
        return super().body((x + 3e4) - 3e4)


class Float32Inside(Sound):
    def body(self, x):
        return super().body(x.float().tanh().to(x.dtype) if x.dtype == torch.float64 else x.tanh())


class IsNotFinite(Sound):
    def body(self, x):
        return super().body(x).sub(1e3).sqrt()
