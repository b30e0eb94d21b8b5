"""What the course holds at this moment: pages, finished chapters, claims; for all generated pages."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from course_lib import registry
from course_lib.classroom.claims import collect

__all__ = ["PARTS", "Contents", "Tried"]

# The floors of the course in reading order, and how each is called on a page.
PARTS = {
    "layers": "Layers",
    "models": "Models",
    "training": "Training",
    "analysis": "Looking inside",
    "inference": "Inference",
    "editing": "Editing networks",
    "search": "Architecture search",
    "theory": "Theory",
    "capstones": "Capstones",
}


@dataclass(frozen=True)
class Tried:
    """A claim, question or identity as an executed notebook reports it, and the page that made it."""

    page: str
    data: dict[str, Any]

    @property
    def paper(self) -> str:
        """Id of its paper; empty for an identity of none."""
        return self.data["paper"]

    @property
    def kind(self) -> str:
        """``paper``, ``question`` or ``identity``."""
        return self.data["kind"]

    @property
    def headline(self) -> bool:
        """Whether it is the headline claim of its paper."""
        return self.data["headline"]

    @property
    def verdict(self) -> str:
        """What was found, in the words of its kind: ``reproduced``, ``open``, ``holds``."""
        return self.data["verdict"]


@dataclass(frozen=True)
class Contents:
    """The table of contents, the registry and the executed notebooks, seen together.

    Attributes:
        root: the repository.
        toc: the parsed ``_toc.yml``.
    """

    root: Path
    toc: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, root: Path) -> "Contents":
        """The contents of the repository in ``root``."""
        return cls(root, yaml.safe_load((root / "_toc.yml").read_text("utf-8")))

    @cached_property
    def pages(self) -> list[str]:
        """All pages of the table of contents in order, as paths without suffix."""
        return [self.toc["root"], *_files(self.toc.get("parts", []))]

    @cached_property
    def finished(self) -> dict[str, registry.Chapter]:
        """The chapters that have a page."""
        return {name: chapter for name, chapter in registry.chapters().items() if name in self.pages}

    @cached_property
    def entries(self) -> dict[str, registry.Entry]:
        """All registered objects by name."""
        return registry.entries()

    @cached_property
    def entries_of_paper(self) -> dict[str, list[registry.Entry]]:
        """For each paper the objects that implement it."""
        found: dict[str, list[registry.Entry]] = {name: [] for name in registry.papers()}
        for entry in self.entries.values():
            for name in entry.paper_ids:
                found[name].append(entry)
        return found

    @cached_property
    def claims(self) -> list[Tried]:
        """Every statement of every page, in the order of the course."""
        found = []
        for page in self.pages:
            path = self.root / "build/notebooks" / f"{page}.ipynb"
            if path.exists() and not page.startswith(("exercises/", "solutions/")):
                found += [Tried(page, data) for data in collect(json.loads(path.read_text("utf-8")))]
        return found

    def claims_of(self, paper: registry.Paper) -> list[Tried]:
        """Every statement on a paper."""
        return [tried for tried in self.claims if tried.paper == paper.id]

    def is_built(self, paper: registry.Paper) -> bool:
        """Whether there is code for the paper and a page that teaches it."""
        return paper.chapter in self.finished and bool(self.entries_of_paper[paper.id])

    @cached_property
    def built(self) -> list[registry.Paper]:
        """The papers that are done."""
        return [paper for paper in registry.papers().values() if self.is_built(paper)]


def _files(items: list[dict[str, Any]] | None) -> list[str]:
    found = []
    for item in items or []:
        found += [item["file"]] if "file" in item else []
        for key in ("chapters", "sections", "parts"):
            found += _files(item.get(key, []))
    return found
