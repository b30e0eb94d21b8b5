"""Sphinx's configuration: _config.yml in Jupyter Book's format, and what depends on the build at hand."""

import os
from pathlib import Path

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

# tools/vendor.py has put copies here when the site is to stand alone.
if (HERE / "_vendor").is_dir():
    html_static_path = [*html_static_path, "_vendor"]
    mathjax_path = "mathjax/tex-mml-chtml.js"
    nb_ipywidgets_js = {"requirejs/require.js": {}, "html-manager/embed-amd.js": {}}


def setup(app: Sphinx) -> None:
    """Let Sphinx read pages in parallel: this extension numbers sections afterwards but does not say so."""
    app.extensions["sphinx_multitoc_numbering"].parallel_read_safe = True
