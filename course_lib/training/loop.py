"""The one training loop of the course, and how to measure what it made.

:func:`fit` depends on its seed alone: each step draws its batch, and whatever the model draws, from random
numbers that belong to this step. So a run that was killed and resumed from its checkpoint equals, on a CPU
with the same number of threads, bit for bit the run that was not. Whatever else is to happen during a run is
a hook: see :mod:`course_lib.training.hooks`.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.contexts import evaluating, in_mode
from course_lib.training._batches import batches, check_pair, check_rows, check_scores, is_rows, reseed

__numerics__ = 1


@dataclass
class History:
    """What happened in a run of :func:`fit`.

    Attributes:
        losses: of every step, before its update; the last one is not finite where the run diverged so.
        validation: pairs ``(step, loss)`` that a hook measured on validation data.
        best_step: the step with the smallest of them, whose weights early stopping brings back.
        stopped: why it ended: ``"steps"``, ``"patience"``, ``"divergence"`` or what a hook said; empty
            while it runs.
        seconds: spent in the loop, over all resumptions.
    """

    losses: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    best_step: int = 0
    stopped: str = ""
    seconds: float = 0.0

    @property
    def diverged(self) -> bool:
        """Whether a loss or a weight stopped being a finite number."""
        return self.stopped == "divergence"

    def __repr__(self) -> str:
        last = f", last loss {self.losses[-1]:.4g}" if self.losses else ""
        return f"History({len(self.losses)} steps{last}, stopped by {self.stopped or 'nothing yet'})"


@dataclass
class Run:
    """A run of :func:`fit` on its way: what every hook is given.

    Attributes:
        model: the model in training.
        optimizer: its optimiser.
        history: what happened so far.
        steps: after so many updates the run ends.
        hooks: all hooks of the run, in the order in which they are called.
        arguments: what decides the run besides model and optimiser; a checkpoint fits no other run.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    history: History
    steps: int
    hooks: tuple[Callable, ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """The number of updates made."""
        return len(self.history.losses)

    @property
    def loss(self) -> float:
        """The loss of this step's batch, before the update."""
        return self.history.losses[-1]

    def stop(self, reason: str) -> None:
        """End the run after this step; the reason is kept in ``history.stopped``."""
        self.history.stopped = reason

    def is_due(self, every: int) -> bool:
        """Whether this is an ``every``-th step, or the last."""
        return self.step % every == 0 or self.step == self.steps


def fused(
    kind: Callable[..., torch.optim.Optimizer], parameters: Iterable[nn.Parameter], lr: float
) -> torch.optim.Optimizer:
    """An optimiser of torch's in one fused kernel, where all parameters are real numbers and not on meta.

    Small networks train up to twice as fast by it: without, each parameter costs a dozen kernels a step.

    Args:
        kind: ``torch.optim.Adam``, ``AdamW`` or ``SGD``.
        parameters: what it trains.
        lr: learning rate.
    """
    parameters = list(parameters)
    return kind(parameters, lr=lr, fused=all(p.is_floating_point() and not p.is_meta for p in parameters))


def adamw(parameters: Iterable[nn.Parameter], lr: float = 1e-3) -> torch.optim.Optimizer:
    """torch's AdamW, see :func:`fused`."""
    return fused(torch.optim.AdamW, parameters, lr)


def fit(
    model: nn.Module,
    data: Any,
    *,
    steps: int,
    batch_size: int = 64,
    lr: float = 1e-3,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    schedule: Callable[[int, int], float] | None = None,
    clip: float | None = None,
    seed: int = 0,
    on_divergence: str = "raise",
    hooks: Iterable[Callable[[Run], Any]] = (),
) -> History:
    """Train a model in place for a number of steps.

    Args:
        model: takes a batch ``x`` and gives what ``loss`` compares with ``y``; batches go where it is.
        data: a :class:`~course_lib.data.Split`, a pair of tensors ``(x, y)``, a function
            ``batch(generator) -> (x, y)``, or an iterable of such pairs, gone through again and again.
        steps: number of updates.
        batch_size: rows of a batch, where ``data`` holds rows; one cut short by an epoch's end is left out.
        lr: learning rate.
        loss: ``loss(output, y)``; None for :func:`default_loss`.
        optimizer: makes an optimiser, ``optimizer(parameters, lr=lr)``; None for :func:`adamw`.
        schedule: ``schedule(step, steps)`` multiplies the learning rate, as :func:`cosine_schedule` does.
        clip: largest norm of the gradient; a longer gradient is shortened to it.
        seed: of the order of the data and of all that is random in the model; the caller's torch generator is
            left as it was.
        on_divergence: ``"raise"`` or ``"stop"`` at a loss that is not finite; the update is not made.
        hooks: each is called after every update with the :class:`Run`; one that has ``during(run)`` is
            entered as a context around the whole run. One with ``runs_last = True`` comes after the others.

    Raises:
        ValueError: for data, arguments or a checkpoint that do not fit the model or the run.
        FloatingPointError: if the run diverges and ``on_divergence`` is ``"raise"``.

    >>> x = torch.linspace(-1, 1, 50)[:, None]
    >>> line = nn.Linear(1, 1)
    >>> history = fit(line, (x, 3 * x + 1), steps=300, lr=0.1, optimizer=torch.optim.SGD)
    >>> [round(p.item(), 2) for p in line.parameters()]
    [3.0, 1.0]
    """
    _check_run(model, on_divergence, steps=steps, batch_size=batch_size)
    loss, schedule = loss or default_loss, schedule or _constant
    parameters = [p for p in model.parameters() if p.requires_grad]
    device, batch, history = parameters[0].device, batches(data, batch_size, seed), History()
    hooks = tuple(sorted(hooks, key=lambda hook: getattr(hook, "runs_last", False)))
    arguments = {"steps": steps, "batch_size": batch_size, "clip": clip, "seed": seed}
    arguments |= {"loss": loss, "data": data}
    arguments["schedule"] = [schedule(i * steps // 8, steps) for i in range(8)]
    run = Run(model, (optimizer or adamw)(parameters, lr=lr), history, steps, hooks, arguments)
    rates = [group["lr"] for group in run.optimizer.param_groups]

    with _training(model, device), ExitStack() as around:
        for hook in hooks:
            if hasattr(hook, "during"):
                around.enter_context(hook.during(run))
        start = time.perf_counter() - history.seconds
        while run.step < steps and not history.stopped:
            step = run.step
            x, y = (t.to(device) for t in batch(step))
            for group, rate in zip(run.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(step, steps)
            reseed(seed, "model", step, device)
            value = loss(_output(model, x), y)
            history.losses.append(value.item())
            if not math.isfinite(run.loss):
                run.stop("divergence")
                break
            run.optimizer.zero_grad()
            value.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(parameters, clip)
            run.optimizer.step()
            history.seconds = time.perf_counter() - start
            for hook in hooks:
                hook(run)
        if not history.stopped:
            run.stop("steps" if all(p.isfinite().all() for p in parameters) else "divergence")
        if history.diverged and on_divergence == "raise":
            raise FloatingPointError(_why_diverged(history, batch, lr, clip))
    return history


def evaluate(
    model: nn.Module,
    data: Any,
    *,
    metric: str | Callable[[Tensor, Tensor], Tensor] = "accuracy",
    batch_size: int = 256,
) -> float:
    """The mean of a metric over all rows, in evaluation mode and without gradients; the mode is restored.

    Args:
        model: the model, on any device; batches are moved there.
        data: a split, a pair of tensors or an iterable of pairs, each gone through once.
        metric: ``"accuracy"`` (share of largest scores on the right class, over all positions of sequences),
            ``"loss"`` (:func:`default_loss`) or a function of output and target that gives a batch's mean.
        batch_size: rows at a time, where ``data`` holds rows; the result does not depend on it.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 2.0]])
    >>> round(evaluate(nn.Identity(), (x, torch.tensor([0, 1, 1]))), 3)
    0.667
    """
    if isinstance(metric, str):
        if metric not in _METRICS:
            raise ValueError(f"metric must be 'accuracy', 'loss' or a function, got {metric!r}")
        metric = _METRICS[metric]
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if is_rows(data):
        x, y = check_rows(data)
        pairs: Iterable = zip(x.split(batch_size), y.split(batch_size), strict=True)
    elif callable(data):
        raise ValueError(
            "evaluate needs fixed rows, got a function; a text gives them as text.windows(length)"
        )
    else:
        pairs = map(check_pair, data)
    device = next((t.device for t in [*model.parameters(), *model.buffers()]), torch.device("cpu"))
    total, rows = 0.0, 0
    with evaluating(model):
        for x, y in pairs:
            total += metric(_output(model, x.to(device)), y.to(device)).item() * len(x)
            rows += len(x)
    if rows == 0:
        raise ValueError("evaluate got no rows; an iterator that was used up gives none a second time")
    return total / rows


def default_loss(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy for integer targets, mean squared error for floating-point ones.

    Args:
        output: scores ``(..., classes)`` for targets ``(...)``, of classes or of sequences; or predictions of
            the shape of ``target``.
        target: int64 classes, -100 for places that do not count, or floating-point values.

    >>> default_loss(torch.zeros(2, 5, 4), torch.zeros(2, 5, dtype=torch.int64)).exp()
    tensor(4.)
    """
    if target.is_floating_point():
        if output.shape != target.shape:
            raise ValueError(
                f"output {tuple(output.shape)} and target {tuple(target.shape)} differ in shape, and "
                "broadcasting would hide it; reshape one of them"
            )
        return F.mse_loss(output, target)
    check_scores(output, target)
    try:
        return F.cross_entropy(output.reshape(-1, output.shape[-1]), target.reshape(-1))
    except IndexError:
        raise ValueError(
            f"the model gives scores for {output.shape[-1]} classes, but the targets go from {target.min()} "
            f"to {target.max()}"
        ) from None


def cosine_schedule(*, warmup: int = 0, floor: float = 0.0) -> Callable[[int, int], float]:
    r"""A factor for the learning rate: up in a straight line, then down along half a cosine.

    .. math:: f(s) = \begin{cases} (s+1)/w & s < w \\
        f_0 + (1 - f_0)\,\tfrac12 \bigl(1 + \cos(\pi \tfrac{s - w}{S - w})\bigr) & s \ge w \end{cases}

    Args:
        warmup: steps w of the rise.
        floor: what the factor ends at.

    >>> [round(cosine_schedule(warmup=2)(s, 6), 3) for s in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """

    def factor(step: int, steps: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor


def _constant(step: int, steps: int) -> float:
    return 1.0


def _accuracy(output: Tensor, target: Tensor) -> Tensor:
    check_scores(output, target)
    return (output.argmax(-1) == target).double().mean()


_METRICS = {"accuracy": _accuracy, "loss": default_loss}


def _output(model: nn.Module, x: Tensor) -> Tensor:
    try:
        return model(x)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, IndexError) as error:
        dtype = next((p.dtype for p in model.parameters()), "no parameters")
        raise ValueError(
            f"the model cannot take x of shape {tuple(x.shape)}, {x.dtype} (parameters: {dtype}): {error}"
        ) from error


@contextmanager
def _training(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Training mode, and the caller's random numbers untouched."""
    devices = [device] if device.type == "cuda" else []
    with in_mode(model, training=True), torch.random.fork_rng(devices), torch.enable_grad():
        yield


def _why_diverged(history: History, batch: Callable, lr: float, clip: float | None) -> str:
    step, loss = len(history.losses), history.losses[-1]
    if not all(t.isfinite().all() for t in batch(step - 1)):
        return f"the data of step {step} hold NaN or infinity; clean them first"
    seen = "a weight is no finite number" if math.isfinite(loss) else f"the loss is {loss}"
    advice = f"try a smaller lr than {lr:g}" + (" or clip=1.0" if clip is None else "")
    return f"training diverged: {seen} after step {step}; {advice}"


def _check_run(model: nn.Module, on_divergence: str, **counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if on_divergence not in ("raise", "stop"):
        raise ValueError(f"on_divergence must be 'raise' or 'stop', got {on_divergence!r}")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("the model has nothing to train: no parameters, or requires_grad is False for all")
    if any(p.is_meta for p in model.parameters()):
        raise ValueError(
            "the model is on the meta device, without numbers: call model.to_empty(device='cpu') and reset "
            "its parameters, or load weights with load_state_dict(..., assign=True)"
        )
