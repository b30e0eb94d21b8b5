"""One specimen: from its recipe to tested weights in a file, and back to a network."""

import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from course_lib.cache import cache_folder
from course_lib.contexts import one_thread
from course_lib.measure.hashing import code_hash, reached
from course_lib.specimens._cache import alone
from course_lib.specimens._record import Check, Damaged, Record, Weights, read, write

__all__ = ["AcceptanceError", "Specimen"]

_unstored: dict[tuple[str, int, str], Weights] = {}  # trained in this process, where no file can be kept


class AcceptanceError(RuntimeError):
    """A network does not pass its acceptance test: nothing may be concluded from it."""


@dataclass(frozen=True)
class Specimen:
    """A recipe with its builder and its acceptance test, and the files of its networks.

    Args:
        name: as given to :func:`specimen`.
        recipe: from a seed to a trained network.
        build: makes the network without its training.
        accept: the acceptance test.
    """

    name: str
    recipe: Callable[[int], nn.Module]
    build: Callable[[], nn.Module]
    accept: Callable[[nn.Module], Sequence[Check]]

    @property
    def summary(self) -> str:
        """The first line of the recipe's docstring."""
        return (self.recipe.__doc__ or "").strip().partition("\n")[0]

    @property
    def shipped(self) -> Path:
        """The file that comes with the package: in ``weights`` beside the recipe's module."""
        module = Path(sys.modules[self.recipe.__module__].__file__)
        return module.parent / "weights" / f"{self.name}.safetensors"

    def cached(self, seed: int) -> Path:
        """The file in the user's cache; its name holds the hash, so another checkout has another file."""
        return cache_folder() / "specimens" / f"{self.name}-{seed}-{code_hash(self.recipe)}.safetensors"

    def load(self, seed: int) -> nn.Module:
        """See :func:`load`."""
        weights = self.weights(seed)
        if not self.is_accepted(weights.record):  # the test was changed after the training
            self.test(weights.tensors)
        return self._network(weights.tensors)

    def weights(self, seed: int) -> Weights:
        """The weights of this code: shipped, from the cache, or trained now."""
        key = (self.name, seed, code_hash(self.recipe))
        found = self._fresh(seed) or _unstored.get(key)
        if found is not None:
            return found
        with alone(self.cached(seed), self._say_waiting) as locked:
            if locked and (found := self._fresh(seed)):  # it was made while this process waited
                return found
            self._say(f"{self._why_not(seed)}; training it anew")
            found = self.train(seed)
            kept = locked and self._keep(found, seed)
        if not kept:
            _unstored[key] = found
            self._say(
                f"it cannot be kept in {self.cached(seed).parent}, so the next process will train it again; "
                "set COURSE_CACHE to a folder that can be written"
            )
        return found

    def state(self) -> str:
        """How the shipped weights stand.

        ``fresh``; ``stale``: the recipe has changed; ``untested``: the acceptance test has; ``damaged``;
        ``missing``.
        """
        try:
            weights = read(self.shipped)
        except Damaged:
            return "damaged"
        if weights is None:
            return "missing"
        if not self._is_of_this_code(weights.record, seed=0):
            return "stale"
        return "fresh" if self.is_accepted(weights.record) else "untested"

    def ship(self, *, anew: bool = False) -> bool:
        """Bring the shipped file up to date; False if it was.

        Args:
            anew: train even if nothing has changed.

        Raises:
            AcceptanceError: if the network does not pass; the file stays as it was.
            OSError: if the file cannot be written.
        """
        with alone(self.cached(0), self._say_waiting):
            state = "missing" if anew else self.state()
            if state == "untested":
                old = read(self.shipped)
                checks = self.test(old.tensors)
                new = replace(old.record, test=code_hash(self.accept), checks=checks)
                write(self.shipped, Weights(old.tensors, new))
            elif state != "fresh":
                write(self.shipped, self.train(0))
            return state != "fresh"

    def train(self, seed: int) -> Weights:
        """Follow the recipe and test the result, in half precision if that passes.

        Raises:
            AcceptanceError: if it does not pass.
            ValueError: if the recipe does not use its builder.
        """
        builder = f"{self.build.__module__}.{self.build.__qualname__}"
        if builder not in reached(self.recipe):
            raise ValueError(
                f"the recipe of {self.name!r} must call {builder}, which rebuilds its network later"
            )
        # Before the training: the file may be saved while it runs, and then these weights are of older code.
        facts = {"code": code_hash(self.recipe), "test": code_hash(self.accept)}
        start = time.process_time()
        with _seeded(seed), one_thread():
            state = self.recipe(seed).state_dict()
        facts["seconds"] = float(f"{time.process_time() - start:.3g}")
        full = {
            key: t.detach().cpu().clone(memory_format=torch.contiguous_format) for key, t in state.items()
        }
        half = {key: _halved(t) for key, t in full.items()}
        try:
            tensors, checks = half, self.test(half)
        except AcceptanceError:
            tensors, checks = full, self.test(full)
        return Weights(tensors, Record(self.name, seed, checks=checks, **facts, **_place()))

    def test(self, tensors: dict[str, Tensor]) -> tuple[Check, ...]:
        """Run the acceptance test on these weights.

        Raises:
            AcceptanceError: if a check does not pass, or the test has none.
        """
        network = self._network(tensors)
        with _seeded(0), one_thread():
            checks = tuple(self.accept(network))
        if not checks or not all(check.passed for check in checks):
            listed = "\n".join(f"  {check}" for check in checks) or "  the test checks nothing"
            raise AcceptanceError(
                f"{self.name} does not pass its acceptance test; nothing may be concluded from it:\n{listed}"
            )
        return checks

    def is_accepted(self, record: Record) -> bool:
        """Whether these weights have passed the acceptance test as it is now."""
        return record.test == code_hash(self.accept) and all(check.passed for check in record.checks)

    def _is_of_this_code(self, record: Record, seed: int) -> bool:
        return (record.name, record.seed, record.code) == (self.name, seed, code_hash(self.recipe))

    def _files(self, seed: int) -> list[Path]:
        return [self.shipped, self.cached(seed)] if seed == 0 else [self.cached(seed)]

    def _fresh(self, seed: int) -> Weights | None:
        for file in self._files(seed):
            with suppress(Damaged):  # _why_not tells
                weights = read(file)
                if weights is not None and self._is_of_this_code(weights.record, seed):
                    return weights
        return None

    def _why_not(self, seed: int) -> str:
        """Why no file has what was asked for."""
        found = None
        for file in self._files(seed):
            try:
                found = found or read(file)
            except Damaged as error:
                return str(error)
        if seed:
            return f"seed {seed} does not come with the package"
        return f"its code is newer than {self.shipped}" if found else f"there is no {self.shipped}"

    def _keep(self, weights: Weights, seed: int) -> bool:
        try:
            write(self.cached(seed), weights)
        except OSError as error:
            self._say(str(error))
            return False
        return True

    def _network(self, tensors: dict[str, Tensor]) -> nn.Module:
        with _seeded(0):
            network = self.build()
        network.load_state_dict(tensors)
        return network.eval()

    def _say_waiting(self) -> None:
        self._say("another process is training it; waiting for that")

    def _say(self, message: str) -> None:
        print(f"specimen {self.name}: {message}", file=sys.stderr, flush=True)


def _halved(tensor: Tensor) -> Tensor:
    """In half precision, if that has room for the values."""
    half = tensor.half() if tensor.dtype == torch.float32 else tensor
    return half if torch.equal(half.isfinite(), tensor.isfinite()) else tensor


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers from this seed; the caller's are left as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # of this one alone: the GPU's are not put back
        yield


def _place() -> dict[str, str]:
    return {
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
