"""The files in docs/deploy: each is checked by its own program where there is one, and by what it must contain."""

import configparser
import json
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import tomllib
import urllib.request
from contextlib import contextmanager

import jsonschema
import pytest
import trustme
import yaml
from websockets.sync.client import connect

from creemson.settings.checks import problems
from creemson.settings.load import load
from tests.docs import schemas
from tests.docs.conftest import DOCS, ROOT
from tests.objectstores import free_port
from tests.servers import SAMPLE, serving, wait_until

DEPLOY = DOCS / "deploy"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
CADDY = shutil.which("caddy")
INSTRUCTIONS = {
    "FROM",
    "RUN",
    "COPY",
    "USER",
    "VOLUME",
    "EXPOSE",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "CMD",
    "ENV",
    "WORKDIR",
    "ARG",
}


def text_of(name):
    return (DEPLOY / name).read_text("utf-8")


def instructions():
    """The instructions of the Dockerfile, with their continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", text_of("Dockerfile"))
    return [line.split(maxsplit=1) for line in joined.splitlines() if line and not line.startswith("#")]


def test_dockerfile_has_known_instructions_and_copies_what_exists():
    """Its user, port, folder and signal are those of its command and of the compose file."""
    found = instructions()
    assert {name for name, _ in found} <= INSTRUCTIONS
    last = dict(found)
    command = json.loads(last["CMD"])
    assert command[:2] == ["creemson", "serve"]
    assert last["VOLUME"] == command[command.index("--data-dir") + 1] == "/data"
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert f"chown {last['USER']}" in last["RUN"] or any(f"-o {last['USER']}" in text for _, text in found)


def test_command_of_the_container_starts_with_the_environment_of_compose(tmp_path):
    """The server starts, and the health check of the Dockerfile passes."""
    environment = yaml.safe_load(text_of("compose.yaml"))["services"]["creemson"]["environment"]
    environment = {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in environment.items()}
    command = json.loads(dict(instructions())["CMD"])
    flags = {"server.host": command[command.index("--host") + 1]}
    options = [part for name, value in flags.items() for part in ("--set", f"{name}={value}")]
    for name, value in environment.items():
        section, _, key = name.removeprefix("CREEMSON_").partition("__")
        options += ["--set", f"{section.lower()}.{key.lower()}={value}"]
    with serving(tmp_path / "data", *options) as server:
        check = re.search(r"CMD (\[.*\])", dict(instructions())["HEALTHCHECK"])[1].replace(
            "8000", str(server.port)
        )
        subprocess.run([sys.executable, *json.loads(check)[1:]], check=True, timeout=60)


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cluster.yaml", "compose.servers.yaml"])
def test_compose_file_fits_the_schema(name):
    """It is YAML with known keys; its build context has the Dockerfile; its volumes exist, except what users make."""
    compose = yaml.safe_load(text_of(name))
    jsonschema.validate(compose, schemas.COMPOSE)
    arguments = {words.partition("=")[0] for instruction, words in instructions() if instruction == "ARG"}
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    for service in compose["services"].values():
        if build := service.get("build"):
            context = (DEPLOY / build["context"]).resolve()
            assert context == ROOT
            assert (context / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")
            assert set(build.get("args", ())) <= arguments
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            is_made_by_user = f"/docs/deploy/{source.removeprefix('./')}/" in ignored
            assert source in compose["volumes"] or (DEPLOY / source).exists() or is_made_by_user
        for other in service.get("depends_on", ()):
            assert other in compose["services"]


def test_image_has_no_files_but_those_of_the_package():
    """Certificates and credentials in the folder must not be in a layer; a wheel needs what `pyproject.toml` names."""
    lines = text_of("Dockerfile.dockerignore").splitlines()
    ignored, *kept = [line for line in lines if not line.startswith("#")]
    assert ignored == "*"
    assert set(kept) == {"!creemson", "!pyproject.toml", "!README.md", "!LICENSE"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    needed = {
        project["project"]["readme"],
        *project["project"]["license-files"],
        *project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"],
    }
    assert {f"!{name}" for name in needed} <= set(kept)


def test_prometheus_file_fits_the_schema():
    """It is YAML with known keys."""
    jsonschema.validate(yaml.safe_load(text_of("prometheus.yaml")), schemas.PROMETHEUS)


@pytest.mark.parametrize(
    ("name", "instance"),
    [("creemson.service", "creemson.service"), ("creemson@.service", "creemson@1.service")],
)
def test_systemd_unit_is_accepted(tmp_path, name, instance):
    """`systemd-analyze verify` finds no fault, with a program that exists here."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    unit = tmp_path / instance
    unit.write_text(text_of(name).replace("/opt/creemson/bin/creemson", sys.executable))
    done = subprocess.run([program, "verify", "--man=no", unit], capture_output=True, text=True, timeout=60)
    faults = [line for line in done.stderr.splitlines() if "creemson" in line]
    assert faults == []


@pytest.mark.parametrize("name", ["creemson.service", "creemson@.service"])
def test_systemd_unit_waits_for_what_the_server_needs(name):
    """Without its database, a server ends after half a second; by default, systemd gives up after five such starts."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string(text_of(name))
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert unit["Service"]["Restart"] == "on-failure"
    assert int(unit["Service"]["RestartSec"]) >= 1
    assert unit["Service"]["RestartPreventExitStatus"] == "2"  # click's status for wrong settings


@pytest.mark.parametrize(
    ("name", "settings", "folder"),
    [
        ("creemson.service", "creemson.toml", "/var/lib/creemson"),
        ("creemson@.service", "servers.toml", "/var/lib/creemson/1"),
    ],
)
def test_command_and_settings_of_the_unit_are_accepted(name, settings, folder):
    """They are those of a server that may start, with the folder that systemd makes."""
    unit = text_of(name).replace("%i", "1")
    command = shlex.split(re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)[1])
    assert command[1:] == ["serve", "--config", f"/etc/creemson/{settings}"]
    variable, value = re.search(r"^Environment=(\w+)=(.*)$", unit, re.MULTILINE).groups()
    assert f"/var/lib/{re.search(r'^StateDirectory=(.*)$', unit, re.MULTILINE)[1]}" == folder
    loaded = load(config=DEPLOY / settings, environ={variable: value}, overrides=()).settings
    assert problems(loaded) == []
    assert str(loaded.storage.data_dir) == folder
    assert loaded.server.allowed_origins == ("https://tables.example.org",)
    assert loaded.is_shared == loaded.server.reuse_port == ("@" in name)


@contextmanager
def running_nginx(folder, name, port, *replaced):
    """Run nginx with a file, on a port, with other addresses in place of those in the file; yields a TLS context."""
    if NGINX is None:
        pytest.skip("nginx is missing: apt-get install nginx-light")
    authority = trustme.CA()
    certificate = authority.issue_cert("tables.example.org", "localhost")
    certificate.cert_chain_pems[0].write_to_path(folder / "chain.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    site = text_of(name)
    for theirs, ours in (
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/etc/nginx/", f"{folder}/"),
        *replaced,
    ):
        assert theirs in site
        site = site.replace(theirs, ours)
    (folder / "site.conf").write_text(site)
    folders = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "main.conf"
    main.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {folders} include {folder}/site.conf; }}\n"
    )
    command = [NGINX, "-c", str(main), "-p", str(folder), "-e", "stderr"]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=60)
    assert tested.returncode == 0, tested.stderr
    with (folder / "nginx.log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            wait_until(lambda: is_listening(port) or process.poll() is not None)
            assert process.poll() is None, (folder / "nginx.log").read_text()
            context = ssl.create_default_context()
            authority.configure_trust(context)
            yield context
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def nginx(tmp_path):
    """Start nginx with the file, on a free port, in front of a server."""
    port = free_port()
    origins = f'server.allowed_origins=["https://localhost:{port}","https://localhost"]'
    options = ("--config", str(DEPLOY / "creemson.toml"), "--set", "auth.mode=none", "--set", origins)
    with serving(tmp_path / "data", *options) as server:
        replaced = ("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        with running_nginx(tmp_path, "nginx.conf", port, replaced) as context:
            yield port, context


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def upload_and_process(port, context, name):
    """Send a page's handshake, an upload and a job through a proxy."""
    data = SAMPLE.read_bytes()
    with connect(f"wss://localhost:{port}/ws", ssl=context, origin=f"https://localhost:{port}") as peer:
        upload = {"type": "upload", "id": "u", "filename": name, "size": len(data)}
        peer.send(json.dumps(upload))
        assert json.loads(peer.recv(30))["type"] == "upload_ready"
        peer.send(data)
        while (message := json.loads(peer.recv(30)))["type"] != "uploaded":
            assert message["type"] == "upload_progress"
        peer.send(json.dumps({"filename": name, "selectedColumns": [0]}))
        assert json.loads(peer.recv(60))["data"]["output_data"]["rows"] == 344


def test_nginx_file_is_accepted_and_forwards_messages_and_bytes(nginx):
    """`nginx -t` accepts it; through it, a page's handshake, an upload and a job work with TLS."""
    upload_and_process(*nginx, "nginx.csv")


def has_certificate(port, root):
    """Whether Caddy has made its authority, and then a certificate for localhost, in the first moments."""
    if not (root.exists() and is_listening(port)):
        return False
    context = ssl.create_default_context(cafile=root)
    try:
        with socket.create_connection(("127.0.0.1", port)) as probe:
            context.wrap_socket(probe, server_hostname="localhost").close()
    except ssl.SSLError:
        return False
    return True


@contextmanager
def running_caddy(folder, name, port, **environment):
    """Run Caddy with a file as it is, for localhost, on a port; yields a TLS context."""
    if CADDY is None:
        pytest.skip("caddy is missing: apt-get install caddy")
    main = folder / "Caddyfile"
    # For a local name, Caddy is its own authority. It must neither change what this machine trusts, nor use port 80.
    main.write_text(
        f"{{\n\tadmin off\n\thttps_port {port}\n\tauto_https disable_redirects\n\tskip_install_trust\n}}\n"
        f"import {DEPLOY / name}\n"
    )
    local = {"DOMAIN": "localhost", "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    command = [CADDY, "run", "--adapter", "caddyfile", "--config", str(main)]
    with (
        (folder / "caddy.log").open("wb") as log,
        subprocess.Popen(command, stderr=log, env=os.environ | local | environment) as process,
    ):
        root = folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        try:
            wait_until(lambda: has_certificate(port, root) or process.poll() is not None)
            assert process.poll() is None, (folder / "caddy.log").read_text()
            yield ssl.create_default_context(cafile=root)
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def caddy(tmp_path):
    """Start Caddy with the file as it is, for localhost on a free port, in front of a server."""
    port = free_port()
    options = ("--config", str(DEPLOY / "creemson.toml"), "--set", "auth.mode=none")
    with serving(tmp_path / "data", *options) as server:
        upstream = f"127.0.0.1:{server.port}"
        with running_caddy(tmp_path, "Caddyfile", port, UPSTREAM=upstream) as context:
            yield port, context


def test_caddy_file_forwards_messages_and_bytes(caddy):
    """Through it, a page's handshake, an upload and a job work with TLS, without any other setting."""
    upload_and_process(*caddy, "caddy.csv")


@pytest.mark.parametrize("name", ["Caddyfile", "Caddyfile.servers"])
def test_caddy_file_is_accepted_as_it_is(name):
    """`caddy validate`, with the names in the file."""
    if CADDY is None:
        pytest.skip("caddy is missing: apt-get install caddy")
    command = [CADDY, "validate", "--adapter", "caddyfile", "--config", DEPLOY / name]
    subprocess.run(command, check=True, timeout=60)


def test_dashboard_uses_only_metrics_and_labels_that_exist(server):
    """Each name in its expressions is in `/metrics`; each label is one of that metric's family."""
    dashboard = json.loads(text_of("grafana-dashboard.json"))
    for panel in dashboard["panels"]:
        jsonschema.validate(panel, schemas.PANEL)
    with server.connect() as client:
        assert client.run(filename="example.csv")["type"] == "result"
    with urllib.request.urlopen(f"{server.base}/metrics", timeout=30) as response:
        text = response.read().decode()
    known = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    known |= {f"{name}_{suffix}" for name in known for suffix in ("bucket", "sum", "count")}
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = {name for expression in expressions for name in re.findall(r"creemson_\w+", expression)}
    assert used <= known
    documented = set(re.findall(r"creemson_[a-z_]+", (DOCS / "operations.md").read_text("utf-8")))
    assert {name for name in documented if name in known} <= {re.sub("_bucket$", "", name) for name in used}
    positions = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(positions)) == len(positions)
