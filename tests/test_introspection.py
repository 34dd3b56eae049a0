"""What the interactive console shows of the package: names, signatures and help."""

import inspect
import pydoc
import rlcompleter
import subprocess
import sys

import creemson
import creemson.client

PUBLIC = [
    "Client",
    "ConnectionLost",
    "CreemsonError",
    "InvalidFormat",
    "ProcessingError",
    "Result",
    "__version__",
    "process",
]


def test_dir_and_completion_show_the_public_names():
    """Without jedi; also before anything was used."""
    code = "import creemson; print(*(name for name in dir(creemson) if not name.startswith('_')))"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert shown == [name for name in PUBLIC if name != "__version__"]
    completer = rlcompleter.Completer({"creemson": creemson})
    assert completer.complete("creemson.pro", 0) == "creemson.process("
    assert completer.complete("creemson.Client.proc", 0).startswith("creemson.Client.process(")


def test_help_of_the_package_is_a_page():
    """With the classes, their arguments, and the exceptions."""
    page = pydoc.plain(pydoc.render_doc(creemson))
    for words in (
        "One call processes a table",
        "class Client",
        "process(",
        "class Result",
        "class ProcessingError",
    ):
        assert words in page
    assert "importlib" not in page


def test_signatures_name_every_argument():
    """No function takes any keyword; all that process a table take the same."""
    functions = [creemson.process, creemson.Client.__init__, creemson.client.connect]
    for kind in (
        creemson.Client,
        creemson.Result,
        creemson.client.Client,
        creemson.client.Job,
        creemson.client.Result,
    ):
        functions += [
            member for name, member in inspect.getmembers(kind, inspect.isfunction) if name[0] != "_"
        ]
    for function in functions:
        kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
        assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}, function
    own = {"self", "progress", "url", "token"}
    names = [
        set(inspect.signature(function).parameters) - own
        for function in (creemson.process, creemson.Client.process, creemson.client.Client.process)
    ]
    assert names[0] == names[1] == names[2]
    assert set(inspect.signature(creemson.client.connect).parameters) - {"rng"} == set(
        inspect.signature(creemson.Client).parameters
    )


def test_version_is_shown_without_the_modules_of_any_command():
    """Names, not times: what takes long is not imported."""
    code = (
        "import sys; sys.argv = ['creemson', '--version']\n"
        "import creemson.__main__\n"
        "try: creemson.__main__.run()\n"
        "except SystemExit: pass\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in ran.stderr.split()}
    assert not loaded & {
        "trio",
        "rich",
        "polars",
        "attrs",
        "orjson",
        "structlog",
        "starlette",
        "asyncio",
        "cattrs",
    }
    own = {name for name in ran.stderr.split() if name.startswith("creemson.")}
    assert own == {"creemson.__main__", "creemson._version", "creemson.cli", "creemson.startup"}


def test_client_is_imported_without_server_and_polars():
    """`creemson.client` is for programs that only connect."""
    code = "import sys, creemson.client; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not [
        name for name in loaded if name.startswith(("creemson.server", "polars", "rich", "starlette"))
    ]
