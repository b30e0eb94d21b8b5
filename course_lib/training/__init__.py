"""What fits weights: the training loop first, then methods."""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from course_lib._lazy import attach

    __getattr__, __dir__ = attach(__name__, __path__)
