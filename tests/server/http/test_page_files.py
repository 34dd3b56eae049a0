"""Scripts of the page are sent without comments and indents, and otherwise as they are."""

import pytest

from creemson.server.http.page_files import PAGE_FILES, STATIC, compact, open_page_file

SCRIPTS = sorted(name for name in PAGE_FILES if name.endswith(".js"))


@pytest.mark.parametrize(
    ("script", "sent"),
    [
        ("/** What it does. */\nf();\n", "\nf();\n"),
        ("f();\n  /**\n   * Two * lines / of it.\n   **/\ng();\n", "f();\n\n\n\ng();\n"),
        ("  // why\nf(); // here\n", "\nf(); // here\n"),
        ('f("// text");\nconst url = "http://a";\n', 'f("// text");\nconst url = "http://a";\n'),
        ("/** one */ f(); /** two */\n", "/** one */ f(); /** two */\n"),
        ("/* licence */\nf();\n", "/* licence */\nf();\n"),
        ("/** never ends\nf();\n", "/** never ends\nf();\n"),
        ("if (a) {\n  f();\n\tg( 1 );\n}\n", "if (a) {\nf();\ng( 1 );\n}\n"),
        ("", ""),
    ],
)
def test_indents_and_comments_with_lines_of_their_own_are_removed(script, sent):
    assert compact(script) == sent
    assert sent.count("\n") == script.count("\n")  # errors are told with the right line


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_that_is_removed_is_part_of_a_template(name):
    script = (STATIC / name).read_text()
    sent = compact(script)
    for lines, left in zip(script.split("\n"), sent.split("\n"), strict=True):
        assert left in ("", lines.lstrip())
    for line in sent.split("\n"):  # every template ends in its line
        assert line.partition(" // ")[0].count("`") % 2 == 0


def test_other_files_are_sent_as_they_are():
    for name in sorted(PAGE_FILES - set(SCRIPTS)):
        with open_page_file(name).stream as stream:
            assert stream.read_at(0, 2**20) == (STATIC / name).read_bytes()


def test_version_is_that_of_what_is_sent():
    """A browser keeps a script until it changes; pieces of one version can be put together."""
    file = open_page_file("creemson.js")
    assert file.version == open_page_file("creemson.js").version != open_page_file("page.js").version
    with file.stream as stream:
        whole = stream.read_at(0, file.size)
        assert b"".join(stream.read_at(start, 1000) for start in range(0, file.size, 1000)) == whole
        assert stream.read_at(file.size, 1000) == b""
