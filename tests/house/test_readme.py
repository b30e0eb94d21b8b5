"""The README's example is the first code that anyone runs: it must print what it says."""

import doctest
import re

from tests.house.test_docstrings import failures
from tests.house.tree import ROOT


def readme_examples(root) -> list[doctest.DocTest]:
    """The prompts of all Python blocks of the README, in one namespace, in order."""
    text = (root / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```(?:python|pycon)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prompts = "\n".join(block for block in blocks if ">>>" in block)
    return [doctest.DocTestParser().get_doctest(prompts, {}, "README.md", "README.md", 0)]


def test_the_example_of_the_readme_prints_what_it_says():
    examples = readme_examples(ROOT)
    assert any("course_lib" in example.source for example in examples[0].examples)
    assert any(example.want for example in examples[0].examples)
    assert failures(examples) == ""


def test_a_wrong_readme_is_found(tmp_path):
    text = "```python\n>>> x = 2\n```\n\nThen\n\n```python\n>>> x + 1\n4\n```\n\n```sh\nmake book\n```\n"
    (tmp_path / "README.md").write_text(text, "utf-8")
    assert "Expected:\n    4\nGot:\n    3" in failures(readme_examples(tmp_path))
    (tmp_path / "README.md").write_text(text.replace("\n4\n", "\n3\n"), "utf-8")
    assert failures(readme_examples(tmp_path)) == ""
