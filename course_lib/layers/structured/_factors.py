"""What the layers of factored widths ask of their shapes."""

from typing import Any

from course_lib.layers._shapes import require_positive


def require_factors(layer: str, **shape: Any) -> tuple[int, int]:
    """The two factors of a width; one number would not say how it is to be cut.

    >>> require_factors("MonarchLinear", in_shape=64)
    Traceback (most recent call last):
    TypeError: MonarchLinear: in_shape must be a pair whose product is the width, as (8, 8) for 64, got 64
    """
    ((name, seen),) = shape.items()
    if not isinstance(seen, (tuple, list)) or len(seen) != 2:
        raise TypeError(
            f"{layer}: {name} must be a pair whose product is the width, as (8, 8) for 64, got {seen!r}"
        )
    require_positive(layer, **{f"{name}[{i}]": size for i, size in enumerate(seen)})
    return int(seen[0]), int(seen[1])
