"""Small layers for the tests of the contract: a sound one, one for each fault, and special cases."""

import threading

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.classroom._contract import CHECKS
from course_lib.classroom._contract.subject import Failure, NotApplicable, Subject
from course_lib.classroom.checks import LayerCheckError, check_layer
from course_lib.layers._streaming import Streaming
from course_lib.registry import Traits


class Sound(nn.Module):
    """A linear layer that keeps the contract; every faulty layer below is one of these."""

    def __init__(self, dim: int = 6) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.empty(dim, dim))
        self.bias = nn.Parameter(torch.empty(dim))
        self._add()
        self.reset_parameters()

    def _add(self) -> None:
        """More parameters and buffers, empty."""

    def start(self, name: str, x: Tensor) -> None:
        """Start values of what ``_add`` added."""

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.weight.normal_(std=self.dim**-0.5)
        self.bias.normal_()
        for name, x in [*self.named_parameters(), *self.named_buffers()]:
            if name not in ("weight", "bias"):
                self.start(name, x)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.dim:
            raise ValueError(f"expected width {self.dim}, got {x.shape[-1]}")
        return self.body(x)

    def body(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.dim}"


class GrowsWithEveryCall(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def body(self, x):
        self.calls += 1
        return F.pad(super().body(x), (0, self.calls))


class ReturnsDouble(Sound):
    """Right in float64 and in bfloat16, so that nothing but the plain call shows it."""

    def body(self, x):
        y = super().body(x)
        return y.double() if y.dtype == torch.float32 else y


class ScalesItsInput(Sound):
    def body(self, x):
        x.mul_(0.5)
        return super().body(x)


class DropsInEvaluation(Sound):
    def body(self, x):
        return super().body(F.dropout(x, 0.5, training=True))


class DropsInTraining(Sound):
    def body(self, x):
        return super().body(F.dropout(x, 0.5, training=self.training))


class HasUnusedParameter(Sound):
    def _add(self):
        self.unused = nn.Parameter(torch.empty(self.dim))

    def start(self, name, x):
        x.normal_()


class HasUselessParameter(Sound):
    """Softmax does not see a common shift, so the gradient is zero but for rounding."""

    def _add(self):
        self.shift = nn.Parameter(torch.empty(1))

    def start(self, name, x):
        x.normal_()

    def body(self, x):
        return torch.softmax(super().body(x) + self.shift, -1)


class HasInfiniteGradient(Sound):
    """The value is fine, the derivative of the root at 0 is not."""

    def body(self, x):
        return super().body(x) + (0 * self.bias).sqrt()


class _WrongSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, dy):
        return ctx.saved_tensors[0] * dy  # the 2 is missing


class HasWrongBackward(Sound):
    def body(self, x):
        return _WrongSquare.apply(super().body(x))


class ForgetsRandomFeatures(Sound):
    def _add(self):
        self.register_buffer("features", torch.empty(self.dim, self.dim), persistent=False)

    def start(self, name, x):
        x.normal_()

    def body(self, x):
        return super().body(x) @ self.features


class SavesNoBias(Sound):
    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        del destination[f"{prefix}bias"]


class HoldsLambda(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.activation = lambda x: x.tanh()

    def body(self, x):
        return self.activation(super().body(x))


class HoldsLock(Sound):
    """Can be neither copied nor pickled, but built again."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class AddsFloat32(Sound):
    """float32 and float64 inputs keep their dtype when this constant is added, bfloat16 does not."""

    def body(self, x):
        return super().body(x) + torch.ones(self.dim, device=x.device)


class MixesDtypes(Sound):
    def body(self, x):
        return F.linear(x, self.weight.float(), self.bias.float()).to(x.dtype)


class AddsOnCpu(Sound):
    def body(self, x):
        return super().body(x) + torch.ones(self.dim, dtype=x.dtype)


class SubtractsBatchMean(Sound):
    def body(self, x):
        return super().body(x - x.mean(0))


class SubtractsBatchMeanInTraining(Sound):
    def body(self, x):
        return super().body(x - x.mean(0) if self.training else x)


class LooksAhead(Sound):
    def body(self, x):
        return super().body(x) + x.roll(-1, dims=1)


class LooksAheadInTraining(Sound):
    def body(self, x):
        return super().body(x) + (x.mean(1, keepdim=True) if self.training else 0 * x)


class LooksBack(Sound):
    def body(self, x):
        return super().body(x) + x.cumsum(1)


class Steps(LooksBack):
    """The same token by token; each fault below spoils one line."""

    def step(self, x, state=None):
        state = x if state is None else state + x
        return Sound.body(self, x) + state, state

    prefill = Streaming.prefill


class StepsWithoutState(Steps):
    def step(self, x, state=None):
        return Sound.body(self, x) + x, x


class StepsWithoutGradient(Steps):
    def step(self, x, state=None):
        return super().step(x, None if state is None else state.detach())


class StepsInPlace(Steps):
    def step(self, x, state=None):
        state = torch.zeros_like(x) if state is None else state
        state += x
        return Sound.body(self, x) + state, state


class PrefillsAnew(Steps):
    def prefill(self, x, state=None):
        return super().prefill(x)


class AddsPositions(Sound):
    def body(self, x):
        positions = torch.arange(x.shape[1], dtype=x.dtype, device=x.device)
        return super().body(x) + positions[:, None]


class BranchesOnValues(Sound):
    """Harmless on the meta device, which it asks about, but no graph can hold the branch."""

    def body(self, x):
        if x.device.type != "meta" and (x.abs() > 1e6).any():
            raise RuntimeError("the input explodes")
        return super().body(x)


class ComputesOtherwiseInExport(Sound):
    def body(self, x):
        exporting = torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()
        return super().body(x.tanh() if exporting else x)


class BindsTheBatch(Sound):
    def body(self, x):
        return super().body(x) + x.new_zeros(self.dim).expand(len(x), *x.shape[1:])


class ShowsNoSize(Sound):
    def extra_repr(self):
        return ""


class ShowsValues(Sound):
    def extra_repr(self):
        return f"{self.dim}, weight={[[0.125] * self.dim] * self.dim}, bias={[0.5] * 30}"


class Explodes(Sound):
    def body(self, x):
        return 1e4 * super().body(x)


class Vanishes(Sound):
    def body(self, x):
        return 1e-5 * super().body(x)


class LeavesWidthToTorch(Sound):
    def forward(self, x):
        return self.body(x)


class HidesWidth(Sound):
    def forward(self, x):
        if x.shape[-1] != self.dim:
            raise ValueError("wrong width")
        return self.body(x)


class IgnoresExtraFeatures(Sound):
    def forward(self, x):
        return self.body(x[..., : self.dim])


class Bends(Sound):
    """Kinks that an example meets exactly; no fault."""

    def body(self, x):
        return super().body(x).relu() + x.abs() + x.amax(-1, keepdim=True)


class WrongBehindKink(HasWrongBackward):
    def body(self, x):
        return super().body(x.relu())


class WideAndBroken(HasUnusedParameter):
    """Two faults at once."""

    def forward(self, x):
        return self.body(x)


class Raises(Sound):
    def body(self, x):
        raise RuntimeError("no such thing")


class StartsAtZero(Sound):
    """As ReZero and LoRA: at the start the gate stops every other gradient."""

    def _add(self):
        self.gate = nn.Parameter(torch.empty(()))

    def start(self, name, x):
        x.zero_()

    def body(self, x):
        return x + self.gate * super().body(x)


class MixesLater(SubtractsBatchMeanInTraining):
    """Keeps rows apart in its first training step only."""

    def _add(self):
        self.register_buffer("steps", torch.empty((), dtype=torch.long))

    def start(self, name, x):
        x.zero_()

    def body(self, x):
        if not self.training:
            return super().body(x)
        share = (self.steps > 0).to(x.dtype)
        self.steps += 1
        return Sound.body(self, x - share * x.mean(0))


class ChannelsFirst(Sound):
    def forward(self, x):
        if x.shape[1] != self.dim:
            raise ValueError(f"expected {self.dim} channels, got {x.shape[1]}")
        return self.body(x.movedim(1, -1)).movedim(-1, 1)


class Cell(Sound):
    """Two inputs; returns the output and a state."""

    def forward(self, x, state):
        hidden, carry = state
        y = super().forward(x) + hidden
        return y, (y.tanh(), carry + 1)


class Embeds(nn.Module):
    """Token ids to vectors, mixed over all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)

    def forward(self, ids):
        y = self.embedding(ids)
        return y + y.mean(1, keepdim=True)


class Gain(nn.Module):
    """One number: no size to show, and every width is right."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.ones_(self.gain)

    def forward(self, x):
        return self.gain * x


def only_in(training: bool, layer: type[Sound]) -> type[Sound]:
    """The faulty layer, sound in the other mode; known by name to this file, so that it can be pickled."""
    name = f"{layer.__name__}{'InTraining' if training else 'InEvaluation'}Only"

    def body(self, x):
        return layer.body(self, x) if self.training is training else Sound.body(self, x)

    globals()[name] = type(name, (layer,), {"body": body, "__module__": __name__})
    return globals()[name]


def report_of(layer, *inputs, **options):
    """The report, whether or not the layer passes."""
    try:
        return check_layer(layer, *inputs, **options)
    except LayerCheckError as error:
        return error.report


def outcome(check, layer, *inputs, house_rules=True, factory=None, **traits):
    """What one check says: "passed", or the kind and the message of what it raises."""
    subject = Subject(layer, inputs, Traits(**traits), factory)
    subject.house_rules = house_rules
    torch.manual_seed(0)
    try:
        CHECKS[check](subject)
    except (Failure, NotApplicable) as said:
        return f"{type(said).__name__}: {said}"
    return "passed"


class Does(Sound):
    """What a function of the sound output and the input says; ``training`` may limit it to one mode."""

    def __init__(self, function, training=None):
        super().__init__()
        self.function, self.mode = function, training

    def forward(self, x, *more):
        return self.body(x, *more)

    def body(self, x, *more):
        if self.mode in (None, self.training):
            return self.function(super().body(x), x, *more)
        return super().body(x)


def randn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))
