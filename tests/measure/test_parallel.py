"""Many processes: equal results on every backend, and what is finished survives whatever is killed."""

import json
import os
import signal
import time

import pytest

from course_lib.measure import measured


def need_cluster():
    """A Dask cluster takes minutes to start, lose workers and recover on a small machine: only on request."""
    if not os.environ.get("COURSE_CLUSTER"):
        pytest.skip("set COURSE_CLUSTER=1 to try a Dask cluster on this machine")
    pytest.importorskip("distributed", reason="the Dask backend needs dask.distributed")


def wait_for(condition):
    for _ in range(30_000):  # ten minutes, on any machine
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("waited in vain")


def finish(process):
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    return out


def serial_values(lab):
    """What one process gives, one seed after the other, without any store."""
    return list(measured(lab.function(), rerun=True)["value"].values)


def journalled(lab):
    return sorted(int(file.stem) for file in lab.folder.glob("build/experiments/*noisy/*/*.json"))


def test_killed_run_goes_on_and_loses_nothing(lab):
    (lab.log / "hold").touch()
    process = lab.process("run", "--jobs", "1")
    wait_for(lambda: journalled(lab) == [0, 1] and lab.runs("begun").get(2))  # seed 2 hangs
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert lab.runs() == {0: 1, 1: 1}
    assert not lab.json.exists()
    (lab.log / "hold").unlink()
    assert lab.cli("run") == 0
    assert lab.runs() == {0: 1, 1: 1, 2: 1, 3: 1}
    assert lab.runs("begun")[2] == 2
    assert journalled(lab) == []  # all is in the results now
    assert lab.values() == serial_values(lab)


def test_interrupted_forced_run_goes_on_too(lab):
    assert lab.cli("run", "noisy") == 0
    text = lab.json.read_text()
    (lab.log / "hold").touch()
    process = lab.process("run", "noisy", "--force", "--jobs", "1")
    wait_for(lambda: journalled(lab) == [0, 1] and lab.runs("begun")[2] == 2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "Finished seeds are kept: the same command goes on from here." in out
    assert lab.json.read_text() == text  # the old result holds until the new one is whole
    (lab.log / "hold").unlink()
    assert lab.cli("run", "noisy", "--force") == 0
    assert lab.runs() == {0: 2, 1: 2, 2: 2, 3: 2}


@pytest.mark.slow
def test_parallel_equals_serial_though_a_worker_is_killed(lab):
    (lab.log / "kill").touch()
    out = finish(lab.process("run", "--jobs", "2"))
    assert "A worker died" in out
    assert lab.values() == serial_values(lab)
    assert lab.runs()[1] == 2  # killed before it left the trace; once here, once in serial_values
    # A neighbour that was running when the pool broke may have had to start again, a finished one has not.
    assert all(count == 2 for count in lab.runs().values())


@pytest.fixture
def cluster(lab):
    """A Dask scheduler and two workers, started as on a cluster but on this machine; gives the address."""
    pytest.importorskip("distributed", reason="the Dask backend needs dask.distributed")
    file = lab.folder / "scheduler.json"
    common = ("--scheduler-file", str(file), "--no-dashboard", "--host", "127.0.0.1")
    scheduler = lab.python("-m", "distributed.cli.dask_scheduler", *common, "--port", "0")
    workers = lab.python("-m", "distributed.cli.dask_worker", *common, "--nworkers=2", "--nthreads=1")
    try:
        wait_for(file.exists)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in (workers, scheduler):
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.mark.slow
def test_dask_cluster_equals_loky_though_a_worker_is_killed(lab, cluster):
    finish(lab.process("run", "--jobs", "2"))
    loky = lab.values()
    (lab.log / "kill").touch()
    finish(lab.process("run", "noisy", "--force", "--backend", "dask", DASK_SCHEDULER_ADDRESS=cluster))
    assert lab.values() == loky == serial_values(lab)
    assert not (lab.log / "kill").exists()  # a worker did die
    assert lab.runs("begun")[1] == 4  # loky, the killed one, its second try, serial
    assert lab.runs() == dict.fromkeys(range(4), 3)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "dask"])
def test_seed_that_kills_every_worker_is_given_up(lab, backend):
    if backend == "dask":
        need_cluster()
    lab.change("layers/toy.py", '        (LOG / "kill").unlink()\n', "")
    (lab.log / "kill").touch()
    process = lab.process("run", "--backend", backend, "--jobs", "2")
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "3 workers died during seed 1: out of memory, or a crash?" in out
    assert "1 of 2 experiments measured" in out
    assert lab.runs("begun")[1] == 3
    assert journalled(lab) == [0, 2, 3]  # the other seeds wait for a better day


def test_unknown_backend_is_refused(lab, capsys):
    assert lab.cli("run", "--backend", "spark") == 2
    assert "unknown backend 'spark': use one of loky, dask, threading" in capsys.readouterr().err


def test_threads_do_not_disturb_each_other(lab):
    """They share one global generator, so they take turns."""
    assert lab.cli("run", "--backend", "threading", "--jobs", "4") == 0
    assert lab.values() == serial_values(lab)
