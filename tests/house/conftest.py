"""A small tree to plant violations in."""

from pathlib import Path

import pytest

TABLES = {
    "course_lib/chapters.toml": """
[[chapter]]
id = "layers/toy"
title = "Toys"
question = "Which toy?"

[[chapter]]
id = "layers/toy_two"
title = "More toys"
question = "Which other toy?"

[[chapter]]
id = "models/cars"
title = "Cars"
question = "Which car?"
""",
    "course_lib/papers.toml": """
[[paper]]
index = 0
id = "toy-paper"
title = "All About Toys"
arxiv = "1234.56789"
year = 2012
chapter = "layers/toy"
role = "build"
kind = "layer"
confidence = "high"
""",
}


@pytest.fixture
def plant(tmp_path):
    """Write files into an otherwise empty tree; gives its root."""

    def write(planted: dict[str, str]) -> Path:
        for name, text in {**TABLES, **planted}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return tmp_path

    return write
