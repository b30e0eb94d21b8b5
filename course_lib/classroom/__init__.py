"""What notebooks and tests use and layers do not: checks, claims, interactive figures, exercises.

>>> from course_lib.classroom import predict
>>> predict("1 + 1?", ["2", "3"], right=0, answer="It is 2.")
Predict first: 1 + 1?
  a) 2
  b) 3
Answer: a) It is 2.

A name is loaded when it is first asked for, so that a claim does not load matplotlib; ``__init__.pyi`` says
where each one stands.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
