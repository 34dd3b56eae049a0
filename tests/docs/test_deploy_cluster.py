"""The files to deploy a cluster: their form, and that each command, variable, setting and name in them exists."""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from creemson.executors.dask.tls import TlsFiles, create_certificates
from creemson.settings.checks import problems
from creemson.settings.load import load
from creemson.storage.objects.probe import ENVIRONMENT
from tests.docs.command_lines import parse
from tests.docs.containers import DEPLOY, documents, of_compose, of_kubernetes
from tests.executors.dask.clusters import drain, end, read_until
from tests.objectstores import free_port
from tests.servers import PATIENCE, SAMPLE, serving, wait_until

MANIFESTS = ("kubernetes.yaml", "kubernetes-secrets.yaml")
VERSIONS = ("1.30", "1.37")
"""Of Kubernetes."""
COMPOSE = of_compose("compose.cluster.yaml")
KUBERNETES = of_kubernetes(*MANIFESTS)
CONTAINERS = {
    **{f"compose {name}": found for name, found in COMPOSE.items()},
    **{f"kubernetes {name}": found for name, found in KUBERNETES.items()},
}
OURS = [name for name, found in CONTAINERS.items() if found.words[0] == "creemson"]
MAX_TTL = 15
"""Seconds until a frozen worker is noticed above which our server warns."""
TLS_FLAGS = {"--tls-ca-file": "ca.pem", "--tls-cert": "cert.pem", "--tls-key": "key.pem"}


def manifests(kind):
    return {item["metadata"]["name"]: item for item in documents("kubernetes.yaml") if item["kind"] == kind}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_fit_the_schemas_of_kubernetes(name, version):
    """Unknown keys are refused, too."""
    for item in documents(name):
        kubernetes_validate.validate(item, version, strict=True)


def test_services_lead_to_ports_of_deployments():
    """Each selects the pods of one Deployment, and names a port of its container."""
    deployments = manifests("Deployment")
    for service in manifests("Service").values():
        (found,) = (
            item["spec"]["template"]
            for item in deployments.values()
            if service["spec"]["selector"].items() <= item["spec"]["template"]["metadata"]["labels"].items()
        )
        ports = {one["name"]: one["containerPort"] for one in found["spec"]["containers"][0]["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    for item in deployments.values():
        assert item["spec"]["selector"]["matchLabels"] == item["spec"]["template"]["metadata"]["labels"]


def test_pods_run_as_the_user_of_the_image_without_variables_of_services():
    """The user of the Dockerfile; CREEMSON_… variables of Kubernetes could be taken for settings."""
    user = int(re.search(r"--uid (\d+)", (DEPLOY / "Dockerfile").read_text("utf-8"))[1])
    for item in manifests("Deployment").values():
        pod = item["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == user
        assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize("name", CONTAINERS)
def test_command_of_the_container_is_accepted(name):
    """By our own command line, Dask's, or by what SeaweedFS lists as its options."""
    words = CONTAINERS[name].words
    if words[:2] != ["server", "-s3"]:
        parse(words)
        return
    known = subprocess.run([weed(), "help", "server"], capture_output=True, text=True, timeout=60)
    known = set(re.findall(r"^  (-[\w.]+)", known.stdout + known.stderr, re.MULTILINE))
    assert {word.partition("=")[0] for word in words[1:]} <= known


@pytest.mark.parametrize("name", OURS)
def test_settings_of_the_container_exist_and_fit(name, tmp_path):
    """From its environment, its file of settings and its command line, as the program loads them."""
    settings = settings_of(CONTAINERS[name], tmp_path)
    assert problems(settings) == []
    processing = settings.processing
    assert processing.dask_scheduler.startswith("tls://")
    files = TlsFiles.in_folder(Path("/tls"))
    assert (processing.dask_ca, processing.dask_cert, processing.dask_key) == (
        files.ca,
        files.cert,
        files.key,
    )
    if CONTAINERS[name].words[1] == "serve":
        assert processing.engine == "dask"
        assert settings.storage.url.startswith("s3://")
        assert settings.auth.mode == "token"
        assert str(settings.storage.data_dir) == "/data"


def settings_of(container, folder):
    """The settings of a container of ours."""
    options = parse(container.words)
    config = options["config"]
    if config is not None:
        (folder / "creemson.toml").write_text(container.files[str(config)])
        config = folder / "creemson.toml"
    flags = {"server.host": options.get("host"), "storage.data_dir": options.get("data_dir")}
    if container.words[1] == "worker":
        flags = {"processing.workers": options["workers"]}
    flags = {key: value for key, value in flags.items() if value is not None}
    return load(
        config=config, environ=container.environment, overrides=options["overrides"], flags=flags
    ).settings


@pytest.mark.parametrize("name", CONTAINERS)
def test_variables_of_the_container_are_read(name):
    """Ours are settings; others are those of S3 that our errors name, or settings of Dask."""
    defaults = Path(find_spec("distributed").origin).with_name("distributed.yaml").read_text("utf-8")
    for variable, value in CONTAINERS[name].environment.items():
        if variable.startswith("DASK_"):
            found = yaml.safe_load(defaults)
            for part in variable.removeprefix("DASK_").lower().split("__"):
                found = found[part.replace("_", "-")]
            assert float(value.removesuffix("s")) <= MAX_TTL
        elif not variable.startswith("CREEMSON_"):
            assert variable in re.findall(r"AWS_\w+", ENVIRONMENT)


def test_addresses_are_those_of_services(tmp_path):
    """The scheduler, its port, and the object store; server and workers have the same."""
    for containers, services in ((COMPOSE, COMPOSE), (KUBERNETES, manifests("Service"))):
        (scheduler,) = (found.words for found in containers.values() if found.words[0] == "dask")
        port = scheduler[scheduler.index("--port") + 1]
        assert [scheduler[scheduler.index(flag) + 1] for flag in TLS_FLAGS] == [
            f"/tls/{name}" for name in TLS_FLAGS.values()
        ]
        ours = [found for found in containers.values() if found.words[0] == "creemson"]
        addresses = {settings_of(found, tmp_path).processing.dask_scheduler for found in ours}
        (host,) = {re.fullmatch(rf"tls://(.*):{port}", address)[1] for address in addresses}
        assert host in services
        stores = [
            {key: value for key, value in found.environment.items() if key.startswith("AWS_")}
            for found in ours
        ]
        assert len(stores) == 2
        assert stores[0] == stores[1]
    assert re.fullmatch(r"http://(.*):8333", stores_of(COMPOSE))[1] in COMPOSE


def stores_of(containers):
    """The address of the object store."""
    (found,) = {
        one.environment["AWS_ENDPOINT_URL"]
        for one in containers.values()
        if "AWS_ENDPOINT_URL" in one.environment
    }
    return found


def test_secrets_have_the_files_that_creemson_makes(tmp_path):
    """The example has the names of the files, which are mounted where the settings look for them."""
    made = create_certificates(tmp_path / "tls")
    names = {path.name for path in (made.ca, made.cert, made.key)}
    (tls,) = (
        item for item in documents("kubernetes-secrets.yaml") if item["metadata"]["name"] == "creemson-tls"
    )
    assert set(tls["stringData"]) == names
    for container in KUBERNETES.values():
        assert {f"/tls/{name}" for name in names} <= set(container.files)


@pytest.mark.slow
def test_commands_of_the_compose_file_make_a_cluster_that_runs_jobs(tmp_path):
    """All its commands, environments and health checks, with ports and folders of this machine in place of containers."""
    services = documents("compose.cluster.yaml")[0]["services"]
    create_certificates(tmp_path / "tls")
    ports = {name: free_port() for name in ("scheduler", "health", "store")}
    here = {
        "/tls/": f"{tmp_path}/tls/",
        "scheduler:8786": f"127.0.0.1:{ports['scheduler']}",
        "127.0.0.1:8787": f"127.0.0.1:{ports['health']}",
        "8786": str(ports["scheduler"]),
        "store:8333": f"127.0.0.1:{ports['store']}",
        "127.0.0.1:8333": f"127.0.0.1:{ports['store']}",
        "-ip=store": "-ip=127.0.0.1",
        "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
    }

    def local(text):
        for theirs, ours in here.items():
            if theirs in text:
                return text.replace(theirs, ours)
        return text

    def command(name):
        return [local(word) for word in COMPOSE[name].words]

    def environment(name):
        return {key: local(value) for key, value in COMPOSE[name].environment.items()}

    def is_healthy(name):
        words = [local(word) for word in services[name]["healthcheck"]["test"][1:]]
        program = sys.executable if words[0] == "python" else shutil.which(words[0])
        if program is None:  # no wget
            return is_open(words[-1])
        return subprocess.run([program, *words[1:]], capture_output=True, timeout=60).returncode == 0

    (tmp_path / "objects").mkdir()
    more = [
        f"-dir={tmp_path}/objects", f"-s3.port={ports['store']}", f"-master.port={free_port()}",
        f"-volume.port={free_port()}", f"-filer.port={free_port()}", "-volume.max=20", "-master.volumeSizeLimitMB=64",
    ]  # fmt: skip
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", *command("scheduler")[2:]]
    worker = [sys.executable, "-m", "creemson", *command("worker")[1:]]
    with (
        running([weed(), *command("store"), *more], environment("store")),
        running([*scheduler, "--host", "127.0.0.1"], environment("scheduler")),
    ):
        wait_until(lambda: is_healthy("store") and is_healthy("scheduler"))
        with (
            running(worker, environment("worker"), until="connected"),
            running(worker, environment("worker"), until="connected"),
        ):
            options = ("--set", "auth.mode=none", "--set", "processing.dask_least_bytes=0")
            with serving(tmp_path / "data", *options, env=environment("creemson")) as server:
                data = SAMPLE.read_bytes()
                with server.connect() as client:
                    assert client.upload("cluster.csv", data)["type"] == "uploaded"
                    result = client.run(filename="cluster.csv", selectedColumns=["island"])
                    assert result["type"] == "result", result
                    assert result["data"]["output_data"]["rows"] == 344
                with urllib.request.urlopen(f"{server.base}/status", timeout=PATIENCE) as response:
                    status = yaml.safe_load(response.read())
                assert status["cluster"]["workers"] == 2
                assert not list((tmp_path / "data" / "uploads").glob("*.csv"))


def weed():
    """SeaweedFS, from its package."""
    return shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def is_open(url):
    """Whether an address answers."""
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except OSError:
        return False


@contextmanager
def running(command, environment, until=None):
    """Run a program with an environment, and wait for a text in its standard output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CREEMSON_"))}
    process = subprocess.Popen(
        command, env=kept | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
    )  # fmt: skip
    try:
        if until is not None:
            read_until(process, process.stdout, until)
        drain(process.stdout)
        yield
    finally:
        end(process)
