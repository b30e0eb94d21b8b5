"""The rows of a chapter: counted live, timed and trained as stored, and marked when that is old."""

import sys
import types

import pytest
from torch import nn

from course_lib.compare import table, times
from course_lib.compare.catalogue import chapters_side_by_side, experiments_of
from course_lib.compare.clock import Median
from course_lib.compare.count import Operations
from course_lib.compare.frames import Variant, sequence_frame, token_frame, vector_frame
from course_lib.compare.rows import baselines, rows, time_variants
from course_lib.compare.table import side_by_side_table
from course_lib.measure import Sample
from course_lib.registry import chapters

CHAPTER = "layers/toy"
VARIANTS = [
    Variant("nothing", nn.Identity, properties=("baseline", "fixed")),
    Variant("dense", lambda: nn.Linear(12, 12), "torch.nn.Linear", ("learned",)),
    Variant("dropped", lambda: nn.Sequential(nn.Linear(12, 12), nn.Dropout(0.5))),
    Variant("over tokens", lambda: nn.Linear(8, 8), frame=token_frame(8)),
]
TIMES = {
    name: {"forward": [r, r - 0.1, r + 0.1], "both": [r, r, r]}
    for name, r in (("dense", 1.0), ("dropped", 12.3))
}
ACCURACIES = {"dense": Sample((0.8, 0.82, 0.84)), "nothing": Sample((float("nan"), 0.5, 0.5))}


@pytest.fixture
def toy(monkeypatch):
    """A chapter with four variants, of which two have been timed."""
    module = types.ModuleType("course_lib.experiments.layers.toy.side_by_side")
    module.FRAME, module.SIDE_BY_SIDE = vector_frame(12), VARIANTS
    monkeypatch.setitem(sys.modules, module.__name__, module)
    stored = {"side_by_side": {"code": "now", "variants": TIMES}}
    monkeypatch.setattr(times, "load", lambda chapter: stored if chapter == CHAPTER else {})
    monkeypatch.setattr(times, "code_of_variants", lambda module: module.code)
    module.code, module.side_by_side = "now", None
    monkeypatch.setattr(table, "measured", lambda experiment: ACCURACIES)
    return module


def by_name(found):
    return {row.variant.name: row for row in found}


def test_without_variants_a_chapter_is_left_out_or_refused(toy):
    assert experiments_of(CHAPTER) is toy
    assert chapters_side_by_side([CHAPTER, "layers/nowhere", "nowhere/either"]) == {CHAPTER: toy}
    with pytest.raises(ValueError, match=r"no SIDE_BY_SIDE in .*layers/nowhere/side_by_side\.py"):
        rows("layers/nowhere")


def test_parameters_and_operations_are_counted_for_one_example(toy):
    found = by_name(rows(CHAPTER))
    assert found["dense"].parameters == 12 * 13
    assert found["dense"].operations == Operations(144, 12)
    assert found["nothing"].operations.total == found["nothing"].parameters == 0
    assert found["over tokens"].operations == Operations(16 * 64, 16 * 8)
    assert [row.kind for row in found.values()] == ["vectors", "vectors", "vectors", "tokens"]


def test_times_are_relative_to_something_that_computes(toy):
    found = by_name(rows(CHAPTER))
    assert [name for name, row in found.items() if row.baseline] == ["dense", "over tokens"]
    toy.SIDE_BY_SIDE = VARIANTS[:1]
    assert [variant.name for variant in baselines(toy).values()] == ["nothing"]


def test_the_mark_decides_which_of_the_layers_is_the_baseline(toy):
    marked = Variant("marked", lambda: nn.Linear(12, 12), properties=("baseline",))
    toy.SIDE_BY_SIDE = [*VARIANTS[1:3], marked]
    assert [variant.name for variant in baselines(toy).values()] == ["marked"]


def test_what_was_measured_is_fresh_stale_or_missing(toy):
    found = by_name(rows(CHAPTER, ACCURACIES))
    assert found["dense"].forward == Median(1.0, 0.9, 1.1)
    assert (found["dense"].timed, found["dense"].trained) == ("fresh", "fresh")
    assert (found["over tokens"].timed, found["over tokens"].trained) == ("missing", "missing")
    assert found["over tokens"].forward is None
    toy.code = "later"
    assert by_name(rows(CHAPTER))["dense"].timed == "stale"


def test_every_variant_is_timed_against_the_baseline_of_its_inputs(toy, clock):
    class Slow(nn.Linear):
        def forward(self, x):
            clock.now += 2.0 if self.training else 0.5
            return super().forward(x)

    class Fast(nn.Identity):
        def forward(self, x):
            clock.now += 0.25
            return super().forward(x)

    toy.SIDE_BY_SIDE = [
        Variant("fast", Fast),
        Variant("slow", lambda: Slow(12, 12)),
        Variant("over tokens", lambda: Slow(8, 8), frame=token_frame(8)),
    ]
    found = time_variants(toy, clock=clock)
    assert list(found) == ["fast", "slow", "over tokens"]
    for name in ("slow", "over tokens"):  # one baseline for each kind of inputs
        assert found[name] == {"forward": (1.0, 1.0, 1.0), "both": (1.0, 1.0, 1.0)}
    assert found["fast"] == {"forward": (0.5, 0.5, 0.5), "both": (0.125, 0.125, 0.125)}


def test_the_table_shows_numbers_ready_to_compare(toy):
    shown = str(side_by_side_table(CHAPTER))
    (dense,) = [line.split() for line in shown.splitlines() if line.startswith("dense")]
    assert dense == ["dense", "156", "144", "12", "1.0", "×", "1.0", "×", "82.0", "±", "2.0"]
    (dropped,) = [line for line in shown.splitlines() if line.startswith("dropped")]
    assert "12 ×" in dropped
    assert dropped.endswith("–")
    (nothing,) = [line for line in shown.splitlines() if line.startswith("nothing")]
    assert nothing.endswith("diverged")
    assert "relative to dense, over tokens" in shown
    assert "make bench" in shown  # two have no times
    assert "†" not in shown
    toy.code = "later"
    assert "1.0 ×†" in str(side_by_side_table(CHAPTER))
    assert "the code has changed" in str(side_by_side_table(CHAPTER))


def test_layers_of_sequences_show_their_loss_on_text_too(toy, monkeypatch):
    assert "Text" not in str(side_by_side_table(CHAPTER))
    toy.SIDE_BY_SIDE = [
        Variant("all before", lambda: nn.Linear(8, 8), frame=sequence_frame(8)),
        Variant("over tokens", lambda: nn.Linear(8, 8), frame=token_frame(8)),
    ]
    losses = {"all before: text": Sample((1.9, 2.0, 2.1)), "all before": Sample((0.5, 0.5))}
    monkeypatch.setattr(table, "measured", lambda experiment: losses)
    shown = str(side_by_side_table(CHAPTER))
    assert "Text, nats" in shown
    assert "read pixel by pixel" in shown
    (line,) = [line.split() for line in shown.splitlines() if line.startswith("all before")]
    assert line[-6:] == ["50.0", "±", "0.0", "2.00", "±", "0.10"]
    (line,) = [line.split() for line in shown.splitlines() if line.startswith("over tokens")]
    assert line[-2:] == ["–", "–"]


def test_a_module_without_the_tables_has_no_code_of_variants():
    module = types.ModuleType("course_lib.compare.frames")
    with pytest.raises(ValueError, match="no definition of 'SIDE_BY_SIDE'"):
        times.code_of_variants(module)


@pytest.mark.parametrize("chapter", chapters_side_by_side(chapters()))
def test_the_rows_of_a_chapter_have_names_a_baseline_and_a_hash(chapter):
    found = rows(chapter)
    names = [row.variant.name for row in found]
    assert len(set(names)) == len(names) <= 12
    assert any(row.baseline for row in found)
    assert len(times.code_of_variants(experiments_of(chapter))) == 33
