"""The containers of the files to deploy, whichever of the formats they are in."""

import re
import shlex

import attrs
import yaml

from tests.docs.conftest import DOCS

DEPLOY = DOCS / "deploy"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "a-key",
    "AWS_SECRET_ACCESS_KEY": "a-secret",
    "POSTGRES_PASSWORD": "a-password",
}
"""The environment of the user of the compose file."""


@attrs.frozen
class Container:
    """A container.

    Attributes:
        words: its command.
        environment: its variables.
        files: texts of mounted files by path; None for files that the tests do not have.
    """

    words: list
    environment: dict
    files: dict


def documents(name):
    """The documents of a file in YAML."""
    return list(yaml.safe_load_all((DEPLOY / name).read_text("utf-8")))


def of_compose(name):
    """The containers of a compose file by the name of the service, with the image's command where they have none."""
    image = re.search(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text("utf-8"), re.MULTILINE)[1]
    return {
        service: Container(
            shlex.split(found["command"]) if "command" in found else yaml.safe_load(image),
            {key: filled(value) for key, value in found.get("environment", {}).items()},
            {},
        )
        for service, found in documents(name)[0]["services"].items()
    }


def filled(value):
    """A value with what the user's environment has in the place of variables that must be set, and the defaults of others."""
    value = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
    return re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: CREDENTIALS[match[1]], value)


def of_kubernetes(*names):
    """The containers of manifests by the name of the Deployment; all must be there that they refer to."""
    found = {(item["kind"], item["metadata"]["name"]): item for name in names for item in documents(name)}
    return {
        name: _of_pod(item["spec"]["template"]["spec"], found)
        for (kind, name), item in found.items()
        if kind == "Deployment"
    }


def _of_pod(pod, found):
    (container,) = pod["containers"]
    environment = {one["name"]: one["value"] for one in container.get("env", ())}
    for source in container.get("envFrom", ()):
        environment |= found["Secret", source["secretRef"]["name"]]["stringData"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    files = {}
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        if "configMap" in volume:
            texts = found["ConfigMap", volume["configMap"]["name"]]["data"]
        elif "secret" in volume:
            texts = found["Secret", volume["secret"]["secretName"]]["stringData"]
        else:
            if claim := volume.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", claim["claimName"]) in found
            continue
        files |= {f"{mount['mountPath']}/{name}": text for name, text in texts.items()}
    return Container(container["command"], environment, files)
