"""The site builds without a warning, its links hold, and its search finds every setting and every reason."""

import html
import json
import re
from urllib.parse import unquote, urlsplit

import attrs
import click
import pytest

from creemson import cli
from creemson.errors import REASONS
from creemson.model.query import FUNCTIONS, OPERATORS, TYPES, Options, Query
from creemson.settings.sections import FIELDS
from creemson.wire.messages import CLIENT_TYPES, SERVER_TYPES
from tests.docs.conftest import DOCS

LINK = re.compile(r'(?:href|src)="([^"]*)"')
ANCHOR = re.compile(r'\bid="([^"]*)"')
ROW = re.compile(r"^\| `(\w+)` \| (\d+) \| (yes|no) \|", re.MULTILINE)
FAMILY = re.compile(r"^## (\d{4})", re.MULTILINE)


class Search:
    """The search index, asked as the page's script does: all words of a query must be in a page."""

    def __init__(self, folder):
        text = (folder / "searchindex.js").read_text("utf-8")
        index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
        self.names = index["docnames"]
        self.terms = {}
        for kind in ("terms", "titleterms"):
            for term, pages in index[kind].items():
                self.terms.setdefault(term, set()).update([pages] if isinstance(pages, int) else pages)
        from sphinx.search.en import SearchEnglish

        self.language = SearchEnglish({})

    def pages(self, query):
        """The pages that the search finds."""
        words = [word.lower() for word in re.findall(r"\w+", query)]
        found = [
            {page for term in {word, self.language.stem(word)} for page in self.terms.get(term, ())}
            for word in words
            if word not in self.language.stopwords
        ]
        return {self.names[page] for page in set.intersection(*found)} if found else set()


@pytest.fixture(scope="module")
def search(site):
    return Search(site.folder)


def test_site_builds_without_a_warning(site):
    """A page outside the table of contents, an unknown reference or a bad docstring is a warning."""
    assert (site.printed, site.status) == ("", 0)


def test_internal_links_lead_to_pages_and_headings_that_exist(site):
    """Each link and picture of each page; nothing is loaded from elsewhere."""
    pages = site.pages()
    anchors = {name: {html.unescape(found) for found in ANCHOR.findall(text)} for name, text in pages.items()}
    broken = []
    for name, text in pages.items():
        for link in map(html.unescape, LINK.findall(text)):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link == "#":
                continue
            target = (site.folder / name).parent / unquote(parts.path) if parts.path else site.folder / name
            target = target.resolve()
            if not target.exists():
                broken.append((name, link))
            elif parts.fragment and target.suffix == ".html":
                page = target.relative_to(site.folder.resolve()).as_posix()
                if unquote(parts.fragment) not in anchors[page]:
                    broken.append((name, link))
    assert broken == []
    external = [
        link
        for text in pages.values()
        for link in re.findall(r'<(?:script|img|link)[^>]*"(https?:[^"]*)', text)
    ]
    assert external == []


def test_search_finds_every_setting(search):
    """Its own page is among the results for each name."""
    missing = [name for name in FIELDS if "reference/settings" not in search.pages(name)]
    assert missing == []


def test_search_finds_every_reason(search):
    """Each reason leads to the page that says what to do."""
    missing = [reason for reason in REASONS if "reference/errors" not in search.pages(reason)]
    assert missing == []


def test_search_finds_commands_messages_and_functions(search):
    """The names of the other references, too."""
    wanted = {
        "reference/commands": cli.main.list_commands(click.Context(cli.main)),
        "reference/messages": {*CLIENT_TYPES, *SERVER_TYPES},
        "reference/python": ("ConnectionPool", "group_by", "give_up_after"),
        "reference/javascript": ("reconnectNow", "RunningUpload", "onProgress"),
        "operations": ("creemson_event_loop_lag_seconds",),
    }
    missing = [
        (page, name) for page, names in wanted.items() for name in names if page not in search.pages(name)
    ]
    assert missing == []
    assert search.pages("file_not_found nonsenseword") == set()


def test_page_of_errors_has_the_table_of_reasons():
    """Family, HTTP status and whether a retry is useful are those of the code, in its order."""
    text = (DOCS / "reference" / "errors.md").read_text("utf-8")
    told = []
    for part in re.split(r"(?=^## )", text, flags=re.MULTILINE)[1:]:
        family = int(FAMILY.match(part)[1])
        told += [(name, family, int(status), retry == "yes") for name, status, retry in ROW.findall(part)]
    assert told == [(name, row.code, row.status, row.retryable) for name, row in REASONS.items()]


def test_page_of_commands_names_every_option():
    """Of each command, also of the commands in a group."""
    text = (DOCS / "reference" / "commands.md").read_text("utf-8")
    options = {
        name
        for command in commands_of(cli.main)
        for option in command.params
        for name in option.opts
        if name.startswith("--")
    }
    assert "--scheduler" in options
    assert [name for name in sorted(options) if not re.search(rf"{name}\b", text)] == []


def commands_of(group):
    """The commands of a group and of the groups in it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield from commands_of(command) if isinstance(command, click.Group) else [command]


def test_page_of_the_protocol_has_the_whole_query():
    """Its fields, the options of reading, and all operators, functions and types."""
    text = (DOCS / "reference" / "protocol.md").read_text("utf-8")
    fields = [field.name for kind in (Query, Options) for field in attrs.fields(kind)]
    words = [*fields, *OPERATORS, *FUNCTIONS, *TYPES]
    assert [word for word in words if not re.search(rf"[`\s]{re.escape(word)}[`?\s]", text)] == []


def test_site_has_the_asyncapi_document(site):
    """Tools can take it from the site."""
    document = json.loads((site.folder / "asyncapi.json").read_text("utf-8"))
    assert document["asyncapi"] == "3.0.0"


def test_references_are_made_from_the_code(site):
    """Docstrings, comments and schemas are in the pages."""
    assert "Process a table with one call" in (site.folder / "reference" / "python.html").read_text("utf-8")
    javascript = (site.folder / "reference" / "javascript.html").read_text("utf-8")
    assert "Follow a job that was started elsewhere" in javascript
    messages = (site.folder / "reference" / "messages.html").read_text("utf-8")
    assert "data.output_data.issues.examples[].line" in messages
