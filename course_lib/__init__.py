"""Layer by Layer: neural-network layers and training methods, built small and checked.

Every module is an ordinary ``torch.nn.Module``; import it from its chapter::

    from course_lib.layers.norm import LayerNorm

Importing the package loads nothing but this file; a chapter is loaded when it is asked for.
``dir(course_lib)`` lists the parts, ``dir(course_lib.layers)`` the chapters of one.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if not TYPE_CHECKING:  # a type checker is to see a name that is misspelt
    from course_lib._lazy import attach

    __getattr__, __dir__ = attach(__name__, __path__)
