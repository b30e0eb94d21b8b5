"""The tower of the library: a file imports only from below, and no imports run in a circle."""

from collections.abc import Iterator

import pytest

from tests.house.tree import FLOORS, ROOT, assert_none, files, imported, inside, module_name

LEVEL = {part: level for level, floor in enumerate(FLOORS) for part in floor}
GROUND = FLOORS[0]
# Beside and above the tower. experiments and bench may use everything, so they have no row.
BESIDE = {"__init__": (), "__main__": GROUND, "classroom": (*GROUND, "classroom")}
ABOVE = ("experiments", "bench")
# One file of the classroom shows what experiments and bench have measured.
SHOWS_MEASUREMENTS = "course_lib/classroom/side_by_side.py"


def may_import(part: str, other: str) -> bool:
    """Whether a file of one part of the library may import from another part."""
    if part in BESIDE:
        return other in BESIDE[part]
    if part in ABOVE or part == other or {part, other} <= set(GROUND):
        return True
    return LEVEL.get(other, len(FLOORS)) < LEVEL.get(part, -1)


def upward_imports(root) -> list[str]:
    """Imports that do not point downwards, as ``file:line``."""
    found = []
    for path in files(root / "course_lib", ".py"):
        part = path.relative_to(root / "course_lib").with_suffix("").parts[0]
        for line, name in imported(path, root):
            other = (*name.split("."), "")[1]
            if inside(path, root) == SHOWS_MEASUREMENTS and other in ABOVE:
                continue
            if not other:
                found.append(f"{inside(path, root)}:{line} imports the whole of course_lib; name the part")
            elif _is_part(root, other) and not may_import(part, other):
                found.append(f"{inside(path, root)}:{line} imports {name}, which is not below {part}")
    return found


def _is_part(root, name: str) -> bool:
    return (root / "course_lib" / name).is_dir() or (root / "course_lib" / f"{name}.py").exists()


def circles(root) -> list[str]:
    """Circles of imports, between the chapters of one part and between the files of one chapter."""
    names = {module_name(path, root) for path in files(root / "course_lib", ".py")}
    by_file: dict[str, set[str]] = {name: set() for name in names}
    by_chapter: dict[str, set[str]] = {}
    for path in files(root / "course_lib", ".py"):
        source = module_name(path, root)
        for _, name in imported(path, root):
            while name not in names and "." in name:
                name = name.rpartition(".")[0]
            by_file[source].add(name)
            chapter, other = (".".join(n.split(".")[:3]) for n in (source, name))
            if chapter != other and chapter.count(".") == other.count(".") == 2:
                by_chapter.setdefault(chapter, set()).add(other)
    return sorted({*_circles(by_file), *_circles(by_chapter)})


def _circles(graph: dict[str, set[str]]) -> Iterator[str]:
    """Each circle once, written from its alphabetically first member."""
    done: set[str] = set()

    def walk(node: str, way: list[str]) -> Iterator[str]:
        if node in way:
            circle = way[way.index(node) :]
            first = circle.index(min(circle))
            yield " -> ".join([*circle[first:], *circle[:first], min(circle)])
        elif node not in done:
            for other in sorted(graph.get(node, ())):
                yield from walk(other, [*way, node])
            done.add(node)

    for start in sorted(graph):
        yield from walk(start, [])


def test_every_file_imports_only_from_lower_floors():
    assert_none(upward_imports(ROOT))


def test_no_imports_run_in_a_circle():
    assert_none(circles(ROOT))


def test_every_folder_of_the_library_has_its_place():
    known = {*LEVEL, "classroom", *ABOVE, "__init__", "__main__"}
    there = {
        p.relative_to(ROOT / "course_lib").with_suffix("").parts[0] for p in files(ROOT / "course_lib", ".py")
    }
    assert there - known == set()


def test_the_order_of_the_floors_is_the_plan():
    assert may_import("models", "layers")
    assert may_import("training", "registry")
    assert may_import("capstones", "theory")
    assert may_import("layers", "layers")
    assert not may_import("layers", "models")
    assert not may_import("theory", "search")  # neighbours on one floor know nothing of each other
    assert not may_import("registry", "layers")
    assert not may_import("classroom", "layers")


@pytest.mark.parametrize("part", [*LEVEL, "classroom", "__main__"])
def test_nothing_imports_classroom_experiments_or_bench(part):
    assert part == "classroom" or not may_import(part, "classroom")
    assert not any(may_import(part, above) for above in ABOVE)


def test_only_the_table_side_by_side_may_show_measurements(plant):
    line = "from course_lib.compare.rows import rows"
    measured = {"course_lib/bench/side_by_side.py": "from course_lib.layers.toy import Toy"}
    table, other = SHOWS_MEASUREMENTS, "course_lib/classroom/checks.py"
    assert upward_imports(plant({**measured, table: line})) == []
    (found,) = upward_imports(plant({**measured, other: line}))
    assert other in found


@pytest.mark.parametrize(
    "line",
    [
        "from course_lib.models.cars import Car",
        "from course_lib.models import cars",
        "import course_lib.models.cars",
        "from ..models.cars import Car",
        "from .. import models",
        "def late():\n    from course_lib.models.cars import Car",
        "import importlib\ncars = importlib.import_module('course_lib.models.cars')",
        "import course_lib",
    ],
)
def test_an_import_from_above_is_found_however_it_is_written(plant, line):
    root = plant({"course_lib/layers/toy.py": line, "course_lib/models/cars.py": ""})
    assert len(upward_imports(root)) == 1
    assert "course_lib/layers/toy.py:" in upward_imports(root)[0]


def test_imports_from_below_and_from_elsewhere_pass(plant):
    root = plant(
        {
            "course_lib/registry.py": "",
            "course_lib/layers/toy.py": "import torch\nfrom course_lib.registry import implements",
            "course_lib/models/cars.py": "from course_lib.layers.toy import Toy\nfrom course_lib import data",
            "course_lib/data/__init__.py": "from course_lib.registry import papers",
            "course_lib/experiments/layers/toy.py": "from course_lib.models.cars import Car",
        }
    )
    assert upward_imports(root) == []


def test_a_circle_between_chapters_is_found(plant):
    root = plant(
        {
            "course_lib/layers/toy.py": "from course_lib.layers.toy_two import b",
            "course_lib/layers/toy_two/__init__.py": "",
            "course_lib/layers/toy_two/deep.py": "from course_lib.layers.toy import a",
        }
    )
    circle = "course_lib.layers.toy -> course_lib.layers.toy_two -> course_lib.layers.toy"
    assert circles(root) == [circle]


def test_a_circle_between_the_files_of_one_chapter_is_found(plant):
    root = plant(
        {
            "course_lib/layers/toy/__init__.py": "from course_lib.layers.toy.one import a",
            "course_lib/layers/toy/one.py": "from course_lib.layers.toy import b",
        }
    )
    assert circles(root) == ["course_lib.layers.toy -> course_lib.layers.toy.one -> course_lib.layers.toy"]


def test_a_diamond_is_no_circle(plant):
    root = plant(
        {
            "course_lib/layers/toy/__init__.py": "from .one import a\nfrom .two import b",
            "course_lib/layers/toy/one.py": "from .base import c",
            "course_lib/layers/toy/two.py": "from .base import c\nfrom .one import a",
            "course_lib/layers/toy/base.py": "",
        }
    )
    assert circles(root) == []
