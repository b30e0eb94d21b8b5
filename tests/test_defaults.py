"""A default is a promise to whoever imports the course: a changed one stands in the diff of this test's file.

``defaults.json`` holds numbers, booleans, text, None and tuples of these, of every public function, class and
method of the grounds below, and the traits that each layer declares. ``python -m tests.test_defaults`` writes
it anew, for a change that is meant.
"""

import importlib
import inspect
import json
import pkgutil
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import course_lib
from course_lib.registry import entries

KEPT = Path(__file__).with_name("defaults.json")
GROUNDS = ("compare", "counting", "data", "layers", "measure", "models", "training")
SIMPLE = (int, float, str, bool, type(None))


def public_modules(ground: str) -> list[ModuleType]:
    """The ground and all modules below it whose names do not begin with an underscore."""
    found = [importlib.import_module(f"{course_lib.__name__}.{ground}")]
    for info in pkgutil.walk_packages(getattr(found[0], "__path__", []), f"{found[0].__name__}."):
        if not any(part.startswith("_") for part in info.name.split(".")):
            found.append(importlib.import_module(info.name))
    return found


def defaults(ground: str) -> dict[str, dict[str, Any]]:
    """Name of each public callable defined in the ground to its simple defaults, where it has any."""
    found = {}
    for module in public_modules(ground):
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", "") != module.__name__:
                continue
            methods = vars(thing).items() if inspect.isclass(thing) else ()
            for part, called in [("", thing), *methods]:
                if callable(called) and not part.startswith("_"):
                    place = ".".join(filter(None, [module.__name__, name, part]))
                    found[place] = _simple_defaults(called)
    return {place: kept for place, kept in sorted(found.items()) if kept}


def _simple_defaults(called: Any) -> dict[str, Any]:
    try:
        parameters = inspect.signature(called).parameters.values()
    except ValueError:  # a class of C has no signature
        return {}
    given = {p.name: p.default for p in parameters if p.default is not p.empty}
    return {name: _written(value) for name, value in given.items() if _is_simple(value)}


def _is_simple(value: Any) -> bool:
    return all(map(_is_simple, value)) if isinstance(value, tuple) else isinstance(value, SIMPLE)


def _written(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


def declared() -> dict[str, list[str]]:
    """The traits that each layer declares, and its exceptions from the contract."""
    layers = {name: entry for name, entry in sorted(entries().items()) if entry.is_layer}
    traits = {name: [t for t, holds in asdict(e.traits).items() if holds] for name, e in layers.items()}
    return {name: [*traits[name], *sorted(entry.exceptions)] for name, entry in layers.items()}


def test_traits_are_the_kept_ones():
    assert declared() == json.loads(KEPT.read_text("utf-8"))["traits"]


@pytest.mark.parametrize("ground", GROUNDS)
def test_defaults_are_the_kept_ones(ground):
    kept = json.loads(KEPT.read_text("utf-8"))[ground]
    now = defaults(ground)
    changed = {place: (kept.get(place), now.get(place)) for place in {*kept, *now}}
    assert {place: pair for place, pair in changed.items() if pair[0] != pair[1]} == {}


def test_defaults_of_functions_classes_and_methods_are_seen():
    layers = defaults("layers")
    assert layers["course_lib.layers.norm.layer_norm.LayerNorm"]["eps"] == 1e-5
    assert layers["course_lib.layers.norm.rep_norm.ProgressiveRepBN.advance"] == {"steps": 1}
    assert layers["course_lib.layers.norm.geometry.unselectable_keys"] == {"tolerance": 1e-7}


if __name__ == "__main__":
    written = {ground: defaults(ground) for ground in GROUNDS} | {"traits": declared()}
    KEPT.write_text(json.dumps(written, indent=1, sort_keys=True) + "\n", "utf-8")
