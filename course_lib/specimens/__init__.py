"""Specimens: tiny trained networks that several chapters look into.

>>> from course_lib.specimens import load
>>> model = load("digit_vit")
>>> len(model.blocks)
3

The weights come with the package, bound by a hash to the code of the recipe that made them and by a checksum
to the acceptance test that they passed. So a claim about a specimen is never a claim about a network that was
not trained. A recipe is a function of a seed; ``networks.py`` has them all::

    @specimen("char_gpt", build=untrained_char_gpt, accept=accept_char_gpt)
    def char_gpt(seed: int) -> GPT:
        ...

After a change of its code :func:`load` trains the network anew, once, into the user's cache folder. On the
command line::

    python -m course_lib.specimens status       # what is fresh, stale or missing, and how good it is
    python -m course_lib.specimens build        # trains what is not fresh, into the package
"""

# Importing a module enters its recipes into the catalogue.
from course_lib.specimens import networks
from course_lib.specimens._catalogue import find, load, names, record, specimen, verify
from course_lib.specimens._record import Check, Record
from course_lib.specimens._specimen import AcceptanceError, Specimen

__all__ = [
    "AcceptanceError",
    "Check",
    "Record",
    "Specimen",
    "find",
    "load",
    "names",
    "networks",
    "record",
    "specimen",
    "verify",
]
