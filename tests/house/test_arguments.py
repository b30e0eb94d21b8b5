"""One name for one thing: what a constructor takes is called as ``tools/notation.toml`` says."""

import ast
import re

import pytest

from tests.house.tree import ROOT, assert_none, definitions, files, inside, parse, parts, tomllib

# Names that layers still bear, and what they are to be called. A name that is gone is taken out here.
MOVING = {"tokens": ("num_tokens",)}


def legend(root) -> dict[str, set[str]]:
    """Every name of the notation with the types that it may have."""
    rows = tomllib.loads((root / "tools/notation.toml").read_text("utf-8"))["argument"]
    assert len({row["name"] for row in rows}) == len(rows), "a name stands twice in tools/notation.toml"
    return {row["name"]: {*row["type"].split(" | ")} for row in rows}


def constructor_arguments(root) -> list[tuple[str, str, set[str], str]]:
    """Class, argument, its types and the file, of every public class of the floors."""
    found = []
    for part in parts(root):
        for path in files(root / "course_lib" / part, ".py"):
            for node in definitions(parse(path)):
                if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                    continue
                for method in (m for m in definitions(node) if m.name == "__init__"):
                    arguments = [*method.args.posonlyargs, *method.args.args][1:] + method.args.kwonlyargs
                    for argument in arguments:
                        types = _types(argument.annotation)
                        found.append((node.name, argument.arg, types, inside(path, root)))
    return found


def _types(annotation: ast.AST | None) -> set[str]:
    """The heads of the alternatives: ``Callable`` and ``None`` of ``Callable[[int], nn.Module] | None``."""
    if isinstance(annotation, ast.BinOp):
        return _types(annotation.left) | _types(annotation.right)
    return {re.sub(r"\[.*", "", ast.unparse(annotation), flags=re.DOTALL)} if annotation else set()


def unnamed(root, moving=()) -> list[str]:
    """Arguments that the notation does not know, or knows with another type."""
    known, found = legend(root), []
    for owner, name, types, place in constructor_arguments(root):
        if name not in known and name not in moving:
            found.append(f"{place}: {owner} takes {name}, which is not in tools/notation.toml")
        elif name in known and not types <= known[name]:
            given = " | ".join(sorted(types - known[name]))
            found.append(f"{place}: {owner} takes {name} as {given}; tools/notation.toml says otherwise")
    return found


def test_every_argument_has_a_name_and_a_type_of_the_notation():
    assert_none(unnamed(ROOT, MOVING))


def test_every_name_of_the_notation_is_in_use():
    used = {name for _, name, _, _ in constructor_arguments(ROOT)}
    coming = {new for old, names in MOVING.items() if old in used for new in names}
    assert_none([f"no constructor takes {name}" for name in legend(ROOT) if name not in used | coming])


def test_names_that_are_to_go_are_still_there():
    used = {name for _, name, _, _ in constructor_arguments(ROOT)}
    assert_none([f"{name} is gone: take it out of MOVING" for name in MOVING if name not in used])


def toy(signature: str) -> dict[str, str]:
    rows = '{ name = "dim", type = "int", meaning = "width" },'
    return {
        "course_lib/layers/toy.py": f"class Toy:\n    def __init__(self, {signature}): ...\n",
        "tools/notation.toml": f"argument = [\n{rows}\n]\n",
    }


def test_a_known_name_with_its_type_passes(plant):
    assert unnamed(plant(toy("dim: int"))) == []


@pytest.mark.parametrize(
    ("signature", "fault"),
    [
        ("width: int", "Toy takes width, which is not in"),
        ("dim: int, *, width: int = 3", "Toy takes width, which is not in"),
        ("dim: float | None", "Toy takes dim as None | float; "),
    ],
)
def test_a_new_name_and_another_type_are_found(plant, signature, fault):
    (found,) = unnamed(plant(toy(signature)))
    assert fault in found


def test_a_private_class_may_call_its_arguments_as_it_likes(plant):
    files = toy("width")
    files["course_lib/layers/toy.py"] = files["course_lib/layers/toy.py"].replace("Toy", "_Toy")
    assert unnamed(plant(files)) == []
