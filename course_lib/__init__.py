"""Layer by Layer: neural-network layers and training methods, built small and checked.

Every module is an ordinary ``torch.nn.Module``; import it from its chapter::

    from course_lib.layers.norm import LayerNorm

Importing the package loads nothing but this file; a chapter is loaded when it is asked for.
"""

import importlib

__all__ = ["__version__"]

__version__ = "0.1.0"


def __getattr__(name: str):
    """Load a part of the course on first use, so that ``import course_lib`` stays light."""
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
