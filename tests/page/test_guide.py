"""The guide for JavaScript and TypeScript: its blocks run, and print what they show."""

import re
import shutil

from tests import node
from tests.servers import SAMPLE, serving

GUIDE = node.PAGE.parents[1] / "docs" / "how-to" / "use-from-javascript.md"
BLOCK = re.compile(r"^```(\S+)(?: (\w+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = [(found[1], found[2], found[3]) for found in BLOCK.finditer(GUIDE.read_text("utf-8"))]


def text_of(language):
    """All blocks of a language that are not for browsers only, one after the other."""
    return "".join(text for kind, info, text in BLOCKS if kind == language and info is None)


def test_guide_has_only_blocks_that_are_tested():
    """Commands for npm and code for browsers are tested elsewhere."""
    assert {kind for kind, _, _ in BLOCKS} == {"sh", "js", "ts", "text"}
    assert sum(info == "browser" for _, info, _ in BLOCKS) == 1


def test_program_of_the_guide_prints_what_it_shows(project, tmp_path):
    """The blocks are one program for node."""
    shutil.copy(SAMPLE, project / "penguins.csv")
    (project / "token.txt").write_text("crm_any\n")
    with serving(tmp_path / "data") as server:
        (project / "guide.mjs").write_text(text_of("js").replace("8000", str(server.port)), "utf-8")
        assert node.run([node.node(), "guide.mjs"], project) == text_of("text")


def test_typescript_of_the_guide_is_accepted(project):
    """Strict TypeScript finds no fault in it."""
    (project / "guide.ts").write_text(text_of("ts"), "utf-8")
    node.tsc(project, "--strict", "--target", "es2022", "--module", "nodenext", "--noEmit", "guide.ts")
