"""Sphinx's configuration: _config.yml in Jupyter Book's format, and what depends on the build at hand."""

import hashlib
import json
import os
from pathlib import Path

from api import link_names
from jupyter_book.config import get_final_config
from sphinx.application import Sphinx

HERE = Path(__file__).parent

_config, _ = get_final_config(
    user_yaml=HERE / "_config.yml",
    cli_config={"latex_individualpages": False},
    sourcedir=HERE,
    raise_on_invalid=True,
)
globals().update(_config)
html_theme_options = _config["html_theme_options"]
html_static_path = _config["html_static_path"]
html_extra_path = ["_extra"]
templates_path = ["_templates"]

# The catalogue: signatures as they are written, docstrings in Google's style, no words of the base classes.
extensions = [*_config["extensions"], "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88

# Annotations in signatures name types of torch and jaxtyping, which have no page here.
# "Raises:" names exceptions of Python.
nitpick_ignore_regex = [("py:class", r".*"), ("py:exc", r".*")]

# GITHUB_REPOSITORY is owner/name, set by GitHub's runners. Colab and Binder open the executed notebooks,
# which a workflow puts on a branch of their own; without a repository there is nowhere to launch anything.
_repository = os.environ.get("GITHUB_REPOSITORY")
if _repository:
    html_theme_options |= {
        "repository_url": f"https://github.com/{_repository}",
        "repository_branch": "notebooks",
        "path_to_docs": "",
        "use_repository_button": True,
        "launch_buttons": {
            "colab_url": "https://colab.research.google.com",
            "binderhub_url": "https://mybinder.org",
            "notebook_interface": "jupyterlab",
        },
    }
else:
    html_theme_options |= {"repository_url": "", "launch_buttons": {}, "use_repository_button": False}

# Formulas need MathJax. tools/vendor.py has put a copy here when the site is to stand alone; else it comes
# from where Sphinx takes it.
if (HERE / "_vendor").is_dir():
    html_static_path = [*html_static_path, "_vendor"]
    mathjax_path = "mathjax/tex-mml-chtml.js"
nb_ipywidgets_js = {}

# Sphinx copies style sheets and scripts only when it writes some page, so a change of them must change pages.
_static = hashlib.sha256()
for _path in sorted((HERE / "_static").rglob("*.*")):
    _static.update(_path.read_bytes())
html_context = {**_config["html_context"], "static_files": _static.hexdigest()}


_descriptions = json.loads((HERE / "descriptions.json").read_text("utf-8"))


def describe(app: Sphinx, name: str, template: str, context: dict, doctree: object) -> None:
    """Give the page's template its one sentence."""
    context["description"] = _descriptions.get(name, "")


def setup(app: Sphinx) -> None:
    """Settings for which Sphinx has no configuration value."""
    app.connect("html-page-context", describe)
    # After Napoleon has read the docstring, which does so at the usual priority.
    app.connect("autodoc-process-docstring", lambda *arguments: link_names(arguments[-1]), priority=900)
    # It numbers sections when all pages are read, so these may be read in parallel; it does not say so.
    app.extensions["sphinx_multitoc_numbering"].parallel_read_safe = True
