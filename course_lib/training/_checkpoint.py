"""What a run of ``fit`` is, apart from its arguments, and how it is kept in a file."""

import functools
import hashlib
import os
import pickle
import zipfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.data.dataset import Split

FORMAT = 1
_KEYS = {"format", "facts", "history", "best", "model", "optimizer"}

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


class Run:
    """Model, optimiser, history and best weights: all that changes while a model is trained.

    There is no state of random generators: every step derives its own numbers from the seed.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, history: Any) -> None:
        self.model, self.optimizer, self.history = model, optimizer, history
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.best: dict[str, Tensor] | None = None
        self.path: Path | None = None
        self.facts: dict[str, str] = {}

    def keep_in(self, path: str | Path, facts: dict[str, Any]) -> None:
        """Save to this file from now on; go on from it if it is there.

        Args:
            path: the checkpoint.
            facts: the arguments of the run, which have to be those of the run that wrote the file.
        """
        self.path = Path(path)
        model = [
            repr(self.model),
            *((k, str(v.dtype), tuple(v.shape)) for k, v in self.model.state_dict().items()),
        ]
        groups = [{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
        facts = {**facts, "optimizer": (type(self.optimizer).__name__, groups), "model": model}
        self.facts = {name: _fingerprint(value) for name, value in facts.items()}
        _require_writable(self.path)
        if self.path.exists():
            self._restore(_read(self.path))

    def save(self) -> None:
        """Write the checkpoint beside the old one, then put it in its place: there is always a whole file."""
        content = {"format": FORMAT, "facts": self.facts, "history": asdict(self.history), "best": self.best}
        content |= {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
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

    def note_validation(self, step: int, loss: float, *, keep: bool) -> None:
        """Add a measurement; keep the weights if it is the best so far."""
        best = min((value for _, value in self.history.validation), default=float("inf"))
        self.history.validation.append((step, loss))
        if loss < best:
            self.history.best_step = step
            if keep:
                self.best = {name: value.clone() for name, value in self.model.state_dict().items()}

    def measurements_since_best(self) -> int:
        """How many validations followed the best one."""
        return sum(step > self.history.best_step for step, _ in self.history.validation)

    def _restore(self, content: dict[str, Any]) -> None:
        for name, mine in self.facts.items():
            if content["facts"].get(name) != mine:
                raise ValueError(
                    f"the checkpoint {self.path} was written by another run: its {name} is "
                    f"{content['facts'].get(name)}, here it is {mine}; delete the file or name another one"
                )
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        for name, value in content["history"].items():
            setattr(self.history, name, value)
        self.best = content["best"]


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
