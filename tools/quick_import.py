"""Import this before anything that reads notebooks: it takes a second off the start of each process.

``nbformat`` imports ``jsonschema``, which, where JupyterLab is installed, compiles a grammar of web addresses
for a check that notebooks do not use. ``jsonschema`` does without the module where it is not there.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)
