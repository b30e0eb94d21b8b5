"""The registry: what it refuses, what it finds, and that its two tables agree."""

import re

import pytest

import course_lib
from course_lib import registry
from course_lib.registry import (
    chapters,
    entries,
    find,
    find_papers,
    implements,
    paper,
    papers,
    public,
    registered,
    show,
)


@pytest.fixture
def shelf(monkeypatch):
    """An empty library, so that what a test registers is gone after it."""
    entries()  # the library registers itself now and not into the empty shelf
    monkeypatch.setattr(registry, "_entries", {})
    monkeypatch.setattr(registry, "public", lambda: list(registry._entries.values()))
    return registry._entries


def toy(name, doc="A toy layer.", module="course_lib.layers.toy"):
    """A class as if it were defined in a chapter of the library."""
    return type(name, (), {"__doc__": doc, "__module__": module})


def toy_function(name, module="course_lib.layers.toy"):
    """A function as if it were defined in a chapter of the library."""
    exec(f"def {name}(x): ...", namespace := {})
    namespace[name].__module__ = module
    return namespace[name]


def test_every_paper_has_a_chapter_and_an_arxiv_number():
    for row in papers().values():
        assert row.chapter in chapters(), row.id
        assert re.fullmatch(r"\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7}", row.arxiv), row.id
        assert row.url == f"https://arxiv.org/abs/{row.arxiv}"


def test_no_two_rows_of_the_tables_share_an_id_or_an_index():
    rows = registry._table("papers.toml", "paper")
    assert len(rows) == len(papers()) == len({row.index for row in papers().values()})
    assert len(registry._table("chapters.toml", "chapter")) == len(chapters())


def test_ids_are_lower_case_words_joined_by_hyphens():
    assert [i for i in papers() if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", i)] == []
    assert [i for i in chapters() if not re.fullmatch(r"[a-z]+/[a-z_]+", i)] == []


# Built papers without authors, and why: no name is written from memory.
NO_AUTHORS = {"rbm-dbn-tutorial": "its list of authors could not be confirmed"}


@pytest.fixture(scope="module")
def built():
    """The papers with an object."""
    return [
        paper(paper_id) for paper_id in sorted({i for entry in entries().values() for i in entry.paper_ids})
    ]


def test_every_built_paper_has_its_authors(built):
    assert {row.id for row in built if not row.authors} == {*NO_AUTHORS}
    for row in built:
        assert len({*row.authors}) == len(row.authors), row.id
        assert all(re.fullmatch(r"\S+( \S+)+", name) for name in row.authors), row.id
        assert not re.search(r"et al|[\d,;*\\{}]", " ".join(row.authors)), row.id


def test_every_built_paper_has_two_to_six_aliases_that_do_not_stand_in_its_title(built):
    for row in built:
        assert 2 <= len(row.aliases) <= 6, row.id
        assert len({alias.casefold() for alias in row.aliases}) == len(row.aliases), row.id
        for alias in row.aliases:
            assert alias == alias.strip() != "", row.id
            assert not re.search(rf"\b{re.escape(alias)}\b", row.title, re.IGNORECASE), (row.id, alias)


def test_a_repository_is_an_owner_and_a_name():
    for row in papers().values():
        assert re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+)?", row.code), row.id


def test_every_chapter_has_papers_and_a_question():
    taught = {row.chapter for row in papers().values()}
    for chapter in chapters().values():
        assert chapter.id in taught
        assert chapter.question.endswith("?")
        assert chapter.part == chapter.id.split("/")[0]


def test_an_unknown_paper_is_refused_with_the_nearest_id():
    with pytest.raises(ValueError, match=r"no paper has the id 'peri_ln'; did you mean peri-ln"):
        paper("peri_ln")
    with pytest.raises(ValueError, match=r"no paper has the id 'zzzzzzzz'$"):
        paper("zzzzzzzz")


def test_implementing_an_unknown_paper_is_refused_and_registers_nothing(shelf):
    with pytest.raises(ValueError, match="did you mean evonorm"):
        implements("evonrm")(toy("Planted"))
    assert shelf == {}


def test_implementing_no_paper_is_refused():
    with pytest.raises(ValueError, match="at least one paper"):
        implements(example=lambda: ())


def test_an_unknown_trait_is_refused_with_the_nearest_or_all(shelf):
    with pytest.raises(ValueError, match="unknown trait 'casual'; did you mean causal"):
        implements("peri-ln", casual=True)
    with pytest.raises(ValueError, match=r"unknown trait 'xyz'; known are \['causal', .*'stochastic'\]"):
        implements("peri-ln", xyz=True)
    with pytest.raises(ValueError, match="unknown trait 'casual'; did you mean causal"):
        find("norm", casual=True)


def test_a_public_name_can_be_taken_only_once(shelf):
    implements("peri-ln")(toy("Planted"))
    with pytest.raises(ValueError, match=r"'Planted' is taken by course_lib\.layers\.toy"):
        implements("peri-ln")(toy("Planted", module="course_lib.models.other"))
    with pytest.raises(ValueError, match="is taken"):  # a function is not told from a class by its name
        implements("peri-ln")(toy_function("Planted", module="course_lib.models.other"))
    assert [entry.module for entry in shelf.values()] == ["course_lib.layers.toy"]


@pytest.mark.parametrize("make", ["class", "function"])
def test_two_files_of_one_chapter_cannot_share_a_name(shelf, make):
    make = {"class": toy, "function": toy_function}[make]
    implements("peri-ln")(make("planted", module="course_lib.layers.toy.one"))
    with pytest.raises(ValueError, match="is taken"):
        implements("peri-ln")(make("planted", module="course_lib.layers.toy.two"))


def test_functions_of_two_chapters_share_a_name_and_keep_apart(shelf):
    for chapter in ("toy", "other"):
        implements("peri-ln")(toy_function("effective_rank", module=f"course_lib.layers.{chapter}"))
    implements("peri-ln")(toy_function("alone"))
    assert list(entries()) == ["alone", "layers/other:effective_rank", "layers/toy:effective_rank"]
    assert registered("effective_rank", "layers/toy").module == "course_lib.layers.toy"
    assert registered("effective_rank", "layers/third") is None
    assert [e.chapter for e in find("effective rank")] == ["layers/other", "layers/toy"]


def test_running_a_definition_again_replaces_its_entry(shelf):
    first, second = toy("Planted"), toy("Planted")
    implements("peri-ln")(first)
    implements("peri-ln", causal=True)(second)
    (entry,) = shelf.values()
    assert entry.obj is second
    assert entry.traits.causal


def test_the_decorator_returns_the_object_itself(shelf):
    plain = toy("Planted")
    assert implements("peri-ln")(plain) is plain


def test_an_entry_knows_its_chapter_also_in_a_folder_of_files(shelf):
    implements("peri-ln")(toy("Single", module="course_lib.layers.norm"))
    implements("peri-ln")(toy("Folded", module="course_lib.layers.norm.placement"))
    assert {e.chapter for e in shelf.values()} == {"layers/norm"}
    assert {e.module for e in shelf.values()} == {"course_lib.layers.norm"}


def test_a_summary_is_the_whole_first_sentence_on_one_line(shelf):
    implements("peri-ln")(toy("Long", doc="One sentence\n    over two lines.\n\n    And more."))
    implements("peri-ln")(toy("Bare", doc=None))
    assert [entry.summary for entry in shelf.values()] == ["One sentence over two lines.", ""]


def test_exceptions_are_kept_apart_from_the_callers_dictionary(shelf):
    reasons = {"export": "draws random numbers"}
    implements("peri-ln", exceptions=reasons)(toy("Planted"))
    reasons.clear()
    assert [entry.exceptions for entry in shelf.values()] == [{"export": "draws random numbers"}]


def test_only_objects_with_an_example_are_layers(shelf):
    implements("peri-ln")(toy("Method"))
    implements("peri-ln", example=lambda: (None,))(toy("Layer"))
    assert [e.name for e in shelf.values() if e.is_layer] == ["Layer"]


def test_find_needs_every_word_and_ignores_case(shelf):
    implements("peri-ln")(toy("SlowGate", doc="Opens for LONG sequences."))
    implements("peri-ln")(toy("FastGate", doc="Opens for short sequences."))
    assert [e.name for e in find("sequences long")] == ["SlowGate"]
    assert [e.name for e in find("Gate")] == ["FastGate", "SlowGate"]
    assert find("gate lexicon") == []


@pytest.mark.parametrize("words", ["normalization", "Normalisation", "normalis", "normalisations", "gates"])
def test_find_reads_both_spellings_and_plurals(shelf, words):
    implements("peri-ln")(toy("Planted", doc="A normalisation with a gate."))
    assert [e.name for e in find(words)] == ["Planted"]


def test_find_searches_paper_titles_and_ids(shelf):
    implements("relu-revival")(toy("Planted"))
    assert [e.name for e in find("entropic overload")] == ["Planted"]
    assert [e.name for e in find("relu-revival")] == ["Planted"]


def test_find_puts_the_exact_name_first_then_names_then_descriptions(shelf):
    implements("peri-ln")(toy("Aside", doc="Near a gate."))
    implements("peri-ln")(toy("BigGate"))
    implements("peri-ln")(toy("Gate"))
    implements("peri-ln")(toy("Able", doc="First sentence.\n\nMuch later a gate."))
    assert [e.name for e in find("gate")] == ["Gate", "BigGate", "Aside", "Able"]
    assert [e.name for e in find("Big gate")] == ["BigGate"]


@pytest.mark.parametrize("words", ["SlowGate", "slow gate", "slow_gate", " Slow-Gate "])
def test_find_knows_a_name_however_it_is_written(shelf, words):
    implements("peri-ln")(toy("SlowGate"))
    implements("peri-ln")(toy("ASlowGate"))
    assert [e.name for e in find(words)] == ["SlowGate", "ASlowGate"]


def test_find_filters_by_traits_present_and_absent(shelf):
    implements("peri-ln", causal=True)(toy("Forward"))
    implements("peri-ln", causal=True, stochastic=True)(toy("Noisy"))
    implements("peri-ln")(toy("Free"))
    assert [e.name for e in find("", causal=True)] == ["Forward", "Noisy"]
    assert [e.name for e in find("", causal=True, stochastic=False)] == ["Forward"]
    assert [e.name for e in find("toy", causal=False)] == ["Free"]


def test_a_word_is_found_where_a_word_starts_and_a_short_one_as_a_whole(shelf):
    implements("peri-ln")(toy("LeakyReLU", doc="Some linear pieces, as in a KAN."))
    for words in ("relu", "ReLU", "leaky", "leakyrelu", "line", "piece", "kan", "KAN", "kans", "linear KANs"):
        assert [e.name for e in find(words)] == ["LeakyReLU"], words
    for words in ("som", "SOM", "lin", "KA", "near", "SOME", "aky", "kant"):
        assert find(words) == [], words


def test_traits_of_a_class_are_apart_from_those_of_its_example(shelf):
    class Switched(toy("Base")):
        forward = None

        def __init__(self, dim, causal=False, dropout=0.0): ...

    Switched.__module__ = "course_lib.layers.toy"
    implements("peri-ln", causal=True)(Switched)
    implements("relu-revival", permutation_equivariant=True)(type("Free", (Switched,), {}))
    free, switched = find("")
    assert (switched.always, switched.can_be) == ([], ["causal", "stochastic"])
    assert (free.always, free.can_be) == ([], ["causal", "stochastic", "permutation_equivariant"])
    assert len(find("", causal=True)) == len(find("", causal=False)) == 2
    assert [e.name for e in find("", permutation_equivariant=True)] == ["Free"]
    assert len(find("", mixes_batch=True)) == 0


def test_find_without_words_gives_everything_public():
    names = [entry.name for entry in find("")]
    assert {*names} == {entry.name for entry in public()}
    assert {*names} > {entry.name for entry in entries().values()}
    assert {*names} > {"KVCache", "fit", "check_layer", "CYCLE"}
    assert not [name for name in names if name.startswith("_")]


def test_show_has_every_object_of_a_name_and_suggests_the_nearest():
    assert [e.module for e in show("LayerNorm")] == ["course_lib.layers.norm"]
    assert {"course_lib.data", "course_lib.specimens"} < {e.module for e in show("load")}
    with pytest.raises(ValueError, match=r"nothing is called 'layernorm'; did you mean LayerNorm"):
        show("layernorm")
    with pytest.raises(ValueError, match=r"nothing is called 'LayrNorm'; did you mean LayerNorm"):
        show("LayrNorm")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("__all__ = ['b', 'a']\ndef a(): ...\ndef b(): ...\ndef c(): ...", ["b", "a"]),
        ("from os import path as path, sep as s, name\ndef a(): ...\nclass _B: ...", ["path", "a"]),
        ("A, _B = 1, 2\nC: int = 3\nif True:\n    D = 4\nimport os", ["A", "C"]),
        ("from os import path as path\nfrom os import path as path", ["path"]),
    ],
)
def test_public_names_are_read_from_the_text_of_a_module(monkeypatch, tmp_path, text, names):
    (tmp_path / "toy_of_names.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    registry.public_names.cache_clear()
    assert registry.public_names("toy_of_names") == tuple(names)
    (tmp_path / "toy_of_names.pyi").write_text("from .inside import lazy as lazy")
    registry.public_names.cache_clear()
    assert registry.public_names("toy_of_names") == ("lazy",)


def test_dir_lists_parts_and_chapters():
    assert {"layers", "training", "models", "data", "classroom"} < {*dir(course_lib)}
    assert {"norm", "attention"} < {*dir(course_lib.layers)}
    assert "_shapes" not in dir(course_lib.layers)
    assert course_lib.layers.norm.LayerNorm is show("LayerNorm")[0].obj
    with pytest.raises(AttributeError, match=r"'course_lib\.layers' has no attribute 'nothing'"):
        course_lib.layers.nothing  # noqa: B018


def test_entries_come_from_the_library_and_are_sorted_by_name():
    everything = entries()
    assert list(everything) == sorted(everything)
    assert all(e.chapter.split("/")[0] in {c.part for c in chapters().values()} for e in everything.values())


def test_what_entries_returns_is_a_copy(shelf):
    implements("peri-ln")(toy("Planted"))
    entries().clear()
    assert list(entries()) == ["Planted"]


def test_find_papers_by_title_number_year_and_chapter():
    assert [p.id for p in find_papers("peri-ln")] == ["peri-ln"]
    assert [p.id for p in find_papers("2502.02732")] == ["peri-ln"]
    assert {p.chapter for p in find_papers(chapter="layers/norm")} == {"layers/norm"}
    assert all(p.year == 2016 for p in find_papers("2016 layer normalization", chapter="layers/norm"))
    assert len(find_papers()) == len(papers())


def test_find_papers_of_an_unknown_chapter_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match="no chapter has the id 'layers/norms'; did you mean layers/norm"):
        find_papers(chapter="layers/norms")


def test_a_part_whose_folder_is_missing_is_no_error(monkeypatch):
    unbuilt = registry.Chapter("unbuilt/nothing", "Nothing", "Is there nothing?")
    monkeypatch.setattr(registry, "chapters", lambda: {unbuilt.id: unbuilt})
    assert isinstance(entries(), dict)


def test_a_chapter_that_fails_to_import_is_not_silently_skipped(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'absent_dependency'", name="absent_dependency")

    monkeypatch.setattr(registry.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="absent_dependency"):
        entries()


def test_a_registered_name_is_found_without_loading_anything():
    assert registered("NoSuchThing", "layers/norm") is None
    from course_lib.layers.norm import LayerNorm

    assert registered("LayerNorm", "layers/norm").obj is LayerNorm
