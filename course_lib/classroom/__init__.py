"""What notebooks and tests use and layers do not: checks, claims, interactive figures, exercises.

>>> from course_lib.classroom import near
>>> near(2.0, rel=0.1).holds(2.1)
True

A name is loaded when it is first asked for, so that a claim does not load matplotlib; ``__init__.pyi`` says
where each one stands.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
