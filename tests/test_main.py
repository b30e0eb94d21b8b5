"""The command line: what it prints, how it fails, and that every line fits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import course_lib
from course_lib import registry
from course_lib.__main__ import WIDTH, main

ROOT = Path(registry.__file__).resolve().parents[1]

# What the extras of pyproject.toml bring and the library alone must do without.
EXTRAS = ("matplotlib", "IPython", "jupytext", "nbclient", "networkx", "pytest", "beartype")


AS_MODULE = "import runpy; runpy.run_module('course_lib', run_name='__main__', alter_sys=True)"


def run(*words, code=AS_MODULE, **options):
    """``python -m course_lib`` in a process of its own, with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        **options,
    )


@pytest.fixture
def said(capsys):
    """Run the command line in this process; gives ``(exit code, output, errors)``."""

    def call(*words):
        code = main(words)
        return code, *capsys.readouterr()

    return call


def test_every_line_of_every_command_fits_into_the_width(said):
    shown = [["show", name] for name in dict.fromkeys(entry.name for entry in registry.public())]
    assert len(shown) > 400
    for words in [["list"], ["papers"], ["find", "norm"], *shown]:
        code, output, errors = said(*words)
        assert (code, errors) == (0, ""), words
        assert [line for line in output.splitlines() if len(line) > WIDTH] == [], words
        assert ":class:" not in output, words
        assert "``" not in output, words


def test_list_names_every_object_under_its_chapter(said):
    _, output, _ = said("list")
    names = {line.split()[0] for line in output.splitlines() if line.startswith("  ")}
    assert names == {entry.name for entry in registry.public()}
    assert "layers/norm: Normalization: what, where and whether" in output
    assert output.splitlines()[-1] == f"{len(registry.public())} objects"


def test_list_can_be_narrowed_to_a_chapter_and_by_traits(said):
    _, output, _ = said("list", "--chapter", "layers/norm", "--mixes-batch")
    names = {line.split()[0] for line in output.splitlines() if line.startswith("  ")}
    mixing = {
        e.name for e in registry.entries().values() if e.traits.mixes_batch and e.chapter == "layers/norm"
    }
    assert names == mixing
    assert "BatchNorm" in names
    assert "LayerNorm" not in names


def test_find_prints_name_chapter_and_summary(said):
    code, output, _ = said("find", "layer", "normalization", "recurrent")
    assert code == 0
    lines = output.splitlines()
    place = lines.index("LayerNormRNNCell  (layers/norm)")
    assert "recurrent network" in lines[place + 1]


def test_find_takes_words_in_one_string_or_several(said):
    assert said("find", "entropic overload") == said("find", "entropic", "overload")


def test_find_with_no_object_names_the_papers_that_match(said, monkeypatch):
    monkeypatch.setattr(registry, "find", lambda words, **traits: [])
    code, output, errors = said("find", "peri-ln")
    assert code == 0
    assert errors == "course_lib: no object matches 'peri-ln', but these papers do\n"
    assert "2502.02732  peri-ln" in output


def test_finding_nothing_at_all_says_so_and_exits_with_one(said):
    assert said("find", "zzzz") == (1, "", "course_lib: no object matches 'zzzz'\n")
    assert said("papers", "zzzz") == (1, "", "course_lib: no paper matches 'zzzz'\n")


def test_show_has_signature_description_papers_chapter_tests_and_traits(said):
    _, output, _ = said("show", "LayerNorm")
    lines = output.splitlines()
    assert lines[0] == "from course_lib.layers.norm import LayerNorm"
    assert lines[2:6] == ["LayerNorm(", "    dim: int,", "    eps: float = 1e-05,", "    *,"]
    assert "Args:" in lines
    assert "  Layer Normalization (2016)" in lines
    assert "  https://arxiv.org/abs/1607.06450" in lines
    assert "chapter  layers/norm: Normalization: what, where and whether" in lines
    assert "page     book/layers/norm.md" in lines
    assert lines[-1] == "traits   permutation-equivariant"


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("KVCache", "course_lib.layers.attention"),
        ("fit", "course_lib.training.loop"),
        ("CYCLE", "course_lib.classroom.style"),
        ("ClaimDrift", "course_lib.measure.claims"),
    ],
)
def test_show_has_what_is_not_registered_too(said, name, module):
    code, output, _ = said("show", name)
    assert code == 0
    assert output.startswith(f"from {module} import {name}\n")
    assert "papers" not in output.splitlines()


def test_show_tells_traits_of_the_class_from_those_of_its_example(said):
    lines = said("show", "GroupedQueryAttention")[1].splitlines()
    assert lines[-3:] == [
        "traits   none",
        "can be   causal, stochastic, by an argument",
        "example  causal",
    ]
    found = said("find", "attention", "--causal")[1]
    assert "MultiHeadAttention  (layers/attention)" in found
    assert "LabelAttention" not in found
    assert "MultiHeadAttention" in said("find", "attention", "--no-causal")[1]
    assert "LIFNeuron" not in said("find", "spike", "--no-causal")[1]


def test_show_prints_every_object_of_a_name(said):
    output = said("show", "load")[1]
    assert "from course_lib.data import load" in output
    assert "from course_lib.specimens import load" in output


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"course_lib {course_lib.__version__}\n"


def test_show_names_test_files_that_exist_and_name_the_object(said):
    _, output, _ = said("show", "LayerNorm")
    files = [line.split()[1] for line in output.splitlines() if line.startswith("tests ")]
    assert files
    assert all("LayerNorm" in (ROOT / file).read_text("utf-8") for file in files)


def test_show_breaks_a_long_signature_into_one_argument_per_line(said):
    _, output, _ = said("show", "invariance_table")
    lines = output.splitlines()
    assert lines[2] == "invariance_table("
    assert "    *," in lines
    assert "    seed: int = 0," in lines
    assert ") -> dict[str, dict[str, float]]" in lines


def test_show_prints_default_classes_by_name(said):
    _, output, _ = said("show", "TransformerBlock")
    assert "    norm_layer: Callable[..., Module] = LayerNorm," in output.splitlines()


def test_papers_tells_built_from_planned(said):
    _, output, _ = said("papers")
    rows = [line.split() for line in output.splitlines() if line.startswith(("  built ", "  planned "))]
    built = {paper_id for status, _, paper_id in rows if status == "built"}
    assert built == {paper_id for entry in registry.entries().values() for paper_id in entry.paper_ids}
    assert {paper_id for _, _, paper_id in rows} == set(registry.papers())
    assert output.splitlines()[-1] == f"{len(registry.papers())} papers, {len(built)} built"


def test_papers_of_one_chapter(said):
    _, output, _ = said("papers", "--chapter", "layers/norm")
    assert output.splitlines()[0] == "layers/norm: Normalization: what, where and whether"
    assert output.splitlines()[-1].startswith("6 papers")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "LayrNorm"], "course_lib: nothing is called 'LayrNorm'; did you mean LayerNorm"),
        (
            ["papers", "--chapter", "layers/nrm"],
            "course_lib: no chapter has the id 'layers/nrm'; did you mean layers/norm",
        ),
        (["list", "--chapter", "norm"], "course_lib: no chapter has the id 'norm'"),
        (["find", "norm", "--chapter", "layers/nom"], "did you mean layers/norm"),
    ],
    ids=" ".join,
)
def test_an_unknown_name_gives_one_line_with_a_suggestion_and_code_two(said, words, message):
    code, output, errors = said(*words)
    assert (code, output) == (2, "")
    assert message in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["shw", "LayerNorm"], ["find"], ["list", "--casual"]], ids=" ".join)
def test_a_misspelt_command_gives_the_usage_and_code_two(capsys, words):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m course_lib")


def test_as_a_module_it_fails_without_a_traceback():
    done = run("show", "LayrNorm")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("course_lib: nothing is called 'LayrNorm'; did you mean LayerNorm")
    assert done.stderr.count("\n") == 1


def test_it_works_without_the_extras():
    done = run("list", code=f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r})); " + AS_MODULE)
    assert (done.returncode, done.stderr) == (0, "")
    assert "LayerNorm" in done.stdout


def test_what_needs_an_extra_says_how_to_get_it():
    done = run("show", "explore", code=f"import sys; sys.modules['matplotlib'] = None; {AS_MODULE}")
    expected = 'course_lib: matplotlib is not installed: pip install ".[book]" in the source tree'
    assert done.returncode == 2
    assert done.stderr.startswith(expected)


def test_help_loads_neither_torch_nor_the_chapters():
    at_exit = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); "
    done = run("--help", code=at_exit + AS_MODULE)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: python -m course_lib")
    assert done.stdout.endswith("False\n")


def test_a_reader_that_stops_reading_is_no_error():
    command = [sys.executable, "-W", "error", "-m", "course_lib", "papers"]
    read_end, write_end = os.pipe()
    process = subprocess.Popen(command, cwd=ROOT, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    os.close(read_end)  # as `| head` does once it has seen enough
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")


def test_a_terminal_without_unicode_is_no_error():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run("papers", "gamma-mod", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "?-MoD: Exploring" in done.stdout
