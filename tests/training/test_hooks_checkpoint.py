"""Checkpoints: the same bits however often a run is broken off, and no file is trusted."""

import inspect
import os
import signal
import subprocess
import sys
import textwrap
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from course_lib.data import Split
from course_lib.training import hooks
from course_lib.training.hooks import Checkpoint, EarlyStopping
from course_lib.training.loop import History, cosine_schedule, fit
from tests.training.loop_models import classes, noisy_net, regression, same

SGD = torch.optim.SGD

LONG = {"steps": 60, "batch_size": 10, "seed": 3, "schedule": cosine_schedule(warmup=5)}


def long_fit(model: nn.Module, checkpoint: Path | None = None, hook=None, **more) -> History:
    hooks = [Checkpoint(checkpoint, every=7)] if checkpoint else []
    hooks += [hook] * (hook is not None) + [EarlyStopping(classes(), patience=50, every=7)]
    return fit(model, classes(), **{**LONG, **more}, hooks=hooks)


KILLED = """
import sys, time
import torch
from torch import nn
from course_lib.training.hooks import Checkpoint, EarlyStopping
from course_lib.training.loop import cosine_schedule, fit

torch.set_num_threads(1)  # as in this process: the last bits depend on it

def report(run):
    print(run.step, flush=True)
    time.sleep(0.02)
"""


def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    path = tmp_path / "run.pt"
    root = Path(__file__).resolve().parents[2]
    functions = "\n".join(textwrap.dedent(inspect.getsource(f)) for f in (classes, noisy_net, long_fit))
    functions = functions.replace(": Path | None", "").replace(" -> History", "")
    settings = "LONG = dict(steps=60, batch_size=10, seed=3, schedule=cosine_schedule(warmup=5))"
    script = f"{KILLED}\n{settings}\n{functions}\nlong_fit(noisy_net(), sys.argv[1], hook=report)"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        while int(process.stdout.readline()) < 25:
            pass
        process.kill()
    assert process.returncode == -signal.SIGKILL
    reached = len(torch.load(path, weights_only=True)["history"]["losses"])
    assert 21 <= reached < 60

    whole, resumed, steps = noisy_net(), noisy_net(seed=99), []
    expected = long_fit(whole)
    history = long_fit(resumed, path, hook=lambda run: steps.append(run.step))
    assert steps[0] == reached + 1
    assert history.losses == expected.losses
    assert same(whole, resumed)
    assert history.validation == expected.validation
    assert history.best_step == expected.best_step


@pytest.mark.parametrize("stop", [6, 7, 8, 35, 59])
def test_a_run_broken_off_at_any_step_resumes_to_the_same_bits(tmp_path, stop):
    class Crash(Exception):
        pass

    def crash(run):
        if run.step == stop:
            raise Crash

    model, whole = noisy_net(), noisy_net()
    with pytest.raises(Crash):
        long_fit(model, tmp_path / "run.pt", crash)
    resumed = noisy_net(seed=0 if stop <= 7 else 99)  # the first saving comes at the end of step 7
    history, expected = long_fit(resumed, tmp_path / "run.pt"), long_fit(whole)
    assert same(whole, resumed)
    assert history.losses == expected.losses


@pytest.mark.parametrize("data", ["function", "loader"])
def test_other_sources_of_batches_resume_as_well(tmp_path, data):
    x, y = classes()

    def batch(generator):
        rows = torch.randint(len(x), (8,), generator=generator)
        return x[rows], y[rows]

    source = (
        batch if data == "function" else DataLoader(Split(x, y), batch_size=8, shuffle=True, drop_last=True)
    )
    whole, resumed = noisy_net(), noisy_net(seed=99)
    expected = fit(whole, source, steps=20)

    def crash(run):
        if run.step == 15:
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        fit(noisy_net(), source, steps=20, hooks=[Checkpoint(tmp_path / "run.pt", every=6), crash])
    history = fit(resumed, source, steps=20, hooks=[Checkpoint(tmp_path / "run.pt", every=6)])
    assert history.losses == expected.losses
    assert same(whole, resumed)


def test_a_finished_run_is_given_back_without_another_step(tmp_path):
    first, second, steps = noisy_net(), noisy_net(seed=99), []
    done = long_fit(first, tmp_path / "run.pt")
    again = long_fit(second, tmp_path / "run.pt", hook=lambda run: steps.append(run.step))
    assert steps == []
    assert (again.losses, again.stopped) == (done.losses, "steps")
    assert same(first, second)
    assert os.listdir(tmp_path) == ["run.pt"]


def test_early_stopping_survives_a_resumption(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(12, 20)
    train, held_out = (x[:6], torch.randn(6, 1)), (x[6:], torch.randn(6, 1))
    arguments = {"steps": 400, "lr": 0.01}

    def stopping():
        return EarlyStopping(held_out, patience=3, every=5)

    def net(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 1))

    whole, resumed = net(0), net(9)
    expected = fit(whole, train, **arguments, hooks=[stopping()])

    def crash(run):
        if run.step == expected.best_step + 12:
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        fit(net(0), train, **arguments, hooks=[Checkpoint(tmp_path / "run.pt", every=5), stopping(), crash])
    history = fit(resumed, train, **arguments, hooks=[Checkpoint(tmp_path / "run.pt", every=5), stopping()])
    assert (history.stopped, history.best_step) == ("patience", expected.best_step)
    assert same(whole, resumed)


@pytest.mark.parametrize("thread", ["main", "other"])
def test_ctrl_c_finishes_the_step_and_saves(tmp_path, thread):
    def press(run):
        if run.step == 10:
            os.kill(os.getpid(), signal.SIGINT)

    if thread == "other":  # there, signals are not heard: the run goes on, and the handler is not touched
        done = []
        worker = threading.Thread(target=lambda: done.append(long_fit(noisy_net())))
        worker.start()
        worker.join()
        assert done[0].stopped == "steps"
        return
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"after 10 of 60 steps; the checkpoint .*run\.pt goes on"):
        long_fit(noisy_net(), tmp_path / "run.pt", press)
    assert signal.getsignal(signal.SIGINT) is handler
    whole, resumed = noisy_net(), noisy_net(seed=99)
    steps = []
    long_fit(resumed, tmp_path / "run.pt", hook=lambda run: steps.append(run.step))
    long_fit(whole)
    assert steps[0] == 11
    assert same(whole, resumed)


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    def press(run):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("went on after the second Ctrl-C")

    with pytest.raises(KeyboardInterrupt):
        long_fit(noisy_net(), tmp_path / "run.pt", press)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 61}, "steps is 60, here it is 61"),
        ({"lr": 0.5}, "optimizer"),
        ({"seed": 4}, "seed"),
        ({"clip": 1.0}, "clip"),
        ({"loss": F.cross_entropy}, "loss is default_loss, here it is cross_entropy"),
        ({"optimizer": partial(SGD, momentum=0.9)}, "optimizer"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, change, named):
    path = tmp_path / "run.pt"
    long_fit(noisy_net(), path)
    kept = path.read_bytes()
    with pytest.raises(ValueError, match=rf"run\.pt was written by another run: its .*{named}"):
        long_fit(noisy_net(), path, **change)
    assert path.read_bytes() == kept


def test_a_checkpoint_of_another_model_or_other_data_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    fit(nn.Linear(3, 1), regression(), steps=2, hooks=[Checkpoint(path)])
    with pytest.raises(ValueError, match="its model is"):
        fit(nn.Linear(3, 1, bias=False), regression(), steps=2, hooks=[Checkpoint(path)])
    x, y = regression()
    with pytest.raises(ValueError, match="its data is"):
        fit(nn.Linear(3, 1), (x, y + 1), steps=2, hooks=[Checkpoint(path)])


@pytest.mark.parametrize("left", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused_by_name(tmp_path, left):
    path = tmp_path / "run.pt"
    long_fit(noisy_net(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left * len(whole)) if isinstance(left, float) else left])
    with pytest.raises(ValueError, match=r"run\.pt is no whole checkpoint of fit"):
        long_fit(noisy_net(), path)


class Trap:
    """Pickles to a call."""

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_checkpoint_cannot_run_code(tmp_path):
    trap = Trap()
    trap.folder = str(tmp_path / "sprung")
    torch.save({"format": 2, "model": trap}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="is no whole checkpoint of fit"):
        long_fit(noisy_net(), tmp_path / "run.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [3, {"format": 2}, {"format": 1}, {"weights": torch.zeros(2)}])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="is no whole checkpoint of fit"):
        long_fit(noisy_net(), tmp_path / "run.pt")


def test_a_folder_that_cannot_be_written_is_named_before_the_first_step(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    steps = []
    for path in (tmp_path / "file" / "run.pt", tmp_path):
        with pytest.raises(
            ValueError, match=r"cannot write a checkpoint to .*; name a file in a folder of yours"
        ):
            long_fit(noisy_net(), path, steps.append)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)  # as a read-only folder does to anybody but root
    with pytest.raises(ValueError, match=r"cannot write a checkpoint to .*Permission denied"):
        long_fit(noisy_net(), tmp_path / "run.pt", steps.append)
    assert steps == []


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    path, save, saved = tmp_path / "run.pt", torch.save, []

    def fill(content, file):
        if len(saved) == 2:
            file.write(b"half a")
            raise OSError(28, "No space left on device")
        saved.append(save(content, file))

    monkeypatch.setattr(hooks.torch, "save", fill)
    with pytest.raises(OSError, match=r"cannot write the checkpoint .*run\.pt: .*No space left"):
        long_fit(noisy_net(), path)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["run.pt"]
    whole, resumed = noisy_net(), noisy_net(seed=99)
    long_fit(resumed, path)
    long_fit(whole)
    assert same(whole, resumed)


def test_folders_of_a_checkpoint_are_made(tmp_path):
    fit(nn.Linear(3, 1), regression(), steps=1, hooks=[Checkpoint(tmp_path / "a" / "b" / "run.pt")])
    assert (tmp_path / "a" / "b" / "run.pt").is_file()
