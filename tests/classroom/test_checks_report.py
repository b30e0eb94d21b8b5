"""What ``check_layer`` reports, accepts and leaves alone."""

import pickle
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from course_lib import classroom
from course_lib.classroom._contract import HOUSE_RULES, SLOW
from course_lib.classroom._contract.subject import as_installed
from course_lib.classroom.checks import LayerCheckError, check_layer, documented_checks
from tests.classroom.layers_for_checks import (
    BranchesOnValues,
    DropsInTraining,
    HasUnusedParameter,
    HasWrongBackward,
    HoldsLock,
    Raises,
    ShowsNoSize,
    Sound,
    WideAndBroken,
    report_of,
)


def test_only_checks_without_a_question_are_not_applicable():
    def skipped(report):
        return {name for name, result in report.results.items() if result.status == "not applicable"}

    full = check_layer(
        lambda: (Sound(), torch.randn(3, 5, 6)), slow=True, causal=True, permutation_equivariant=True
    )
    assert skipped(full) == {"streaming"}
    assert skipped(check_layer(nn.Tanh(), torch.randn(4), slow=True)) == {
        "gradients",
        "ensemble",
        "meta_build",
        "default_dtype",
        "batch_independent",
        "causal",
        "streaming",
        "permutation_equivariant",
        "wrong_last_dim",
    }


def test_one_error_lists_all_failures():
    with pytest.raises(LayerCheckError) as caught:
        check_layer(WideAndBroken(), torch.randn(3, 5, 6))
    assert caught.value.report.failed == ["gradients", "wrong_last_dim"]
    assert re.search(r"2 failed.*\n  gradients: zero .*\n  wrong_last_dim: 7 instead of 6", str(caught.value))


def test_a_layer_that_does_not_run_is_reported_once():
    report = report_of(Raises(), torch.randn(3, 5, 6))
    assert report.failed == ["output_shape_dtype"]
    assert "RuntimeError: no such thing" in report.results["output_shape_dtype"].message
    assert {r.status for r in report.results.values()} == {"failed", "not applicable"}


def test_a_layer_that_cannot_be_copied_asks_for_a_factory():
    report = report_of(HoldsLock(), torch.randn(3, 5, 6))
    assert report.failed == ["deepcopy_pickle"]
    assert "pass a function that builds it" in report.results["deepcopy_pickle"].message


def test_a_factory_that_returns_one_module_again_and_again_does_not_endanger_it():
    module, x = HoldsLock(), torch.randn(3, 5, 6)
    before = {name: p.clone() for name, p in module.state_dict().items()}
    assert report_of(lambda: (module, x)).failed == ["deepcopy_pickle"]
    assert all(torch.equal(before[name], p) for name, p in module.state_dict().items())


def test_an_exception_is_reported_with_its_reason():
    reason = "torch raises RuntimeError for a wrong width"
    report = check_layer(nn.Linear(6, 4), torch.randn(3, 5, 6), exceptions={"wrong_last_dim": reason})
    assert report.ok
    assert report.results["wrong_last_dim"].status == "excepted"
    assert report.results["wrong_last_dim"].message == reason


@pytest.mark.parametrize(
    ("check", "status"), [("dtypes", "passed"), ("permutation_equivariant", "not applicable")]
)
def test_an_exception_that_is_not_needed_fails(check, status):
    report = report_of(Sound(), torch.randn(3, 5, 6), exceptions={check: "it was so in 2019"})
    assert report.failed == [check]
    assert (
        report.results[check].message
        == f"the check is {status} for this layer; remove the exception (it was so in 2019)"
    )


def test_an_exception_covers_no_other_failure():
    assert report_of(
        WideAndBroken(), torch.randn(3, 5, 6), exceptions={"gradients": "kept for old files"}
    ).failed == ["wrong_last_dim"]


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((Sound(), torch.randn(3, 6)), {"casual": True}, "unknown trait 'casual'; did you mean causal?"),
        (
            (Sound(), torch.randn(3, 6)),
            {"exceptions": {"gradient": "x"}},
            "unknown check 'gradient'; did you mean gradients",
        ),
        ((Sound(), torch.randn(3, 6)), {"exceptions": {"zzz": "x"}}, "unknown check 'zzz'; known:"),
        ((Sound(), torch.randn(3, 6)), {"exceptions": {"export": " "}}, "has no reason"),
        ((Sound(),), {}, "no example input"),
        ((nn.LazyLinear(4), torch.randn(3, 6)), {}, "call it once on an input"),
        ((Sound, torch.randn(3, 6)), {}, "build the layer first"),
        ((torch.randn(3, 6),), {}, "takes a module or a function"),
        ((lambda: Sound(),), {}, r"must return \(module, \*inputs\), got Sound"),
        ((lambda: (Sound(), torch.randn(3, 6)), torch.randn(3, 6)), {}, "brings its own inputs"),
    ],
)
def test_bad_arguments_raise_value_error(arguments, options, words):
    with pytest.raises(ValueError, match=words):
        check_layer(*arguments, **options)


def test_nothing_outside_is_changed():
    module, x = DropsInTraining().train(), torch.randn(3, 5, 6, requires_grad=True)
    state, x_before = {k: v.clone() for k, v in module.state_dict().items()}, x.detach().clone()
    globals_before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    with as_installed():  # beartype draws from Python's random numbers to choose which entries it looks at
        check_layer(module, x, stochastic=True)
    assert all(torch.equal(state[k], v) for k, v in module.state_dict().items())
    assert module.training
    assert all(p.grad is None for p in module.parameters())
    assert torch.equal(x, x_before)
    assert x.grad is None
    assert torch.equal(torch.get_rng_state(), globals_before[0])
    assert random.getstate() == globals_before[1]
    assert (np.random.get_state()[1] == globals_before[2]).all()
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_gradient_mode_does_not_matter(mode):
    module, x = HasUnusedParameter(), torch.randn(3, 5, 6)
    with mode():
        assert report_of(module, x).failed == ["gradients"]


def test_two_runs_give_the_same_report():
    def outcome():
        torch.rand(1)
        report = report_of(lambda: (HasWrongBackward(), torch.randn(3, 5, 6)))
        return {name: (result.status, result.message) for name, result in report.results.items()}

    assert outcome() == outcome()


def test_a_failed_export_prints_nothing(capfd):
    report_of(BranchesOnValues(), torch.randn(3, 5, 6), slow=True)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_the_report_reads_as_text_and_as_a_table():
    report = report_of(ShowsNoSize(), torch.randn(3, 5, 6))
    lines = str(report).splitlines()
    assert re.fullmatch(r"ShowsNoSize: 18 passed, 1 failed, 6 not applicable", lines[0])
    assert len(lines) == 1 + len(documented_checks())
    assert any(re.match(r"  ✗ repr +'ShowsNoSize\(\)' shows no size; ", line) for line in lines)
    table = report._repr_html_()
    assert table.count('<th scope="row"') == len(documented_checks())
    assert "<caption" in table
    assert "&#x27;ShowsNoSize()&#x27; shows no size" in table


def test_what_is_slow_and_house_rules_are_left_out_where_they_are_not_wanted():
    def left_out(**options):
        results = report_of(lambda: (Sound(), torch.randn(3, 5, 6)), **options).results
        return {n for n, r in results.items() if r.message in ("slow=True runs it", "a house rule")}

    assert left_out() == SLOW
    assert left_out(slow=True) == set()
    assert left_out(slow=True, house_rules=False) == HOUSE_RULES


def test_every_check_is_documented_in_one_sentence():
    for name, sentence in documented_checks().items():
        assert sentence.endswith("."), name


def test_the_error_survives_the_way_from_another_process():
    with pytest.raises(LayerCheckError) as caught:
        check_layer(ShowsNoSize(), torch.randn(3, 5, 6))
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.report == caught.value.report


def loaded_after(code):
    """Which of a few heavy packages are loaded after some code, in an interpreter of its own."""
    heavy = "[m for m in ('torch', 'matplotlib', 'IPython', 'sklearn') if m in sys.modules]"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint({heavy})"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return done.stdout.strip()


def test_the_classroom_loads_only_what_is_asked_for():
    assert loaded_after("import course_lib.classroom") == "[]"
    assert loaded_after("from course_lib.classroom import check_layer") == "['torch']"


def test_every_name_of_the_classroom_can_be_had():
    for name in classroom.__all__:
        assert callable(getattr(classroom, name)), name
        assert name in dir(classroom)


def test_an_unknown_name_of_the_classroom_is_an_attribute_error():
    with pytest.raises(AttributeError, match="attribute nothing"):
        classroom.nothing  # noqa: B018
