"""One specimen: from its recipe to tested weights in a file, and back to a network."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from course_lib.cache import cache_folder, source_tree
from course_lib.contexts import isolated, one_thread
from course_lib.measure.hashing import code_hash
from course_lib.registry import suggest


@dataclass(frozen=True)
class Check:
    """One number of an acceptance test and the bound that it must keep; NaN keeps none.

    >>> print(Check("test accuracy", 0.98, at_least=0.95))
    test accuracy 0.98, at least 0.95
    """

    what: str
    measured: float
    at_least: float = -math.inf
    at_most: float = math.inf

    @property
    def passed(self) -> bool:
        """Whether the value keeps its bounds."""
        return self.at_least <= self.measured <= self.at_most

    def __str__(self) -> str:
        bounds = {"at least": self.at_least, "at most": self.at_most}
        words = [f"{word} {bound:.4g}" for word, bound in bounds.items() if math.isfinite(bound)]
        return f"{self.what} {self.measured:.4g}, {' and '.join(words)}"


@dataclass(frozen=True)
class Specimen:
    """A recipe with its builder and its acceptance test, and the files of its weights.

    Args:
        name: as given to :func:`specimen`.
        recipe: trains the network.
        build: makes the network without its training.
        accept: the acceptance test.
    """

    name: str
    recipe: Callable[[], nn.Module]
    build: Callable[[], nn.Module]
    accept: Callable[[nn.Module], Sequence[Check]]

    @property
    def code(self) -> str:
        """The hash of all code that decides the weights."""
        return f"{code_hash(self.recipe)}-{code_hash(self.build)}"

    @property
    def files(self) -> list[Path]:
        """Where the weights may be: beside the recipe, or in the cache of an installed package."""
        beside = Path(sys.modules[self.recipe.__module__].__file__).parent / "weights"
        folders = beside, cache_folder() / "specimens"
        return [folder / f"{self.name}.safetensors" for folder in folders]

    def facts(self) -> dict[str, Any]:
        """What is known of the first file that is fresh, else of the first that there is.

        Its ``state`` is fresh or stale, its ``file`` where it is; ``missing`` where there is none.
        """
        found = []
        for file in self.files:
            try:
                with safe_open(file, "pt") as weights:
                    known = json.loads((weights.metadata() or {}).get("specimen", "{}"))
            except (OSError, SafetensorError):  # no file, or none that can be read
                continue
            state = "fresh" if known.get("code") == self.code else "stale"
            found.append({**known, "state": state, "file": file})
        return min(found, key=lambda known: known["state"], default={"state": "missing"})

    def load(self) -> nn.Module:
        """See :func:`load`."""
        facts = self.facts()
        if facts["state"] != "fresh":
            raise RuntimeError(
                f"the weights of the specimen {self.name!r} are {facts['state']}: train them by "
                "make specimens, or python -m course_lib.specimens build"
            )
        return self._network(load_file(facts["file"]))

    def train(self) -> Path:
        """Follow the recipe, test the result in half precision, and write it.

        Returns:
            The file: in the course's own source tree, or in the user's cache.

        Raises:
            RuntimeError: if the network does not pass its acceptance test; no file is changed.
        """
        code, start = self.code, time.process_time()  # the code may be edited while it runs
        with isolated(), one_thread():
            state = self.recipe().state_dict()
        seconds = round(time.process_time() - start)
        tensors = {key: t.half() if t.is_floating_point() else t for key, t in state.items()}
        facts = {"code": code, "seconds": seconds, "torch": str(torch.__version__)}
        facts["checks"] = [str(check) for check in self.test(self._network(tensors))]
        file = self.files[0 if source_tree() else 1]
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        save_file(tensors, part, {"specimen": json.dumps(facts)})
        os.replace(part, file)
        return file

    def test(self, network: nn.Module) -> Sequence[Check]:
        """Run the acceptance test.

        Raises:
            RuntimeError: if a check does not pass.
        """
        with isolated(), one_thread():
            checks = self.accept(network)
        if not all(check.passed for check in checks):
            raise RuntimeError(f"{self.name} is not accepted: {'; '.join(map(str, checks))}")
        return checks

    def _network(self, tensors: dict[str, Tensor]) -> nn.Module:
        with isolated():
            network = self.build()
        network.load_state_dict(tensors)
        return network.eval()


# An experiment that calls load("char_gpt") depends on this table and on the recipe of that name, not
# on the methods of Specimen: how weights are kept is no part of what they are.
_specimens: dict[str, Specimen] = {}


def specimen(
    name: str, *, build: Callable[[], nn.Module], accept: Callable[[nn.Module], Sequence[Check]]
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Enter a recipe into the catalogue: a module-level function that returns a trained network.

    Random numbers start from the seed 0.

    Args:
        name: what :func:`load` is asked for, and the name of the file.
        build: makes the network without its training, at once.
        accept: measures a trained network; it is good if every :class:`Check` keeps its bounds.
    """

    def register(recipe: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        _specimens[name] = Specimen(name, recipe, build, accept)
        return recipe

    return register


def load(name: str) -> nn.Module:
    """A trained network in eval mode, new on every call, so that it may be changed.

    Args:
        name: one of :func:`names`.

    Raises:
        ValueError: for an unknown name.
        RuntimeError: if the code of its recipe has changed since it was trained.

    >>> model = load("digit_vit")
    >>> type(model).__name__, model.training
    ('VisionTransformer', False)
    """
    return find(name).load()


def names() -> list[str]:
    """The names that :func:`load` knows.

    >>> names()
    ['char_gpt', 'digit_vit']
    """
    return sorted(_specimens)


def find(name: str) -> Specimen:
    """The specimen of a name.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in _specimens:
        known = suggest(name, _specimens) or f"; known are {', '.join(names())}"
        raise ValueError(f"no specimen is called {name!r}{known}")
    return _specimens[name]
