"""The catalogue of specimens: how a recipe enters it, and how its trained network is had."""

import difflib
import re
from collections.abc import Callable, Sequence

from torch import nn

from course_lib.specimens._record import Check, Record
from course_lib.specimens._specimen import Specimen

__all__ = ["find", "load", "names", "record", "specimen", "verify"]

_specimens: dict[str, Specimen] = {}


def specimen(
    name: str, *, build: Callable[[], nn.Module], accept: Callable[[nn.Module], Sequence[Check]]
) -> Callable[[Callable[[int], nn.Module]], Callable[[int], nn.Module]]:
    """Enter a recipe into the catalogue: a module-level function of a seed that returns a trained network.

    Everything random comes from the seed: torch's generator starts from it. The recipe calls ``build``.

    Args:
        name: what :func:`load` is asked for; lower case, digits and underscores.
        build: makes the network without its training, at once.
        accept: measures a trained network; it is good if every :class:`Check` keeps its bounds.

    Raises:
        ValueError: for a name that is no file name or taken, or a function inside another or in a notebook.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"{name!r} cannot be the name of a file: use a-z, 0-9 and _, as in 'char_gpt'")

    def register(recipe: Callable[[int], nn.Module]) -> Callable[[int], nn.Module]:
        for function in (recipe, build, accept):
            if "." in function.__qualname__ or function.__module__ == "__main__":
                raise ValueError(
                    f"{function.__qualname__} of {function.__module__} is not at the top level of a module "
                    "file, such as course_lib/specimens/networks.py, so its code cannot be hashed"
                )
        known = _specimens.get(name)
        if known is not None and known.recipe.__module__ != recipe.__module__:
            raise ValueError(
                f"{recipe.__module__} and {known.recipe.__module__} both name a specimen {name!r}"
            )
        _specimens[name] = Specimen(name, recipe, build, accept)
        return recipe

    return register


# What an experiment reaches through load() is its table and the recipe of the name that it asks for, but not
# the methods of Specimen: how weights are kept is no part of what they are, and makes no result stale.


def load(name: str, *, seed: int = 0) -> nn.Module:
    """A trained network in eval mode, new on every call, so that it may be changed.

    Seed 0 comes with the package. Another seed, or a recipe whose code was changed, is trained on its first
    use, tested, and kept in the user's cache folder (``COURSE_CACHE`` chooses another).

    Args:
        name: one of :func:`names`.
        seed: which of the networks of this recipe.

    Raises:
        ValueError: for an unknown name.
        AcceptanceError: if the network does not pass its acceptance test.

    >>> model = load("digit_vit")
    >>> type(model).__name__, model.training
    ('VisionTransformer', False)
    """
    return find(name).load(seed)


def names() -> list[str]:
    """The names that :func:`load` knows.

    >>> "char_gpt" in names()
    True
    """
    return sorted(_specimens)


def record(name: str, *, seed: int = 0) -> Record:
    """How the network that :func:`load` gives came about: its checks, seconds, versions.

    Args:
        name: one of :func:`names`.
        seed: as for :func:`load`.

    >>> all(check.passed for check in record("digit_vit").checks)
    True
    """
    return find(name).weights(seed).record


def verify(name: str, *, seed: int = 0) -> list[Check]:
    """Run the acceptance test again, here and now, whatever the record says.

    Args:
        name: one of :func:`names`.
        seed: as for :func:`load`.

    Raises:
        AcceptanceError: if the network does not pass.
    """
    chosen = find(name)
    return list(chosen.test(chosen.weights(seed).tensors))


def find(name: str) -> Specimen:
    """The specimen of a name.

    Args:
        name: one of :func:`names`.

    Raises:
        ValueError: for an unknown name.

    >>> find("char_gpt").summary
    'A character model of English with four blocks of four heads.'
    """
    if name not in _specimens:
        close = difflib.get_close_matches(name, _specimens, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else f"known are {', '.join(names())}"
        raise ValueError(f"no specimen is called {name!r}; {hint}")
    return _specimens[name]
