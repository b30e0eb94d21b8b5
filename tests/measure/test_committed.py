"""The committed results of the course: all of this code, none edited, and a sample still comes out."""

import os
import subprocess
import sys

import pytest

from course_lib.measure import store
from course_lib.measure.command import discover, orphans


def test_no_committed_result_is_stale_missing_or_edited():
    states = {name: store.state(function) for name, function in discover().items()}
    wrong = [f"{name} is {state}" for name, state in states.items() if state != "fresh"]
    assert not wrong, "\n".join([*wrong, "measure them with: make claims"])


def test_no_result_has_lost_its_experiment():
    lost = [f"{file.name}: {name}" for file, name in orphans(discover())]
    assert not lost, "\n".join([*lost, "take them out with: make claims"])


@pytest.mark.slow
def test_a_sample_comes_out_again():
    """Another part of the results every day; ``COURSE_VERIFY_SECONDS`` of computing, 240 unless set."""
    minutes = float(os.environ.get("COURSE_VERIFY_SECONDS", "240")) / 60
    command = [sys.executable, "-m", "course_lib.experiments", "verify", "--minutes", str(minutes)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
