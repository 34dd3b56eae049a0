"""The documentation as a site: ``nox -s docs`` builds it with Sphinx."""

import json
import sys
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_extensions"), str(HERE.parent)]

from asyncapi_page import messages_page  # noqa: E402
from javascript_page import javascript_page  # noqa: E402

from creemson import __version__  # noqa: E402
from creemson.wire.asyncapi import describe  # noqa: E402

project = "Creemson"
author = "the Creemson authors"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_extensions"]
html_theme = "furo"
html_title = f"Creemson {version}"
html_copy_source = False
html_show_sourcelink = False
myst_heading_anchors = 4
# A block that is shown with its output is copied without the prompt.
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
napoleon_use_ivar = True
napoleon_google_docstring = True

PAGE = HERE.parent / "creemson" / "page"
PLAIN = ("csv", "caddy", "json", "text")
"""Languages shown without colours: Pygments does not know them, or rejects the `…` in our JSON."""


ROOT_PAGES = {"README.md": "index", "CHANGELOG.md": "changelog", "CONTRIBUTING.md": "contributing"}
"""Files of the project's folder, and the pages that they are in the site."""


def root_page(name: str) -> str:
    """Return a file of the project's folder with its links relative to this folder."""
    text = (HERE.parent / name).read_text("utf-8")
    for file, page in ROOT_PAGES.items():
        text = text.replace(f"]({file}", f"]({page}.md")
    return text.replace("](docs/", "](")


def fill_page(_: Sphinx, name: str, source: list[str]) -> None:
    """Fill a page with a file of the project's folder, or with what is made from the code."""
    if name == "index":
        source[0] = root_page("README.md") + source[0]
    elif name == "changelog":
        source[0] = root_page("CHANGELOG.md")
    elif name == "contributing":
        source[0] = root_page("CONTRIBUTING.md")
    elif name == "reference/messages":
        source[0] += messages_page(describe())
    elif name == "reference/javascript":
        types = (PAGE / "creemson.d.ts").read_text("utf-8")
        source[0] += javascript_page((PAGE / "creemson.js").read_text("utf-8"), types)


def write_asyncapi(app: Sphinx, failure: Exception | None) -> None:
    """Put the AsyncAPI document beside the pages."""
    if failure is None:
        (Path(app.outdir) / "asyncapi.json").write_text(json.dumps(describe(), indent=1), "utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what is made from the code."""
    for language in PLAIN:
        app.add_lexer(language, TextLexer)
    app.connect("source-read", fill_page)
    app.connect("build-finished", write_asyncapi)
    return {"parallel_read_safe": True}
