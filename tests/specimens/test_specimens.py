"""Specimens on their way from the recipe to a file and back: when they are used, and when refused."""

import importlib
import itertools
import os
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from course_lib.measure.hashing import reached
from course_lib.specimens import __main__ as command
from course_lib.specimens import _specimen, load
from course_lib.specimens._specimen import Check, find

RECIPE = '''
import torch
from torch import nn

from course_lib.specimens._specimen import Check, specimen

SLOPE = 0.5


def build():
    """A line, at a random start."""
    return nn.Linear(2, 1)


def accept(model):
    """Its slopes add up."""
    return [Check("sum of slopes", model.weight.sum().item(), at_least=0.9)]


@specimen("line", build=build, accept=accept)
def recipe():
    """A line that is set, not trained."""
    model = build()
    with torch.no_grad():
        model.weight.fill_(SLOPE)
    return model
'''


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the recipe with a change, and imports it as a new process would."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(_specimen, "_specimens", dict(_specimen._specimens))
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))

    moments = itertools.count(1, 10**9)

    def write(old="", new=""):
        assert old in RECIPE
        file = tmp_path / "line_recipe.py"
        file.write_text(RECIPE.replace(old, new) if old else RECIPE)
        os.utime(file, ns=(0, next(moments)))  # the clock of a file system is coarse
        sys.modules.pop("line_recipe", None)
        importlib.invalidate_caches()
        importlib.import_module("line_recipe")

    write()
    yield write
    sys.modules.pop("line_recipe", None)


@pytest.fixture
def trained(write):
    find("line").train()
    return write


def test_fresh_weights_are_loaded_into_a_network_of_their_own(trained):
    model = load("line")
    assert isinstance(model, nn.Linear)
    assert not model.training
    assert model.weight.tolist() == [[0.5, 0.5]]
    nn.init.zeros_(model.weight)
    assert load("line").weight.tolist() == [[0.5, 0.5]]


def test_weights_take_half_the_bytes_and_are_tested_as_they_are_stored(write):
    write("SLOPE = 0.5", "SLOPE = 0.7")
    find("line").train()
    assert load_file(find("line").files[0])["weight"].dtype == torch.float16
    assert load("line").weight.tolist() == [[torch.tensor(0.7).half().item()] * 2]


def test_the_callers_random_numbers_are_left_alone_and_decide_nothing(write):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    find("line").train()
    first = load("line").bias
    assert torch.equal(torch.rand(3), expected)
    find("line").train()
    assert torch.equal(load("line").bias, first)


CHANGES = [
    ("A line that is set, not trained.", "Other words.", "fresh"),
    ("model = build()", "model = build()  # a comment", "fresh"),
    ("at_least=0.9", "at_least=0.8", "fresh"),  # the test suite tests the shipped weights
    ("SLOPE = 0.5", "SLOPE = 0.6", "stale"),
    ("nn.Linear(2, 1)", "nn.Linear(2, 1, bias=True)", "stale"),
]


@pytest.mark.parametrize(("old", "new", "state"), CHANGES)
def test_weights_are_stale_when_the_code_that_made_them_has_changed(trained, old, new, state):
    trained(old, new)
    assert find("line").facts()["state"] == state


def test_missing_stale_and_broken_weights_are_refused_with_the_remedy(write):
    with pytest.raises(RuntimeError, match="'line' are missing: train them by make specimens"):
        load("line")
    find("line").train()
    write("SLOPE = 0.5", "SLOPE = 0.6")
    with pytest.raises(RuntimeError, match="'line' are stale: train them by make specimens"):
        load("line")
    write()
    file = find("line").files[0]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(RuntimeError, match="'line' are missing"):
        load("line")
    save_file({"weight": torch.zeros(1, 2)}, file)
    with pytest.raises(RuntimeError, match="'line' are stale"):
        load("line")


def test_a_network_that_is_not_accepted_leaves_the_file_as_it_was(trained, capsys):
    before = find("line").files[0].read_bytes()
    trained("SLOPE = 0.5", "SLOPE = float('nan')")
    assert command.main(["build", "line"]) == 1
    assert "line is not accepted: sum of slopes nan, at least 0.9" in capsys.readouterr().err
    assert find("line").files[0].read_bytes() == before


def test_an_installed_package_writes_into_the_users_cache(write, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(_specimen, "source_tree", lambda: None)
    assert command.main(["build", "line"]) == 0
    assert f"training, into {tmp_path / 'cache' / 'specimens'}" in capsys.readouterr().out
    assert not find("line").files[0].exists()
    assert load("line").weight.tolist() == [[0.5, 0.5]]


def test_the_command_shows_every_state_and_trains_what_is_not_fresh(write, capsys):
    def said(*arguments):
        assert command.main([*arguments, "line"]) == 0
        return capsys.readouterr().out

    assert said("status").split() == ["line", "missing"]
    assert "training" in said("build")
    assert "sum of slopes 1, at least 0.9" in said("status")
    assert "training" not in said("build")
    assert "training" in said("build", "--force")
    write("SLOPE = 0.5", "SLOPE = 0.6")
    assert said("status").split() == ["line", "stale"]


def test_an_unknown_name_is_refused_with_a_hint(capsys):
    with pytest.raises(ValueError, match="did you mean char_gpt"):
        load("chargpt")
    with pytest.raises(ValueError, match="known are char_gpt, digit_vit"):
        load("resnet152")
    assert command.main(["status", "resnet152"]) == 2
    assert "no specimen is called 'resnet152'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("check", "passed"),
    [
        (Check("a", 1.0, at_least=1.0), True),
        (Check("a", 0.9, at_least=1.0), False),
        (Check("a", 1.1, at_most=1.0), False),
        (Check("a", float("nan"), at_least=0.0), False),
        (Check("a", float("nan"), at_most=0.0), False),
    ],
)
def test_a_check_keeps_its_bounds(check, passed):
    assert check.passed is passed


def test_an_experiment_depends_on_the_recipe_and_not_on_how_weights_are_kept(write, tmp_path):
    (tmp_path / "line_user.py").write_text(
        "from course_lib.specimens import load\ndef measure(seed):\n    return load('char_gpt')\n"
    )
    found = [n.removeprefix("course_lib.") for n in reached(importlib.import_module("line_user").measure)]
    assert {"specimens.networks.char_gpt", "models.transformers.gpt.GPT", "training.loop.fit"} <= {*found}
    assert "specimens.networks.digit_vit" not in found
    assert [name for name in found if "Specimen" in name] == []
