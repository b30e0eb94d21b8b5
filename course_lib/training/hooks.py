"""What may happen during a run of :func:`~course_lib.training.loop.fit`, apart from training.

A hook is called after every update with the :class:`~course_lib.training.loop.Run`; any function will do::

    fit(model, data, steps=300, hooks=[lambda run: print(run.step, run.loss)])

One that has to begin or to end something has a method ``during(run)`` as well, a context around the whole
run. One that keeps something of its own from step to step has ``state_dict`` and ``load_state_dict``, so that
a checkpoint keeps it, and ``arguments``, so that a checkpoint of another run is refused.
"""

import functools
import hashlib
import os
import pickle
import signal
import threading
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.data.dataset import Split
from course_lib.training.loop import Run, default_loss, evaluate

__numerics__ = 1


class Progress:
    """A bar with the loss of the last step."""

    @contextmanager
    def during(self, run: Run) -> Iterator[None]:
        """Show the bar, from where the run begins."""
        from tqdm.auto import tqdm

        with tqdm(total=run.steps, initial=run.step, unit="step") as self.bar:
            yield

    def __call__(self, run: Run) -> None:
        self.bar.set_postfix(loss=f"{run.loss:.4g}", refresh=False)
        self.bar.update()


class Validation:
    """Measures the loss on rows held out, every so often and at the end, into ``history.validation``.

    Args:
        data: the rows held out, as for :func:`~course_lib.training.loop.evaluate`.
        every: steps between two measurements.

    >>> from course_lib.training.loop import fit
    >>> rows = torch.linspace(-1, 1, 50)[:, None], torch.linspace(-2, 2, 50)[:, None]
    >>> history = fit(nn.Linear(1, 1), rows, steps=25, hooks=[Validation(rows, every=10)])
    >>> [step for step, _ in history.validation]
    [10, 20, 25]
    """

    def __init__(self, data: Any, *, every: int = 100) -> None:
        _require_positive(every=every)
        self.data, self.every = data, every

    @property
    def arguments(self) -> dict[str, Any]:
        """What decides the measurements."""
        return {"validation": self.data, "every": self.every}

    def __call__(self, run: Run) -> None:
        if run.is_due(self.every):
            value = evaluate(run.model, self.data, metric=run.arguments.get("loss") or default_loss)
            if value < min((v for _, v in run.history.validation), default=float("inf")):
                run.history.best_step = run.step
            run.history.validation.append((run.step, value))


class EarlyStopping(Validation):
    """Ends the run after so many measurements in a row without a new best, and brings the best weights back.

    Args:
        data: the rows held out.
        patience: measurements without a new best that end the run.
        every: steps between two measurements.
    """

    def __init__(self, data: Any, *, patience: int, every: int = 100) -> None:
        super().__init__(data, every=every)
        _require_positive(patience=patience)
        self.patience = patience
        self.best: dict[str, Tensor] = {}

    @property
    def arguments(self) -> dict[str, Any]:
        """What decides when the run ends."""
        return {**super().arguments, "patience": self.patience}

    def state_dict(self) -> dict[str, Tensor]:
        """The best weights so far."""
        return self.best

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from these best weights."""
        self.best = state

    @contextmanager
    def during(self, run: Run) -> Iterator[None]:
        """Begin without a best; after a run that was not broken off, load it."""
        self.best = {}
        yield
        if self.best:
            run.model.load_state_dict(self.best)

    def __call__(self, run: Run) -> None:
        super().__call__(run)
        if not run.is_due(self.every):
            return
        if run.history.best_step == run.step:
            self.best = {name: value.clone() for name, value in run.model.state_dict().items()}
        since = sum(step > run.history.best_step for step, _ in run.history.validation)
        if since >= self.patience:
            run.stop("patience")


class Checkpoint:
    """Keeps the run in a file; if the file exists, the run goes on from there, to the same bits.

    There is no state of random generators: every step derives its own numbers from the seed. Ctrl-C lets the
    step end and saves before it stops the run; a second one stops at once.

    Args:
        path: the file; folders above it are made.
        every: steps between two savings.

    Raises:
        ValueError: as the run begins, if the file belongs to another run, is no checkpoint, or cannot be
            written.
        KeyboardInterrupt: after Ctrl-C.
    """

    runs_last = True  # what the other hooks did at this step is in the file

    def __init__(self, path: str | Path, *, every: int = 100) -> None:
        _require_positive(every=every)
        self.path, self.every = Path(path), every
        self.pressed = False

    @contextmanager
    def during(self, run: Run) -> Iterator[None]:
        """Go on from the file; listen for Ctrl-C; save at the end."""
        self.pressed = False
        self.facts = _facts(run)
        _require_writable(self.path)
        if self.path.exists():
            self._restore(run, _read(self.path))
        with _noting_ctrl_c(self):
            yield
        self.save(run)

    def __call__(self, run: Run) -> None:
        if self.pressed:
            self.save(run)
            raise KeyboardInterrupt(
                f"stopped after {run.step} of {run.steps} steps; the checkpoint {self.path} goes on from here"
            )
        if run.step % self.every == 0 and run.step < run.steps:
            self.save(run)

    def save(self, run: Run) -> None:
        """Write the checkpoint beside the old one, then put it in its place: there is always a whole file."""
        content = {"format": FORMAT, "facts": self.facts, "history": asdict(run.history)}
        content |= {"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict()}
        content["hooks"] = [hook.state_dict() for hook in _with_state(run)]
        part = _part(self.path)
        try:
            with open(part, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            raise OSError(
                f"cannot write the checkpoint {self.path}: {error}; the one before is whole"
            ) from error
        finally:
            part.unlink(missing_ok=True)

    def _restore(self, run: Run, content: dict[str, Any]) -> None:
        for name, mine in self.facts.items():
            if content["facts"].get(name) != mine:
                raise ValueError(
                    f"the checkpoint {self.path} was written by another run: its {name} is "
                    f"{content['facts'].get(name)}, here it is {mine}; delete the file or name another one"
                )
        run.model.load_state_dict(content["model"])
        run.optimizer.load_state_dict(content["optimizer"])
        for name, value in content["history"].items():
            setattr(run.history, name, value)
        for hook, state in zip(_with_state(run), content["hooks"], strict=True):
            hook.load_state_dict(state)


FORMAT = 2
_KEYS = {"format", "facts", "history", "hooks", "model", "optimizer"}

# What torch.load raises for files that are cut off, of another kind, or hold code.
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    TypeError,
    KeyError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def _with_state(run: Run) -> list[Any]:
    return [hook for hook in run.hooks if hasattr(hook, "state_dict")]


def _facts(run: Run) -> dict[str, str]:
    """The arguments of a run, which have to be those of the run that wrote the file."""
    groups = [{k: v for k, v in g.items() if k != "params"} for g in run.optimizer.param_groups]
    weights = ((k, str(v.dtype), tuple(v.shape)) for k, v in run.model.state_dict().items())
    facts = {**run.arguments, "optimizer": (type(run.optimizer).__name__, groups)}
    facts["model"] = [repr(run.model), *weights]
    facts["hooks"] = [type(hook).__name__ for hook in _with_state(run)]
    for hook in run.hooks:
        facts |= getattr(hook, "arguments", {})
    return {name: _fingerprint(value) for name, value in facts.items()}


@contextmanager
def _noting_ctrl_c(checkpoint: Checkpoint) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread hears signals
        yield
        return

    def note(number: int, frame: Any) -> None:
        if checkpoint.pressed:
            raise KeyboardInterrupt
        checkpoint.pressed = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)


def _read(path: Path) -> dict[str, Any]:
    try:
        # weights_only: a file from elsewhere can hold numbers, but cannot run code.
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT or set(content) != _KEYS:
            raise ValueError(f"it has format {content['format']} and holds {', '.join(content)}")
        return content
    except _UNREADABLE as error:
        raise ValueError(
            f"the file {path} is no whole checkpoint of fit ({type(error).__name__}: {str(error)[:80]}); "
            "delete it or name another one"
        ) from error


def _require_writable(path: Path) -> None:
    """Find out now, not after an hour of training."""
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = _part(path)
        part.touch()
        part.unlink()
    except OSError as error:
        raise ValueError(
            f"cannot write a checkpoint to {path}: {error}; name a file in a folder of yours"
        ) from error


def _require_positive(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _fingerprint(value: Any) -> str:
    """A short text, equal for equal arguments: numbers as they are, tensors and long texts as a hash."""
    if isinstance(value, Split):
        value = (value.x, value.y)
    if isinstance(value, Tensor):
        data = value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy()
        text = f"{value.dtype} {tuple(value.shape)} {hashlib.sha1(data).hexdigest()[:8]}"
    elif isinstance(value, functools.partial):
        text = f"{_fingerprint(value.func)} with {value.args} {value.keywords}"
    elif isinstance(value, tuple | list):
        text = ", ".join(map(_fingerprint, value))
    elif isinstance(value, nn.Module | str | dict) or not (callable(value) or isinstance(value, Iterable)):
        text = repr(value)
    else:  # functions and data loaders: their repr holds an address
        text = getattr(value, "__qualname__", type(value).__name__)
    return text if len(text) <= 80 else f"{text[:40]}... {hashlib.sha1(text.encode()).hexdigest()[:8]}"
