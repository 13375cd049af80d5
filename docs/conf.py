"""Settings of Sphinx: `sphinx-build -n -W --keep-going docs docs/_build` (extra `docs`)."""

import re

from sphinx.application import Sphinx

import internvideo_hf

project = "internvideo_hf"
author = "The internvideo_hf contributors"
project_copyright = author
version = release = internvideo_hf.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"{project} {version}"
exclude_patterns = ["_build"]
nb_execution_mode = "auto"  # notebooks are stored without outputs, and run by the build
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_output_stderr = "remove"
myst_heading_anchors = 3  # `page.md#a-heading`, as GitHub has it
default_role = "code"  # `name` in docstrings is code, as in Markdown
autodoc_inherit_docstrings = False  # transformers writes its own in Markdown
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
nitpick_ignore_regex = [
    # The build needs no network, thus has no inventories of other libraries.
    (r"py:.*", r"(accelerate|collections|datasets|numpy|os|pathlib|torch|transformers)\..*"),
    (r"py:.*", r"StrictDataclassClassValidationError"),
    # Annotations name types that are not public; so do `Raises:` errors, which derive from ValueError or RuntimeError.
    (r"py:class", r"internvideo_hf\.[a-z].*"),
    (r"py:exc", r"(DiskFull|Locked|Loss|Recipe|TooManyFailures|Where)Error"),
    # Autodoc divides annotations of transformers' TrainingArguments, which are text, at their commas.
    (r"py:class", r"dict\[str"),
]


def setup(app: Sphinx) -> None:
    """Let links to the benchmarks, which GitHub shows in their own folder, lead to the site's page."""

    def rewrite(app: Sphinx, name: str, source: list[str]) -> None:
        source[0] = re.sub(r"\]\(((?:\.\./)*)\.\./benchmarks/README\.md", r"](\1benchmarks.md", source[0])

    app.connect("source-read", rewrite)
