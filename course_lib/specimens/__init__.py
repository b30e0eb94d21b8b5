"""Specimens: tiny trained networks that several chapters look into.

>>> from course_lib.specimens import load
>>> model = load("digit_vit")
>>> len(model.blocks)
3

The weights come with the package, bound by a hash to the code of the recipe that made them; they
were written only because they passed the recipe's acceptance test. So a claim about a specimen is
never a claim about a network that was not trained. ``networks.py`` has the recipes; after a change
of their code ``make specimens`` trains them again. On the command line::

    python -m course_lib.specimens status       # what is fresh, stale or missing, and how good
    python -m course_lib.specimens build        # trains what is not fresh
"""

# Importing a module enters its recipes into the catalogue.
from course_lib.specimens import networks as networks
from course_lib.specimens._specimen import load as load
from course_lib.specimens._specimen import names as names
