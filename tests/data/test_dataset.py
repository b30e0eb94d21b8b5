"""What every data set promises: fixed splits without leakage, a full card, fresh copies, clear refusals."""

import hashlib
import inspect
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import course_lib.data.dataset as ground
from course_lib.data import Dataset, Split, Text, describe, load, names
from course_lib.data.dataset import dataset, package_file, require, split_rows

ROWS = [name for name in names() if name not in ("english", "source_code")]
ROOT = Path(__file__).resolve().parents[2]


def rows_of(split: Split) -> list[bytes]:
    return [row.numpy().tobytes() for row in split.x]


@pytest.mark.parametrize("name", names())
def test_every_set_has_three_filled_splits_and_a_full_card(name):
    data = load(name)
    assert isinstance(data, Dataset)
    assert all(len(split) > 0 for split in data.splits.values())
    assert data.name == data.meta.name == name
    for part in (data.meta.task, data.meta.x, data.meta.y, data.meta.licence, data.meta.source):
        assert part
    shown = repr(describe(name))
    assert data.meta.licence in shown
    assert data.meta.source in shown
    assert repr(data).startswith(f"{type(data).__name__}({name!r}: train {len(data.train)}")
    assert len(repr(data)) < 160


def digest(name: str) -> str:
    total = hashlib.sha1()
    for split in load(name).splits.values():
        for t in (split.tokens,) if isinstance(split, Text) else (split.x, split.y):
            total.update(t.numpy().tobytes())
    return total.hexdigest()


@pytest.mark.parametrize("name", [name for name in names() if name != "source_code"])
def test_every_set_is_the_same_again_when_it_is_read_again(name, monkeypatch):
    first = digest(name)
    monkeypatch.setattr(ground, "_loaded", {})
    assert digest(name) == first


def test_another_process_reads_the_same_and_digits_import_nothing():
    sets = ("digits", "mnist1d", "english", "multilingual", "stick_figure_actions")
    code = (
        "import sys; from course_lib.data import load; load('digits')\n"
        "print({'sklearn', 'scipy', 'pandas'} & {*sys.modules})\n"
        "import hashlib; from course_lib.data import Text\n"
        f"{inspect.getsource(digest)}\nprint(*[digest(name) for name in {sets}])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT, check=True
    )
    heavy, digests = done.stdout.splitlines()
    assert heavy == "set()"
    assert digests.split() == [digest(name) for name in sets]


@pytest.mark.parametrize("name", ROWS)
def test_the_types_are_those_of_the_card_and_all_numbers_are_finite(name):
    data = load(name)
    for split in data.splits.values():
        for values, said in ((split.x, data.meta.x), (split.y, data.meta.y)):
            assert str(values.dtype).removeprefix("torch.") in said
            assert values.isfinite().all()
            # "(n, 1, 8, 8)": as many axes, and the numbers that are given
            sizes = re.search(r"\(n,([^)]*)\)", said)[1].split(",")
            sizes = [size.strip() for size in sizes if size.strip()]
            assert len(sizes) == values.ndim - 1
            for size, actual in zip(sizes, values.shape[1:], strict=True):
                assert not size.isdigit() or int(size) == actual
        if "[0, 1]" in data.meta.x:
            assert split.x.min() >= 0
            assert split.x.max() <= 1


@pytest.mark.parametrize("name", ROWS)
def test_no_row_is_in_two_splits(name):
    seen: set[bytes] = set()
    for split in load(name).splits.values():
        rows = set(rows_of(split))
        assert not seen & rows
        seen |= rows


CLASSIFIED = (
    "breast_cancer",
    "digits",
    "iris",
    "karate",
    "mnist1d",
    "multilingual",
    "object_patterns",
    "photos",
)


@pytest.mark.parametrize("name", [*CLASSIFIED, "stick_figure_actions", "wine"])
def test_every_split_holds_every_class(name):
    data = load(name)
    assert data.meta.classes
    for split in data.splits.values():
        assert sorted(set(split.y.tolist())) == list(range(len(data.meta.classes)))


@pytest.mark.parametrize("name", ["digits", "wine", "breast_cancer", "iris", "karate"])
def test_classes_are_in_proportion_in_every_split_and_every_prefix(name):
    data = load(name)
    total = torch.cat([split.y for split in data.splits.values()])
    share = torch.bincount(total) / len(total)
    for split in data.splits.values():
        for n in (len(split), len(split) // 2):
            off = torch.bincount(split.y[:n], minlength=len(share)) - share * n
            assert off.abs().max() < 2.5


def test_writing_into_a_loaded_set_changes_nothing_for_others():
    first = load("digits")
    untouched = first.train.x.clone()
    first.train.x.zero_()
    assert torch.equal(load("digits").train.x, untouched)
    load("digits").train.x.zero_()
    assert torch.equal(load("digits").train.x, untouched)


def test_the_second_call_reads_nothing(monkeypatch):
    first = load("digits")
    monkeypatch.setattr(ground, "find_spec", lambda name: pytest.fail("looked for a file"))
    assert torch.equal(load("digits").train.x, first.train.x)


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(ValueError, match="no data set is called 'digit'; did you mean digits"):
        load("digit")
    with pytest.raises(ValueError, match="known are breast_cancer"):
        describe("zzzzzz")


def test_an_unknown_option_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="'digits' has no option 'size'; it has none"):
        load("digits", size=3)
    with pytest.raises(ValueError, match="'mnist1d' has no option 'm'; its options are n, seed"):
        load("mnist1d", m=3)
    with pytest.raises(ValueError, match="plain values or tuples"):
        load("multilingual", languages=["en"])


def test_options_are_recorded_and_kept_apart():
    small, large = load("mnist1d", n=50), load("mnist1d", n=60)
    assert (len(small.train), len(large.train)) == (50, 60)
    assert small.meta.options == {"n": 50}


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="'digits' is registered twice"):
        dataset("digits", task="", x="", y="", licence="", source="")(lambda meta: None)


@pytest.mark.parametrize(
    ("name", "package"), [("karate", "networkx"), ("photos", "PIL"), ("multilingual", "sphinx")]
)
def test_a_missing_package_names_the_extra(name, package, monkeypatch):
    monkeypatch.setattr(ground, "_loaded", {})
    if name == "multilingual":
        monkeypatch.setattr(
            "course_lib.data.multilingual._catalogues.cache_clear", lambda: None, raising=False
        )
        from course_lib.data import multilingual

        multilingual._catalogues.cache_clear()
    for module in [m for m in sys.modules if m.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'{package} is not installed: pip install "\.\[book\]"'):
        load(name)


def test_a_missing_file_of_a_package_is_named(monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"without its data file nothing/here\.csv .*wheel from PyPI"):
        package_file("sklearn", "nothing", "here.csv")
    with pytest.raises(ImportError, match="no_such_package is not installed"):
        package_file("no_such_package", "x.csv")
    with pytest.raises(ImportError, match=r"nothing_at_all is not installed: .*\.\[lab\]"):
        require("nothing_at_all", "x", "lab")


def test_a_split_unpacks_counts_and_is_cut():
    x, y = split = Split(torch.arange(6.0).reshape(3, 2), torch.arange(3), torch.tensor([2, 1, 2]))
    assert torch.equal(x, split.x)
    assert torch.equal(y, split.y)
    assert len(split) == 3
    part = split[torch.tensor([True, False, True])]
    assert part.y.tolist() == [0, 2]
    assert part.lengths.tolist() == [2, 2]
    assert len(split[:2]) == 2
    row = split[1]
    assert row[0].tolist() == [2.0, 3.0]
    assert row[1] == 1


def test_a_data_loader_takes_a_split():
    split = load("digits").train
    x, y = next(iter(DataLoader(split, batch_size=5)))
    assert torch.equal(x, split.x[:5])
    assert torch.equal(y, split.y[:5])


def test_unequal_rows_make_no_split():
    with pytest.raises(ValueError, match=r"equally many rows, got shapes \(3,\) and \(2,\)"):
        Split(torch.zeros(3), torch.zeros(2))


@pytest.mark.parametrize("name", ["wine", "breast_cancer", "diabetes"])
def test_standardised_columns_have_mean_0_and_deviation_1_on_the_training_rows(name):
    raw, data = load(name), load(name).standardised()
    torch.testing.assert_close(data.train.x.mean(0), torch.zeros(data.train.x.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(data.train.x.std(0, correction=0), torch.ones(data.train.x.shape[1]))
    mean, spread = raw.train.x.mean(0), raw.train.x.std(0, correction=0)
    torch.testing.assert_close(data.test.x, (raw.test.x - mean) / spread)
    assert torch.equal(data.test.y, raw.test.y)


def test_constant_columns_stay_finite_and_targets_are_scaled_on_request():
    digits = load("digits").standardised()
    assert digits.test.x.isfinite().all()
    assert (digits.train.x[:, 0, 0, 0] == 0).all()  # a corner without ink
    diabetes = load("diabetes").standardised(targets=True)
    assert diabetes.train.y.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match=r"x is torch\.int64"):
        load("majority").standardised()
    with pytest.raises(ValueError, match="is text"):
        load("english").standardised()


# -- The rule of the splits -------------------------------------------------------------------------


def test_equal_rows_stay_together_wherever_the_cut_falls():
    for copies in range(2, 7):
        x = np.repeat(np.arange(10), copies)[:, None].astype(float)
        parts = split_rows(x)
        groups = [set(x[rows.numpy(), 0]) for rows in parts]
        assert sum(map(len, groups)) == 10
        assert sorted(torch.cat(parts).tolist()) == list(range(len(x)))


def test_equal_rows_of_different_classes_stay_together():
    x = np.repeat(np.arange(20), 2)[:, None].astype(float)
    y = np.tile([0, 1], 20)
    groups = [set(x[rows.numpy(), 0]) for rows in split_rows(x, y)]
    assert sum(map(len, groups)) == 20


@pytest.mark.parametrize("sizes", [(0.5, 0.5, 0.2), (5, 3, 3), (1.0, 0.0, 0.0), (10, 0, 0)])
def test_sizes_that_do_not_add_up_are_refused(sizes):
    with pytest.raises(ValueError, match="must be positive and add up"):
        split_rows(np.arange(10.0)[:, None], sizes=sizes)


def test_other_seeds_give_other_splits():
    x = np.arange(50.0)[:, None]
    assert not torch.equal(split_rows(x)[0], split_rows(x, seed=1)[0])
    assert torch.equal(split_rows(x)[0], split_rows(x)[0])


# -- Offline ----------------------------------------------------------------------------------------


def test_no_set_touches_the_network(monkeypatch):
    def refuse(*args, **kwargs):
        pytest.fail("a data set opened a connection")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(ground, "_loaded", {})
    assert [load(name).name for name in names()] == names()
