"""Text: windows, vocabulary and splits; and English is English, code is code, French is French."""

import ast
import sys
from collections import Counter

import pytest
import sphinx
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from course_lib.data import Meta, Text, load
from course_lib.data.corpora import ENGLISH, PRINTABLE, english_topics, library_modules
from course_lib.data.text import encode, passages, text_dataset

META = Meta(name="toy", task="", x="", y="", licence="", source="")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- Windows ----------------------------------------------------------------------------------------


def test_random_windows_are_pieces_of_the_text_and_targets_come_one_later():
    text = Text(torch.arange(100))
    x, y = text.batch(generator(), batch_size=50, length=7)
    assert x.shape == y.shape == (50, 7)
    assert torch.equal(x, x[:, :1] + torch.arange(7))
    assert torch.equal(y, x + 1)


def test_every_window_can_be_drawn_and_none_beyond_the_end():
    text = Text(torch.arange(10))
    starts = Counter(text.batch(generator(), batch_size=4000, length=4)[0][:, 0].tolist())
    assert sorted(starts) == list(range(6))
    assert min(starts.values()) > 0.8 * 4000 / 6


def test_the_generator_decides_the_windows():
    english = load("english")
    first, again, other = (english.batch(generator(seed), 4, 16)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("length", [1, 7, 64])
def test_fixed_windows_cover_the_text_once(length):
    text = load("english").validation
    windows = text.windows(length)
    n = windows.x.numel()
    assert torch.equal(windows.x.reshape(-1), text.tokens[:n])
    assert torch.equal(windows.y.reshape(-1), text.tokens[1 : n + 1])
    assert len(text) - 1 - n < length


def test_a_limit_spreads_the_windows_over_the_text():
    text = Text(torch.arange(1001))
    windows = text.windows(10, limit=4)
    assert windows.x[:, 0].tolist() == [0, 250, 500, 750]
    assert len(text.windows(10, limit=10**6)) == 100


@pytest.mark.parametrize("length", [0, 10, 11])
def test_windows_that_do_not_fit_are_refused(length):
    text = Text(torch.arange(10))
    with pytest.raises(ValueError, match=f"windows of length {length} do not fit a text of 10"):
        text.windows(length)
    with pytest.raises(ValueError, match="do not fit"):
        text.batch(generator(), 2, length)


# -- Vocabulary -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "vocabulary"), [("english", ENGLISH), ("source_code", PRINTABLE)])
def test_encoding_and_decoding_are_inverse(name, vocabulary):
    data = load(name)
    assert data.vocabulary == vocabulary
    assert data.vocab_size == len(set(vocabulary)) == len(vocabulary)
    assert data.decode(data.encode(vocabulary)) == vocabulary
    assert data.encode("(a)").tolist() == [vocabulary.index(c) for c in "(a)"]
    for text in data.splits.values():
        assert text.tokens.dtype == torch.int64
        assert text.tokens.max() < data.vocab_size
        assert torch.equal(data.encode(data.decode(text.tokens[:500])), text.tokens[:500])


def test_unknown_characters_are_named():
    with pytest.raises(ValueError, match=r"the characters \['é', '€'\] are not in the vocabulary of 84"):
        load("english").encode("café 3 €")
    assert encode("", "ab").tolist() == []


# -- Splits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "run"), [("english", 50), ("source_code", 100)])
def test_no_long_passage_is_in_two_splits(name, run):
    data = load(name)
    separator = "\n" if name == "english" else "\n\n"
    seen: set[int] = set()
    for split in data.splits.values():
        texts = [data.decode(split.tokens[start:end]) for _, start, end in split.documents]
        here = [
            (hash(text[i : i + run]), text[i : i + run]) for text in texts for i in range(len(text) - run + 1)
        ]
        shared = [passage for number, passage in here if number in seen]
        # Paragraphs are compared; what remains are passages that run over the joint of two short ones.
        assert not [passage for passage in shared if separator not in passage.strip("\n")]
        assert len(shared) < 1e-3 * len(here)
        seen.update(number for number, _ in here)


@pytest.mark.parametrize("name", ["english", "source_code"])
def test_documents_are_whole_and_in_one_split(name):
    data = load(name)
    titles = [title for split in data.splits.values() for title, _, _ in split.documents]
    assert len(titles) == len(set(titles))
    for split in data.splits.values():
        end = -2
        for _, start, stop in split.documents:
            assert start == end + 2
            assert stop > start
            end = stop
        assert end == len(split)
        joint = split.documents[0][2]
        assert data.decode(split.tokens[joint : joint + 2]) == "\n\n"
    assert len(data.train) > 0.7 * sum(map(len, data.splits.values()))
    for split in (data.validation, data.test):
        assert len(split.documents) >= 5
        largest = max(stop - start for _, start, stop in split.documents)
        assert largest < 0.45 * len(split)


def test_copies_are_kept_out_of_later_splits():
    unique = [(f"d{i}", [" ".join(str((i + 7) * k * k) for k in range(9, 25))]) for i in range(60)]
    copied = "this long sentence stands in every single document of the whole collection, word by word"
    documents = [(title, [*paragraphs, copied]) for title, paragraphs in unique]
    vocabulary = "".join(sorted(set("".join(p for _, ps in documents for p in ps) + "\n")))
    data = text_dataset(META, documents, vocabulary, run=50)
    counts = [data.decode(split.tokens).count(copied) for split in data.splits.values()]
    assert counts[0] == len(data.train.documents)
    assert counts[1:] == [0, 0]
    assert [len(split.documents) for split in (data.validation, data.test)] == [
        7,
        7,
    ]  # with what is not copied


def test_too_few_documents_are_refused():
    with pytest.raises(ValueError, match="'toy': too few documents for three splits"):
        text_dataset(META, [("a", ["aaa"]), ("b", ["bbb"])], "ab\n")


def test_passages_have_equal_hashes_only_when_equal():
    text = "abcabcabd" * 3
    hashes = passages(text, 4)
    for i in range(len(hashes)):
        for j in range(len(hashes)):
            assert (hashes[i] == hashes[j]) == (text[i : i + 4] == text[j : j + 4])
    assert len(passages("abc", 4)) == 0


# -- What is in it ----------------------------------------------------------------------------------


def test_english_is_english():
    data = load("english")
    text = data.decode(data.train.tokens)
    words = Counter(text.lower().split())
    assert "the" in [word for word, _ in words.most_common(2)]
    assert Counter(c for c in text.lower() if c.isalpha()).most_common(1)[0][0] == "e"
    for sign in (">>>", "::=", "====", "  "):
        assert sign not in text
    assert 100_000 < len(text) < 400_000
    assert data.meta.versions == {"python": sys.version.split()[0]}


def test_no_paragraph_of_english_comes_twice():
    paragraphs = [p for ps in english_topics().values() for p in ps]
    assert len(paragraphs) == len(set(paragraphs)) > 500
    assert all("\n" not in p for p in paragraphs)


def test_a_python_without_its_topics_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ImportError, match=r"has no pydoc_data\.topics"):
        english_topics()


def test_source_code_is_code():
    data = load("source_code")
    names = set()
    for split in data.splits.values():
        for title, start, end in split.documents:
            tree = ast.parse(data.decode(split.tokens[start:end]))
            names |= (
                {title} if any(isinstance(n, ast.FunctionDef | ast.ClassDef) for n in tree.body) else set()
            )
    assert len(names) > 40
    assert data.meta.versions == {"python": sys.version.split()[0]}


def test_every_statement_of_a_module_is_the_modules_own():
    import bisect
    import inspect

    source = inspect.getsource(bisect)
    statements = library_modules()["bisect"]
    assert len(statements) == len(ast.parse(source).body)
    assert all(statement in source for statement in statements)


# -- Translations -----------------------------------------------------------------------------------


def test_twenty_languages_with_enough_text():
    data = load("multilingual")
    assert len(data.languages) >= 15
    assert {"en", "fr", "es", "ca", "tr", "el"} <= set(data.languages)
    assert data.meta.versions == {"sphinx": sphinx.__version__}
    for language in data.languages:
        size = sum(len(text) for split in data.messages.values() for text in split[language].values())
        assert size > 7000, language


def test_no_placeholders_and_no_code_are_left():
    data = load("multilingual")
    texts = [text for split in data.messages.values() for by_id in split.values() for text in by_id.values()]
    for sign in ("%", "`", "{", "_", "<", "\n", "  ", "http"):
        assert [text for text in texts if sign in text] == [], sign
    assert all(text == text.strip() and len(text) >= 4 for text in texts)


def test_translations_of_a_message_are_in_one_split():
    data = load("multilingual")
    numbers = [{i for by_id in split.values() for i in by_id} for split in data.messages.values()]
    assert not numbers[0] & numbers[1]
    assert not (numbers[0] | numbers[1]) & numbers[2]
    texts = [
        {text for by_id in split.values() for text in by_id.values()} for split in data.messages.values()
    ]
    assert not texts[0] & (texts[1] | texts[2])
    assert not texts[1] & texts[2]
    french, english = data.messages["train"]["fr"], data.messages["train"]["en"]
    both = french.keys() & english.keys()
    assert len(both) > 400
    pairs = {english[i]: french[i] for i in both}
    assert pairs["Search"] == "Recherche" or pairs["Error"] == "Erreur"


def test_rows_are_the_messages_and_letters_tell_the_language():
    data = load("multilingual", languages=("en", "fr", "tr", "ru"), length=40)
    assert data.meta.classes == ("en", "fr", "tr", "ru")
    texts = {name: [data.decode(row) for row in split.x] for name, split in data.splits.items()}
    for name, split in data.splits.items():
        own = {text[:40] for by_id in data.messages[name].values() for text in by_id.values()}
        assert set(texts[name]) == own
        assert split.x.shape[1] == 40
        assert [len(text) for text in texts[name]] == split.lengths.tolist()
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 3))
    model = LogisticRegression(C=10, max_iter=300).fit(vectors.fit_transform(texts["train"]), data.train.y)
    assert model.score(vectors.transform(texts["test"]), data.test.y) > 0.9


def test_the_corpus_of_a_language_shares_the_vocabulary():
    data = load("multilingual", languages=("fr", "el"))
    greek, french = data.corpus("el"), data.corpus("fr")
    assert greek.vocabulary == french.vocabulary == data.vocabulary
    assert "".join(greek.decode(greek.train.tokens)).splitlines() == list(
        data.messages["train"]["el"].values()
    )
    assert greek.batch(generator(), 3, 16)[0].shape == (3, 16)
    assert torch.equal(data.encode("é"), french.encode("é"))
    with pytest.raises(ValueError, match="no language 'de' in this set; it has fr, el"):
        data.corpus("de")


def test_a_language_without_enough_text_is_refused():
    with pytest.raises(ValueError, match=r"no catalogue with enough text for xx; there are en, .*fr"):
        load("multilingual", languages=("en", "xx"))
    with pytest.raises(ValueError, match="at least one language"):
        load("multilingual", languages=())
    with pytest.raises(ValueError, match="is text"):
        load("multilingual", languages=("en", "fr")).standardised()
