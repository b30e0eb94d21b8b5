"""The file of a specimen: weights as safetensors and, in the same file, what is known about them.

One file means that nobody ever sees new weights with an old record; a checksum over both means that neither
can change without the other. Reading it runs nothing, whoever wrote it.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

__all__ = ["Check", "Damaged", "Record", "Weights", "read", "write"]


class Damaged(ValueError):
    """A file is no specimen, or not all of one."""


@dataclass(frozen=True, repr=False)
class Check:
    """One number of an acceptance test and the bound that it must keep.

    Args:
        what: the quantity, with its unit.
        measured: its value; NaN keeps no bound.
        at_least: lower bound, None for none.
        at_most: upper bound, None for none.

    Raises:
        ValueError: without any bound, since such a check could not fail.

    >>> Check("test accuracy", 0.98, at_least=0.95)
    test accuracy 0.98, at least 0.95
    """

    what: str
    measured: float
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"the check of {self.what!r} has no bound: give at_least or at_most")

    @property
    def passed(self) -> bool:
        """Whether the value keeps its bounds."""
        above = self.at_least is None or self.measured >= self.at_least
        below = self.at_most is None or self.measured <= self.at_most
        return above and below

    def __repr__(self) -> str:
        bounds = {"at least": self.at_least, "at most": self.at_most}
        wanted = " and ".join(f"{word} {bound:.4g}" for word, bound in bounds.items() if bound is not None)
        return f"{self.what} {self.measured:.4g}, {'' if self.passed else 'but should be '}{wanted}"


@dataclass(frozen=True)
class Record:
    """How weights came about and which acceptance test they passed.

    Args:
        name: of the specimen.
        seed: that its recipe was given.
        code: hash of the recipe, see :func:`course_lib.measure.hashing.code_hash`.
        test: hash of the acceptance test.
        checks: what the test found with these very weights.
        seconds: of one processor that the training took.
        torch: version of torch.
        python: version of Python, on which the text in some data sets depends.
        machine: kind of processor.
    """

    name: str
    seed: int
    code: str
    test: str
    checks: tuple[Check, ...]
    seconds: float
    torch: str
    python: str
    machine: str


@dataclass(frozen=True, eq=False)
class Weights:
    """The tensors of a trained network, as they are stored, and their record."""

    tensors: dict[str, Tensor]
    record: Record


def read(file: Path) -> Weights | None:
    """What a file holds; None if there is no such file.

    Raises:
        Damaged: if it cannot be read, is no specimen, or was changed.
    """
    try:
        content = file.read_bytes()
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts = json.loads(header.get("__metadata__", {}).get("specimen", "null"))
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, ValueError) as error:
        raise Damaged(f"{file} cannot be read ({error})") from None
    if not isinstance(facts, dict):
        raise Damaged(f"{file} has no record of a specimen")
    if facts.pop("checksum", None) != _checksum(tensors, facts):
        raise Damaged(f"{file} does not fit its checksum")
    try:
        checks = tuple(Check(**check) for check in facts.pop("checks"))
        return Weights(tensors, Record(checks=checks, **facts))
    except (KeyError, TypeError) as error:
        raise Damaged(f"{file} was written by another version of this library ({error})") from None


def write(file: Path, weights: Weights) -> None:
    """Write beside the file, then rename: nobody sees half of it, and a full disk leaves the old one.

    Raises:
        OSError: if the folder cannot be made or written.
    """
    facts = asdict(weights.record)
    facts = json.loads(json.dumps(facts))  # tuples become lists, as they will be when read
    facts["checksum"] = _checksum(weights.tensors, facts)
    content = save(weights.tensors, metadata={"specimen": json.dumps(facts, sort_keys=True)})
    file.parent.mkdir(parents=True, exist_ok=True)
    # One name for all writers: what a killed one left behind, the next one overwrites.
    part = file.with_name(f".{file.name}.part")
    try:
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _checksum(tensors: dict[str, Tensor], facts: dict) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
