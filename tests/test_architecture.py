"""The layout of the package: which folder may import which, and how large folders may grow.

The rules name folders, not files, so that a new module is covered by the rule of its folder. Where a rule names a
module, the module is an interface on purpose.
"""

import ast
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import creemson

PACKAGE = Path(creemson.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
COMMON = {"errors", "settings", "logs", "metrics", "startup", "_version"}
"""May be imported by every folder except `model`, which may import only `errors`."""
ALLOWED = {
    "model": set(),
    "settings": set(),
    "catalog": set(),
    "storage": {"model", "catalog"},
    "formats": {"model"},
    "engine": {"model", "formats"},
    "executors": set(),
    "jobs": {"model", "catalog", "storage", "executors"},
    "wire": {"model"},
    "client": {"model", "wire"},
    "display": {"model"},
    "server": {"model", "catalog", "storage", "executors", "jobs", "wire"},
    "api": {"model", "client", "display", "server"},
    "cli": {"model", "wire", "catalog", "storage", "executors", "jobs", "server", "client", "display"},
    "__main__": {"cli"},
    "__init__": {"api", "client"},
}
"""Folders that each folder may import, in addition to itself and `COMMON`: downwards only."""
EXCEPTIONS = {
    # What a worker process needs to publish a file, and the names that belong to it.
    ("engine", "creemson.storage.durable"),
    ("engine", "creemson.storage.names"),
    # Through which it reads and writes files in an object store.
    ("engine", "creemson.storage.objects.address"),
    ("engine", "creemson.storage.objects.scratch"),
    # The name of the file that a worker writes to.
    ("executors", "creemson.storage.names"),
}
WIRE_USERS = ("client", "server.connection", "server.http", "server.handshake", "cli", "wire")
POLARS_USERS = ("engine", "formats", "client.result", "client.sync.result", "client.local.tables")
NO_TRIO = (
    "model", "wire", "catalog", "storage", "formats", "engine", "jobs.queue", "jobs.events",
    "jobs.sharing", "jobs.work.candidates", "jobs.servers.leases", "jobs.servers.following.following",
    "jobs.servers.following.messages",
    "server.connection.protocol", "server.connection.admission", "server.connection.requests",
    "server.connection.transfers", "server.connection.liveness", "server.connection.state", "server.connection.effects",
    "server.transport.request_head", "client.pool_state", "client.backoff",
)  # fmt: skip
BEHIND_INTERFACES = {
    "creemson.catalog.database": ("catalog",),
    "creemson.catalog.postgres": ("catalog.choice",),
    "creemson.catalog.sqlite": ("catalog.choice",),
    "creemson.executors.dask.executor": ("server.engines",),
    "creemson.executors.local": ("server.engines", "cli.doctor", "executors.dask"),
    "creemson.executors.process": ("executors", "server.server", "server.engines", "cli.cluster"),
    "creemson.storage.folder.files": ("storage",),
    "creemson.storage.folder.store": ("storage.folder",),
    "creemson.storage.folder.stores": ("storage.stores",),
    "creemson.storage.objects.caller.store": ("storage.objects",),
    "creemson.storage.objects.stores": ("server.server",),
}
"""Implementations, with the places that may import them; all others use the interface."""
MAX_MODULES = 12
MAX_IMPORTERS = 25


def imports(module):
    """The modules of the package, and the packages from outside, that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in MODULES else node.module)
    return found


IMPORTS = {module: imports(module) for module in MODULES}


def folder(module):
    """The top folder of a module, or the module itself if it is in no folder."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def is_in(module, places):
    """Whether a module is one of these places or in one of these folders."""
    local = module.removeprefix("creemson.")
    return any(local == place or local.startswith(f"{place}.") for place in places)


@pytest.mark.parametrize("module", MODULES)
def test_imports_of_module_go_downwards(module):
    """A module imports its own folder, the folders below it, and the common modules."""
    here = folder(module)
    for imported in IMPORTS[module]:
        if imported not in MODULES or imported == "creemson":
            continue
        there = folder(imported)
        if there == here or (there in COMMON and here != "model") or (there, here) == ("errors", "model"):
            continue
        assert there in ALLOWED.get(here, set()) or (here, imported) in EXCEPTIONS, f"imports {imported}"


@pytest.mark.parametrize(("implementation", "places"), list(BEHIND_INTERFACES.items()))
def test_implementation_is_imported_only_where_it_is_chosen(implementation, places):
    """It can be replaced without a change elsewhere."""
    users = {module for module, names in IMPORTS.items() if implementation in names}
    assert {module for module in users if not is_in(module, places)} == set()


def test_imports_have_no_loop():
    """No module imports itself, not even indirectly."""
    graph = {module: {name for name in names if name in MODULES} for module, names in IMPORTS.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_private_name_is_imported_by_no_other_module():
    """A name with a leading underscore is used in its own module only."""
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "creemson":
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not [name for name in private if not name.startswith("__") and name != "_version"], (
                    module
                )


@pytest.mark.parametrize("module", [module for module in MODULES if is_in(module, ("engine", "formats"))])
def test_plans_of_polars_write_to_open_files_only(module):
    """A plan that has failed may open a path later, and so destroy the output of the next attempt."""
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert not node.func.attr.startswith("sink_"), f"{module}: use sink_to"


def test_folder_has_at_most_twelve_modules():
    """A reader can survey a folder quickly."""
    sizes = Counter(path.parent for path in MODULES.values() if path.name != "__init__.py")
    assert not {str(place): size for place, size in sizes.items() if size > MAX_MODULES}


def test_module_is_imported_by_few_others():
    """A change of a module affects few others; all use the vocabulary of `errors`, `model` and the settings."""
    importers = Counter(imported for names in IMPORTS.values() for imported in names if imported in MODULES)
    many = {name: count for name, count in importers.items() if count > MAX_IMPORTERS}
    assert {name for name in many if folder(name) not in ("errors", "model", "settings")} == set()


def test_wire_messages_are_used_at_the_edges_only():
    """Jobs, engine, formats and storage use the model and no messages."""
    users = {
        module for module, names in IMPORTS.items() if any(name.startswith("creemson.wire") for name in names)
    }
    assert {module for module in users if not is_in(module, WIRE_USERS)} == set()


def test_polars_is_imported_by_engine_formats_and_results_only():
    """Everything else works without it."""
    users = {
        module for module, names in IMPORTS.items() if any(name.split(".")[0] == "polars" for name in names)
    }
    assert {module for module in users if not is_in(module, POLARS_USERS)} == set()


def test_deciders_import_neither_trio_nor_sockets():
    """Modules that decide can be tested without waiting for anything."""
    for module, names in IMPORTS.items():
        if is_in(module, NO_TRIO):
            found = {name.split(".")[0] for name in names}
            assert not found & {"trio", "trio_websocket", "wsproto", "socket", "asyncio"}, module


@pytest.mark.parametrize("place", ["creemson.server", "creemson.jobs", "creemson.executors", "creemson.cli"])
def test_server_loads_neither_polars_nor_engine(place):
    """polars would take 60 MB of each server, and its crash would end the server."""
    modules = [module for module in MODULES if module == place or module.startswith(f"{place}.")]
    code = (
        f"import sys, {', '.join(modules)}\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'polars' "
        "or name.startswith(('creemson.engine', 'creemson.formats'))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


def test_module_of_the_package_has_a_docstring():
    """A reader starts at the docstring."""
    for module, path in MODULES.items():
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), module


def test_server_without_a_cluster_loads_nothing_of_dask():
    """The extra is optional, and its import takes a second."""
    code = (
        "import sys, creemson, creemson.server.server, creemson.cli, creemson.cli.serve, creemson.cli.doctor\n"
        "import creemson.cli.cluster.worker\n"
        "from creemson.settings.sections import Settings\n"
        "from creemson.server.engines import make_engine\n"
        "make_engine(Settings(), None)\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('dask', 'distributed')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"
