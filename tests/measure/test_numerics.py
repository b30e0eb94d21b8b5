"""The numbers of the ground modules are what they were; where one is not, its module must say so.

``numerics.json`` holds for each module its ``__numerics__`` and a fingerprint of what it makes. Where
a number changes on purpose, raise the module's ``__numerics__`` and write the file anew::

    python tests/measure/test_numerics.py
"""

import contextlib
import dataclasses
import importlib
import inspect
import json
import math
import sys
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import course_lib
from course_lib import registry
from course_lib.data import dataset, describe, load, names
from course_lib.data.dataset import Meta, split_rows
from course_lib.training.hooks import EarlyStopping
from course_lib.training.loop import cosine_schedule, evaluate, fit

FILE = Path(__file__).with_name("numerics.json")
COURSE = Path(course_lib.__file__).parent
PIN_ANEW = "pin it anew: python tests/measure/test_numerics.py"
ELSEWHERE = (
    "contexts",
    "counting",
    "layers._shapes",
    "layers._streaming",
)  # exact counts, in their own tests, or no numbers

# What each module makes, as expressions in its own names; data sets come on top of these.
MADE = {
    "data.dataset": [
        "load('diabetes').standardised(targets=True)",
        "split_rows(np.arange(9) % 4, np.arange(9) % 2)",
    ],
    "data.actions": ["stick_figure_actions(7, seed=1)"],
    "data.canvas": [
        "make_cluttered_digits(7, seed=1)",
        "box_masks(make_cluttered_digits(3).boxes, 24)",
        "centre_heatmaps(make_cluttered_digits(3).boxes, 24)",
    ],
    "data.corpora": [],
    "data.download": ["_assemble(describe('iris'), *[np.arange(n, dtype='u1') for n in (48, 48, 9, 9)])"],
    "data.graphs": ["load('karate').train_adjacency"],
    "data.mnist1d": ["make_mnist1d(7, seed=1)"],
    "data.moved": [
        "moved_by_a_pixel(torch.arange(24.0).reshape(2, 1, 3, 4), torch.Generator().manual_seed(1))",
        "moved_each_way(torch.arange(24.0).reshape(2, 1, 3, 4))",
    ],
    "data.multilingual": ["_multilingual(describe('multilingual'), ('es', 'fr'), 9).corpus('fr')"],
    "data.pictures": ["photo('flower')", "mri_slice()", "elevation_map()"],
    "data.signals": ["eeg_recording()", "stock_prices()"],
    "data.synthetic": [
        "bars_and_stripes(3)",
        "random_patterns(5, 8, seed=1)",
        "flip_signs(random_patterns(5, 8), 0.25, seed=1)",
        "majority(7, seed=1)",
        "cue_tokens()",
        "multi_label_cues(7, seed=1)",
        "object_patterns(7, seed=1)",
        "object_patterns(7, pool=3)",
        "pixel_shift(torch.arange(24.0).reshape(2, 1, 3, 4))",
    ],
    "data.tables": [],
    "data.text": [
        "Text(torch.arange(90)).batch(torch.Generator().manual_seed(1), 3, 5)",
        "Text(torch.arange(90)).windows(7, limit=4)",
        "letter_pairs_loss(Text(torch.arange(90).square() % 7), Text(torch.arange(40) % 7).windows(5), 7)",
        "encode('gabe', 'abcdefg')",
        "decode([6, 0], 'abcdefg')",
        "passages('to be or not to be', 3)",
        "text_dataset(describe('iris'), [(f'{i}', [f'{i:b} ' * 20]) for i in range(40)], ' 01\\n')",
    ],
    "training._batches": ["seed_of(3, 'order', 5)"],
    "training.loop": ["vector_curve()", "image_curve()", "text_curve()", "adamw_curve()"],
    "training.hooks": ["stopped_curve()"],
}  # fmt: skip
UNPINNED = {"dataset", "describe", "load", "names", "package_file", "require", "data_folder", "download",
            "english_topics", "library_modules", "evaluate", "fit", "default_loss", "adamw", "fused",
            "cosine_schedule"}  # they make no numbers, or are within what is pinned  # fmt: skip
# JPEG decoders may differ by a level of brightness.
LOOSE = {"photos": 1e-2, "photo('flower')": 1e-2}


# -- curves: torch's own layers in float64, so that only the loop can change them -----------------------


def rows(n, *shape, classes):
    """Noise, and a class that can be read off it."""
    x = torch.sin(torch.arange(n * math.prod(shape), dtype=torch.float64).square()).reshape(n, *shape)
    return x, (x.flatten(1).cumsum(1)[:, -1] * 3).long() % classes


def start(model):
    """Weights that no generator has drawn."""
    for i, parameter in enumerate(model.double().parameters()):
        wave = torch.cos(torch.arange(parameter.numel(), dtype=torch.float64).square() + i)
        parameter.data = 0.3 * wave.reshape(parameter.shape)
    return model


def curve(model, data, test, **options):
    history = fit(start(model), data, steps=12, **options)
    return [*history.losses, evaluate(model, test, metric="loss"), evaluate(model, test, batch_size=5)]


def vector_curve():
    """Rows over several epochs, dropout, a schedule and a clipped gradient."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3))
    data = rows(40, 6, classes=3)
    options = {"lr": 0.05, "clip": 0.5, "schedule": cosine_schedule(warmup=3), "seed": 5}
    return curve(model, data, rows(17, 6, classes=3), batch_size=16, **options)


def image_curve():
    """An iterable of batches, gone through again, and plain gradient descent."""
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
    x, y = rows(30, 1, 6, 6, classes=2)
    batches = list(zip(x.split(6), y.split(6), strict=True))
    return curve(model, batches, (x[:9], y[:9]), lr=0.1, optimizer=torch.optim.SGD)


def text_curve():
    """A function of a generator, and scores for every place of a sequence."""
    model = nn.Sequential(nn.Embedding(7, 5), nn.Tanh(), nn.Linear(5, 7))
    tokens = torch.arange(300).square() % 7

    def batch(generator):
        places = torch.randint(280, (8, 1), generator=generator) + torch.arange(10)
        return tokens[places], tokens[places + 1]

    return curve(model, batch, (tokens[:20][None], tokens[1:21][None]), lr=0.02, seed=2)


def adamw_curve():
    """Real targets: mean squared error, the default optimiser at its default rate."""
    x, _ = rows(20, 4, classes=2)
    model = start(nn.Linear(4, 1))
    return fit(model, (x, x.sum(1, keepdim=True)), steps=6, batch_size=8).losses


def stopped_curve():
    """Early stopping: when it ended, what it measured, and the weights that it brought back."""
    x, y = rows(40, 6, classes=3)
    model, hook = nn.Linear(6, 3), EarlyStopping((x[30:], y[30:]), patience=2, every=3)
    history = fit(start(model), (x[:30], y[:30]), steps=60, lr=0.3, batch_size=10, hooks=[hook])
    measured = [value for _, value in history.validation]
    return [history.best_step, len(history.losses), *measured, *model.weight.flatten().tolist()]


# -- fingerprints -------------------------------------------------------------------------------------


def flat(value) -> torch.Tensor:
    """All numbers in a value, in order; texts by their characters. The card of a data set is left out."""
    if isinstance(value, torch.Tensor):
        return value.detach().double().flatten()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.astype("f8")).flatten()
    if isinstance(value, str):
        return torch.tensor([float(ord(c)) for c in value], dtype=torch.float64)
    if isinstance(value, date):
        return flat(value.toordinal())
    if isinstance(value, Meta) or value is None:
        return flat([])
    if dataclasses.is_dataclass(value):
        return flat([getattr(value, field.name) for field in dataclasses.fields(value)])
    if isinstance(value, dict):
        return flat([*value.items()])
    if isinstance(value, list | tuple):
        return torch.cat([torch.empty(0, dtype=torch.float64), *map(flat, value)])
    return torch.tensor([float(value)], dtype=torch.float64)


def fingerprint(value) -> list[float]:
    """How many numbers there are, their norm, and their sum with weights that tell places apart.

    Not a hash: the last digits differ between builds of the same mathematics.
    """
    x = flat(value)
    weights = torch.cos(torch.arange(len(x), dtype=torch.float64) * math.sqrt(2))
    return [len(x), x.norm().item(), (x @ weights).item()]


def equal(name: str, before: list[float], now: list[float]) -> bool:
    """Curves to a relative 1e-9, number by number; fingerprints to 1e-6 of their norm."""
    if name.endswith("_curve()"):
        return len(before) == len(now) and np.allclose(before, now, rtol=1e-9, atol=1e-12)
    near = LOOSE.get(name, 1e-6) * max(before[1], 1e-9)
    return before[0] == now[0] and abs(before[1] - now[1]) <= near and abs(before[2] - now[2]) <= near


def module(name: str):
    return importlib.import_module(f"course_lib.{name}")


def made(part: str, name: str) -> list[float]:
    """What one expression, or one data set, gives now."""
    if name.endswith("_curve()"):
        return globals()[name[:-2]]()
    words = {"np": np, "torch": torch, "load": load, "describe": describe, **vars(module(part))}
    return fingerprint(load(name) if name in names() else eval(name, words))


def wanted() -> dict[str, list[str]]:
    """The names to pin by module: expressions, and the data sets that the module makes."""
    found = {part: list(expressions) for part, expressions in MADE.items()}
    for name in names():
        make = dataset._sources[name].make
        found[getattr(make, "func", make).__module__.removeprefix("course_lib.")].append(name)
    return found


def versions(name: str) -> dict[str, str]:
    """Of the packages whose release changes this data set."""
    for dated in ("english", "source_code", "multilingual"):
        if dated in name:
            return load(dated).meta.versions
    return {}


def pins() -> dict[str, dict]:
    return json.loads(FILE.read_text("utf-8"))


def complaint(part: str, name: str) -> str:
    """What is to be said about one name; nothing where its numbers are what they were."""
    entry, file = pins().get(part, {}), f"course_lib/{part.replace('.', '/')}.py"
    if entry.get("__numerics__") != module(part).__numerics__ or name not in entry:
        return f"{file} has another __numerics__ than its pins, or {name} none: {PIN_ANEW}"
    if not equal(name, entry[name]["now"], made(part, name)):
        return f"numbers changed: raise __numerics__ in {file} ({name}), then {PIN_ANEW}"
    return ""


def write() -> None:
    """Pin everything anew; refused where numbers changed under the same ``__numerics__``."""
    before = pins() if FILE.exists() else {}
    lines = []
    for part, expressions in wanted().items():
        number, entry = module(part).__numerics__, before.get(part, {})
        for name in expressions if entry.get("__numerics__") == number else ():
            same = name in entry and entry[name]["versions"] == versions(name)
            if same and (text := complaint(part, name)):
                sys.exit(text)
        content = {name: {"versions": versions(name), "now": made(part, name)} for name in expressions}
        rows = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
        lines.append(f" {json.dumps(part)}: {{\n" + ",\n".join([f'  "__numerics__": {number}', *rows]) + "}")
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


# -- the guard, and that it bites ---------------------------------------------------------------------


@pytest.mark.parametrize(("part", "name"), [(p, name) for p, found in wanted().items() for name in found])
def test_the_numbers_are_what_they_were(part, name):
    pin = pins().get(part, {}).get(name)
    if pin and pin["versions"] != versions(name):
        pytest.skip(f"pinned with {pin['versions']}, here are {versions(name)}")
    assert not (text := complaint(part, name)), text


def test_every_ground_module_is_pinned_with_all_that_it_makes():
    numbered = {
        ".".join(file.relative_to(COURSE).with_suffix("").parts)
        for file in COURSE.rglob("*.py")
        if "\n__numerics__ = " in file.read_text("utf-8")
    }
    assert numbered == {*MADE, *ELSEWHERE}
    for part, expressions in MADE.items():
        public = () if "._" in part else registry.public_names(f"course_lib.{part}")
        functions = {name for name in public if inspect.isfunction(getattr(module(part), name))}
        missing = [f for f in functions - UNPINNED if not any(f in expression for expression in expressions)]
        assert not missing, f"{part} makes more than is pinned: {missing}"


@pytest.mark.parametrize(
    ("fault", "planted", "part", "name"),
    [
        ("training._batches.seed_of", lambda seed, _, step: seed + step, "training.loop", "vector_curve()"),
        ("training._batches.seed_of", lambda seed, _, step: seed + step, "training.loop", "text_curve()"),
        ("training.loop.reseed", lambda *a: None, "training.loop", "vector_curve()"),  # dropout alone
        ("training.loop.nn.utils.clip_grad_norm_", lambda *a: None, "training.loop", "vector_curve()"),
        ("training.loop.F.mse_loss", F.l1_loss, "training.loop", "adamw_curve()"),
        ("training.hooks.EarlyStopping.during", lambda *a: contextlib.nullcontext(), "training.hooks",
         "stopped_curve()"),
        ("data.tables.split_rows", partial(split_rows, seed=1), "data.tables", "digits"),
        ("data.tables.split_rows", partial(split_rows, seed=1), "data.canvas", "cluttered_digits"),
        ("data.synthetic._generator", lambda seed: torch.Generator().manual_seed(seed + 1),
         "data.synthetic", "majority"),
    ],
)  # fmt: skip
def test_a_changed_number_is_noticed(monkeypatch, fault, planted, part, name):
    monkeypatch.setattr(dataset, "_loaded", {})
    assert complaint(part, name) == ""
    monkeypatch.setattr(dataset, "_loaded", {})
    monkeypatch.setattr(f"course_lib.{fault}", planted)
    assert complaint(part, name).startswith(
        f"numbers changed: raise __numerics__ in course_lib/{part.replace('.', '/')}.py ({name})"
    )


def test_fingerprints_see_one_value_and_the_order_but_not_the_last_digit():
    x = torch.rand(1000, 64, generator=torch.Generator().manual_seed(0))
    pin = fingerprint(x)
    assert equal("", pin, fingerprint(x * (1 + 1e-7 * torch.randn_like(x))))
    one = x.clone()
    one[500, 7] += 1e-3
    for other in (one, x.flip(0), x[:, torch.randperm(64)], x[:-1]):
        assert not equal("", pin, fingerprint(other))


def test_pins_are_written_anew_only_for_a_raised_number(monkeypatch, tmp_path):
    text = FILE.read_text("utf-8")
    monkeypatch.setattr(sys.modules[__name__], "FILE", tmp_path / "numerics.json")
    monkeypatch.setattr(sys.modules[__name__], "MADE", {"training.loop": MADE["training.loop"]})
    monkeypatch.setattr(sys.modules[__name__], "names", lambda: [])
    FILE.write_text(text)
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *a: None)
    with pytest.raises(SystemExit, match=r"raise __numerics__ in course_lib/training/loop\.py"):
        write()
    assert FILE.read_text() == text
    monkeypatch.setattr(module("training.loop"), "__numerics__", 2)
    assert "has another __numerics__ than its pins" in complaint("training.loop", "text_curve()")
    write()
    assert complaint("training.loop", "vector_curve()") == ""


if __name__ == "__main__":
    write()
