"""Sphinx's configuration: _config.yml in Jupyter Book's format, and what depends on the build at hand."""

import hashlib
import json
import os
from pathlib import Path

import markup
from api import link_names
from jupyter_book.config import get_final_config
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from styles import SHEETS, bundle
from vendor import MATHJAX, mathjax_address

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
# from where Sphinx takes it, in the same version.
if (HERE / "_vendor").is_dir():
    html_static_path = [*html_static_path, "_vendor"]
    mathjax_path = MATHJAX
else:
    mathjax_path = mathjax_address()
nb_ipywidgets_js = {}

# Sphinx copies style sheets and scripts only when it writes some page, so a change of them must change pages;
# so must a change of what mends the pages.
_static = hashlib.sha256(Path(markup.__file__).read_bytes())
for _path in sorted((HERE / "_static").rglob("*.*")):
    _static.update(_path.read_bytes())
html_context = {**_config["html_context"], "static_files": _static.hexdigest()}


_descriptions = json.loads((HERE / "descriptions.json").read_text("utf-8"))


def describe(app: Sphinx, name: str, template: str, context: dict, doctree: object) -> None:
    """Give a page its one sentence, one style sheet, and scripts that let the text come first."""
    context["description"] = _descriptions.get(name, "")
    for sheet in context["css_files"]:
        if not any(Path(sheet.filename).match(pattern) for pattern in SHEETS):
            raise ExtensionError(f"{sheet.filename} is not among the SHEETS of tools/styles.py")
    context["css_files"] = []
    for script in context["script_files"]:
        # The next script in the page reads what documentation_options.js sets.
        if script.filename and not str(script.filename).endswith("documentation_options.js"):
            script.attributes["defer"] = "defer"


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Write the style sheet when all pages are there."""
    if exception is None and app.builder.name == "html":
        bundle(Path(app.outdir))


def prepare(app: Sphinx) -> None:
    """What the templates use."""
    if app.builder.name == "html":
        app.builder.templates.environment.filters["mended"] = markup.mended


def setup(app: Sphinx) -> None:
    """Settings for which Sphinx has no configuration value."""
    app.connect("html-page-context", describe, priority=900)  # the theme adds scripts of its own
    app.connect("builder-inited", prepare)
    app.connect("build-finished", finish, priority=900)  # after the theme has written its colours of code
    # After Napoleon has read the docstring, which does so at the usual priority.
    app.connect("autodoc-process-docstring", lambda *arguments: link_names(arguments[-1]), priority=900)
    # It numbers sections when all pages are read, so these may be read in parallel; it does not say so.
    app.extensions["sphinx_multitoc_numbering"].parallel_read_safe = True
