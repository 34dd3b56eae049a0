"""The documentation, built as a site."""

import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BUILD_TIMEOUT = 300
FOLDER_VARIABLE = "DOCS_FOLDER"
"""An environment variable: where to leave the site."""
TAG = re.compile(r"<[^>]+>")


@attrs.frozen
class Site:
    """The built pages.

    Attributes:
        folder: with the pages.
        printed: what Sphinx printed: its warnings.
        status: of Sphinx; warnings are errors.
    """

    folder: Path
    printed: str
    status: int

    def pages(self):
        """All pages by their path, as HTML."""
        return {
            path.relative_to(self.folder).as_posix(): path.read_text("utf-8")
            for path in sorted(self.folder.rglob("*.html"))
        }


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site, as ``nox -s docs`` builds it."""
    for module in ("sphinx", "furo", "myst_parser", "sphinx_copybutton"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install 'creemson[docs]'")
    folder = Path(os.environ.get(FOLDER_VARIABLE) or tmp_path_factory.mktemp("site") / "html")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT, cwd=ROOT)
    return Site(folder, done.stdout + done.stderr, done.returncode)
