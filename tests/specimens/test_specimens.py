"""Specimens on their way from the recipe to a file and back: what is trained, when, and where it is kept."""

import errno
import os
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from course_lib.measure.hashing import reached
from course_lib.specimens import AcceptanceError, Check, load, record, specimen, verify
from course_lib.specimens.__main__ import main

EXACT = '[Check("error", abs(model.weight[0, 0].item() - 1 / 3), at_most=1e-6)]'


def wait_for(what):
    """Wait until something is true."""
    for _ in range(30_000):  # ten minutes, on any machine
        if what():
            return
        time.sleep(0.02)
    pytest.fail("nothing happened")


@pytest.fixture
def shipped(bench):
    """The bench with fresh weights beside its recipe."""
    assert bench.cli("build") == 0
    assert bench.trainings() == 1
    return bench


# -- Loading ----------------------------------------------------------------------------------------


def test_fresh_weights_are_loaded_without_training(shipped, capsys):
    model = shipped.load()
    assert isinstance(model, nn.Linear)
    assert not model.training
    assert model.weight.tolist() == [[0.5, 0.5]]
    assert shipped.trainings() == 1
    assert shipped.cached() == []
    assert capsys.readouterr().err == ""


def test_every_load_gives_a_network_of_its_own(shipped):
    first = shipped.load()
    nn.init.zeros_(first.weight)
    assert shipped.load().weight.tolist() == [[0.5, 0.5]]


def test_the_callers_random_numbers_and_threads_are_left_alone(bench):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    bench.load()  # trains
    bench.load()
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == 1


def test_the_seed_alone_decides(bench):
    torch.manual_seed(1)
    first = bench.specimen.train(0).tensors["bias"]
    torch.manual_seed(2)
    assert torch.equal(bench.specimen.train(0).tensors["bias"], first)
    assert not torch.equal(bench.specimen.train(1).tensors["bias"], first)


def test_another_seed_is_trained_once_and_kept(shipped, capsys):
    first = shipped.load(seed=7).bias
    assert torch.equal(shipped.load(seed=7).bias, first)
    assert not torch.equal(shipped.load().bias, first)
    assert shipped.trainings() == 2
    assert record(shipped.name, seed=7).seed == 7
    assert capsys.readouterr().err.count("seed 7 does not come with the package") == 1


def test_an_unknown_name_is_refused_with_a_hint():
    with pytest.raises(ValueError, match="did you mean char_gpt"):
        load("chargpt")
    with pytest.raises(ValueError, match="known are char_gpt"):
        load("resnet152")


# -- Stale ------------------------------------------------------------------------------------------


def test_stale_weights_are_trained_anew_once_and_kept_in_the_cache(shipped, capsys):
    shipped.change("SLOPE = 0.5", "SLOPE = 0.75")
    assert shipped.load().weight.tolist() == [[0.75, 0.75]]
    assert shipped.load().weight.tolist() == [[0.75, 0.75]]
    assert shipped.trainings() == 2
    assert len(shipped.cached()) == 1
    message = capsys.readouterr().err
    assert message.count("its code is newer than") == 1
    assert f"specimen {shipped.name}: " in message
    assert shipped.process().printed() == str(shipped.load().bias.item())
    assert shipped.trainings() == 2  # a new process finds them


def test_code_saved_during_a_training_is_not_taken_for_the_trained_one(bench):
    save = f"Path(__file__).write_text({bench.file.read_text().replace('SLOPE = 0.5', 'SLOPE = 0.75')!r})"
    bench.change("model = build()", f"model = build()\n    {save}")
    bench.cli("build")
    assert bench.specimen.state() == "stale"


def test_the_old_code_still_finds_the_old_weights(shipped):
    shipped.change("SLOPE = 0.5", "SLOPE = 0.75")
    shipped.load()
    shipped.change("SLOPE = 0.75", "SLOPE = 0.5")
    assert shipped.load().weight.tolist() == [[0.5, 0.5]]
    assert shipped.trainings() == 2


@pytest.mark.parametrize(
    ("old", "new", "state"),
    [
        ("A line that is set, not trained.", "Other words.", "fresh"),
        ("model = build()", "model = build()  # a comment", "fresh"),
        ("SLOPE = 0.5", "SLOPE = 0.6", "stale"),
        ("nn.Linear(2, 1)", "nn.Linear(2, 1, bias=True)", "stale"),  # the builder counts
        ("at_least=0.9", "at_least=0.8", "untested"),
        ("Its slopes add up.", "Other words.", "fresh"),
    ],
)
def test_what_makes_weights_stale(shipped, old, new, state):
    shipped.change(old, new)
    assert shipped.specimen.state() == state


def test_what_looks_into_a_specimen_depends_on_its_recipe_and_not_on_how_it_is_kept(bench):
    (bench.folder / f"{bench.name}_user.py").write_text(
        "from course_lib.specimens import load\ndef measure(seed):\n    return load('char_gpt')\n"
    )
    user = __import__(f"{bench.name}_user")
    found = [name.removeprefix("course_lib.") for name in reached(user.measure)]
    assert {"specimens.networks.char_gpt", "models.transformers.GPT", "training.loop.fit"} <= {*found}
    assert "specimens.networks.digit_vit" not in found
    assert [name for name in found if name.startswith(("specimens._specimen", "specimens._cache"))] == []


# -- Acceptance -------------------------------------------------------------------------------------


def test_a_network_that_fails_its_test_is_refused_and_not_kept(bench):
    bench.change("SLOPE = 0.5", "SLOPE = 0.25")
    with pytest.raises(AcceptanceError, match=r"sum of slopes 0.5, but should be at least 0.9"):
        bench.load()
    assert bench.cached() == []


def test_a_failing_recipe_leaves_the_shipped_file_as_it_was(shipped, capsys):
    before = shipped.shipped.read_bytes()
    shipped.change("SLOPE = 0.5", "SLOPE = float('nan')")
    assert shipped.cli("build") == 1
    assert "sum of slopes nan, but should be at least 0.9" in capsys.readouterr().err
    assert shipped.shipped.read_bytes() == before
    assert shipped.specimen.state() == "stale"


def test_a_test_made_harder_is_run_before_the_old_weights_are_used(shipped):
    shipped.change("at_least=0.9", "at_least=0.95")
    shipped.load()
    shipped.change("at_least=0.95", "at_least=1.5")
    for use in (shipped.load, lambda: verify(shipped.name)):
        with pytest.raises(AcceptanceError, match=r"1, but should be at least 1.5"):
            use()
    assert shipped.trainings() == 1


def test_building_after_a_change_of_the_test_does_not_train(shipped):
    shipped.change("at_least=0.9", "at_least=0.95")
    assert shipped.cli("build") == 0
    assert shipped.trainings() == 1
    assert shipped.specimen.state() == "fresh"
    assert record(shipped.name).checks == (Check("sum of slopes", 1.0, at_least=0.95),)


def test_verify_measures_again(shipped):
    assert verify(shipped.name) == [Check("sum of slopes", 1.0, at_least=0.9)]


def test_a_test_that_checks_nothing_accepts_nothing(bench):
    text = '[Check("sum of slopes", model.weight.sum().item(), at_least=0.9)]'
    bench.change(text, "[]")
    with pytest.raises(AcceptanceError, match="checks nothing"):
        bench.load()


@pytest.mark.parametrize(
    ("check", "passed"),
    [
        (Check("a", 1.0, at_least=1.0), True),
        (Check("a", 0.9, at_least=1.0), False),
        (Check("a", 1.1, at_most=1.0), False),
        (Check("a", 0.5, at_least=0.0, at_most=1.0), True),
        (Check("a", float("nan"), at_least=0.0), False),
        (Check("a", float("nan"), at_most=0.0), False),
    ],
)
def test_a_check_keeps_its_bounds(check, passed):
    assert check.passed is passed


def test_a_check_without_a_bound_is_refused():
    with pytest.raises(ValueError, match="no bound"):
        Check("accuracy", 0.9)


# -- Precision --------------------------------------------------------------------------------------


def dtypes(bench):
    with safe_open(bench.shipped, "pt") as stored:
        return {key: stored.get_tensor(key).dtype for key in ("weight", "bias")}


def test_weights_are_kept_in_half_precision_where_that_passes(shipped):
    assert dtypes(shipped) == {"weight": torch.float16, "bias": torch.float16}
    assert shipped.load().weight.dtype == torch.float32


def test_weights_are_kept_whole_where_half_precision_fails_the_test(bench):
    bench.change("SLOPE = 0.5", "SLOPE = 1 / 3")
    bench.change('[Check("sum of slopes", model.weight.sum().item(), at_least=0.9)]', EXACT)
    assert bench.cli("build") == 0
    assert dtypes(bench) == {"weight": torch.float32, "bias": torch.float32}


def test_a_tensor_beyond_half_precision_is_kept_whole(bench):
    bench.change("SLOPE = 0.5", "SLOPE = 1e6")
    assert bench.cli("build") == 0
    assert dtypes(bench) == {"weight": torch.float32, "bias": torch.float16}


def test_trained_and_loaded_networks_are_equal(bench):
    """Rounding comes before the first use, or the first run of a page would differ from the second."""
    bench.change("SLOPE = 0.5", "SLOPE = 0.7")
    first = bench.load()
    assert bench.trainings() == 1
    assert torch.equal(bench.load().weight, first.weight)
    assert torch.equal(bench.load().bias, first.bias)


# -- Several processes ------------------------------------------------------------------------------


def test_two_processes_train_once(bench):
    hold = bench.hold()
    both = [bench.process(), bench.process()]
    wait_for(lambda: "training it anew" in both[0].said + both[1].said)
    wait_for(lambda: "another process is training it; waiting" in both[0].said + both[1].said)
    hold.unlink()
    printed = {process.printed() for process in both}
    assert printed == {str(bench.load().bias.item())}
    assert bench.trainings() == 1
    assert len(bench.cached()) == 1


def test_a_process_killed_in_its_training_leaves_nothing_in_the_way(bench):
    hold = bench.hold()
    killed = bench.process()
    wait_for(lambda: bench.trainings() == 1)
    killed.kill()
    assert killed.printed() == ""
    assert bench.cached() == []
    hold.unlink()
    bench.load()
    assert bench.trainings() == 2
    assert len(bench.cached()) == 1


def part_of(bench) -> Path:
    """The file that is written before it gets its name."""
    cached = bench.specimen.cached(0)
    cached.parent.mkdir(parents=True, exist_ok=True)
    return cached.with_name(f".{cached.name}.part")


def test_a_process_killed_in_its_writing_leaves_nothing_in_the_way(bench):
    part_of(bench).write_bytes(b"the first half of a fi")
    bench.load()
    bench.load()
    assert bench.trainings() == 1
    assert not part_of(bench).exists()


# -- Where nothing can be kept ----------------------------------------------------------------------


def closed(bench, monkeypatch) -> None:
    bench.cache.write_text("a file, where a folder should be")


def read_only(bench, monkeypatch) -> None:
    (bench.cache / "specimens").mkdir(parents=True)
    (bench.cache / "specimens").chmod(0o500)
    real = os.open

    def refusing(path, flags, *rest, **options):  # nothing is read-only for the administrator
        if flags & (os.O_WRONLY | os.O_RDWR) and Path(os.fsdecode(path)).is_relative_to(bench.cache):
            raise PermissionError(errno.EACCES, "Permission denied", os.fsdecode(path))
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refusing)


def full(bench, monkeypatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    part_of(bench).symlink_to("/dev/full")


@pytest.mark.parametrize("trouble", [closed, read_only, full])
def test_without_a_cache_it_works_and_says_so(bench, monkeypatch, capsys, trouble):
    trouble(bench, monkeypatch)
    first = bench.load()
    assert torch.equal(bench.load().bias, first.bias)
    assert bench.trainings() == 1  # once in this process
    assert bench.cached() == []
    assert list(bench.cache.glob("**/.*.part")) == []
    message = capsys.readouterr().err
    assert message.count("it cannot be kept in") == 1
    assert "COURSE_CACHE" in message


def test_a_package_that_cannot_be_written_is_an_error(bench, capsys):
    bench.shipped.parent.write_text("a file, where a folder should be")
    assert bench.cli("build") == 1
    assert str(bench.shipped.parent) in capsys.readouterr().err


# -- Damage -----------------------------------------------------------------------------------------


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def better_record(file: Path) -> None:
    content = file.read_bytes()
    true, better = (rf"\"measured\": {value}".encode() for value in (1.0, 9.0))
    assert content.count(true) == 1
    file.write_bytes(content.replace(true, better))


def no_record(file: Path) -> None:
    save_file({"weight": torch.zeros(1, 2), "bias": torch.zeros(1)}, file)


def a_pickle(file: Path) -> None:
    torch.save({"weight": torch.zeros(1, 2)}, file)


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGE = [truncated, empty, flipped, better_record, no_record, a_pickle, a_folder]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_noticed_and_not_used(shipped, capsys, damage):
    damage(shipped.shipped)
    assert shipped.specimen.state() == "damaged"
    assert shipped.load().weight.tolist() == [[0.5, 0.5]]
    assert shipped.load().weight.tolist() == [[0.5, 0.5]]
    assert shipped.trainings() == 2
    message = capsys.readouterr().err
    assert str(shipped.shipped) in message
    assert message.count("training it anew") == 1


def test_a_damaged_file_in_the_cache_is_made_again(bench, capsys):
    bench.load()
    (file,) = bench.cached()
    flipped(file)
    bench.load()
    bench.load()
    assert bench.trainings() == 2
    assert f"{file} does not fit its checksum" in capsys.readouterr().err


def test_the_weights_of_another_seed_are_not_taken_for_those_asked_for(shipped):
    shipped.load(seed=7)
    shipped.shipped.write_bytes(shipped.cached()[0].read_bytes())
    assert shipped.specimen.state() == "stale"
    shipped.load()
    assert shipped.trainings() == 3


# -- The catalogue ----------------------------------------------------------------------------------


def test_a_name_must_be_the_name_of_a_file():
    with pytest.raises(ValueError, match="cannot be the name of a file"):
        specimen("../weights", build=nn.Identity, accept=list)


def test_a_function_inside_another_is_refused(bench):
    def inner(seed): ...

    functions = {"build": sys.modules[bench.module].build, "accept": sys.modules[bench.module].accept}
    with pytest.raises(ValueError, match="not at the top level of a module file"):
        specimen("inner", **functions)(inner)


def test_two_modules_cannot_share_a_name(bench):
    functions = {"build": wait_for, "accept": wait_for}
    with pytest.raises(ValueError, match="both name a specimen"):
        specimen(bench.name, **functions)(wait_for)


def test_a_recipe_that_builds_otherwise_is_refused(bench):
    bench.change("model = build()", "model = nn.Linear(2, 1)")
    with pytest.raises(ValueError, match=r"must call \w+\.build"):
        bench.load()


# -- The command line -------------------------------------------------------------------------------


def test_status_shows_every_state(bench, capsys):
    assert bench.cli("status", "--check") == 1
    assert "missing" in capsys.readouterr().out
    bench.cli("build")
    assert "built" in capsys.readouterr().out
    assert bench.cli("status", "--check") == 0
    line = capsys.readouterr().out
    assert all(word in line for word in (bench.name, "fresh", "float16", "sum of slopes 1, at least 0.9"))
    bench.change("SLOPE = 0.5", "SLOPE = 0.6")
    assert bench.cli("status", "--check") == 1
    assert "stale" in capsys.readouterr().out


def test_build_trains_what_is_not_fresh_and_by_force_what_is(shipped, capsys):
    assert shipped.cli("build") == 0
    assert shipped.trainings() == 1
    assert shipped.cli("build", "--force") == 0
    assert shipped.trainings() == 2


def test_weights_without_a_recipe_are_shown(shipped, capsys):
    lost = shipped.shipped.with_name("lost.safetensors")
    lost.touch()
    main(["status"])
    assert f"orphan   {lost}" in capsys.readouterr().out


def test_an_unknown_name_ends_with_2(capsys):
    assert main(["status", "resnet152"]) == 2
    assert "no specimen is called 'resnet152'" in capsys.readouterr().err
