"""The package that ``npm pack`` makes: creemson.js in node, and its types in TypeScript."""

import json
import re
import subprocess
import sys

import attrs
import pytest

from creemson import __version__
from creemson.model import query, results
from creemson.wire import messages
from tests import node
from tests.servers import SAMPLE, serving

TYPES = (node.PAGE / "creemson.d.ts").read_text("utf-8")
INTERFACE = re.compile(r"^export interface (\w+) \{\n(.*?)^\}", re.DOTALL | re.MULTILINE)
FIELD = re.compile(r"^  (?:readonly )?(\w+)\??:", re.MULTILINE)
INTERFACES = {name: set(FIELD.findall(body)) for name, body in INTERFACE.findall(TYPES)}
ENVELOPE = {"id", "type"}
SECRET = "a key of at least thirty-two bytes, for HS256"

SCRIPT = """
import { connect, CreemsonError, type Query, type ResultData, type Window } from "creemson";

const client = connect(process.argv[2]!, { name: "typescript" });
client.addEventListener("state", ({ detail }) => detail.retryIn?.toFixed());
const query: Query = {
  filename: "typescript.csv",
  where: [["n", ">=", 9007199254740993n], ["name", "in", ["a", "b"]], ["name", "not_null"]],
  group_by: ["name"],
  aggregate: [["n", "max", "largest"]],
  sort: [["largest", "desc"]],
  preview: 5,
};
// @ts-expect-error: there is no such operator
const wrong: Query = { filename: "a.csv", where: [["n", "=", 1]] };
// @ts-expect-error: there is no such field
const misspelt: Query = { filename: "a.csv", selectedColums: [0] };
// @ts-expect-error: a Blob has no name
const nameless = () => client.upload(new Blob([]), {});
void [wrong, misspelt, nameless];

const table = "n,name\\n9007199254740993,a\\n9007199254740992,a\\n9223372036854775807,b\\n";
const { columns } = await client.upload(new Blob([table]), { name: "typescript.csv", overwrite: true }).promise;
const data: ResultData = await client.process(query, { onProgress: ({ fraction }) => fraction.toFixed() }).promise;
const window: Window = await client.rows("typescript.csv", 0, 1);
const blob: Blob = await client.download(data.output_data.final_filename_csv).promise;
let reason = "";
try {
  await client.columns("missing.csv");
} catch (error) {
  if (error instanceof CreemsonError) reason = error.reason;
}
const told = [columns.map(({ dtype }) => dtype), data.output_data.preview, window.rows, await blob.text(), reason];
console.log(JSON.stringify(told, (_, value) => (typeof value === "bigint" ? `${value}n` : value)));
client.close();
"""


def script(project, name, body):
    """Write a module that imports the package."""
    path = project / name
    path.write_text(f'import {{ connect, CreemsonError }} from "creemson";\n{body}', "utf-8")
    return path


def run(project, name, body, *arguments):
    """Run the module, and return the JSON that it prints."""
    return json.loads(node.run([node.node(), script(project, name, body), *arguments], project))


@pytest.mark.parametrize(
    ("interface", "kinds"),
    [
        ("Query", [messages.Process]),
        ("Options", [query.Options]),
        ("Column", [results.Column]),
        ("Reading", [results.Reading]),
        ("Issue", [results.Issue]),
        ("Issues", [results.Issues]),
        ("Histogram", [results.Histogram]),
        ("ColumnProfile", [results.ColumnProfile]),
        ("OutputData", [results.OutputData]),
        ("ResultData", [results.ResultData]),
        ("Described", [results.Described]),
        ("FileInfo", [results.FileInfo]),
        ("JobInfo", [results.JobInfo]),
        ("Progress", [messages.Progress]),
        ("Log", [messages.Log]),
        ("Uploaded", [messages.Uploaded]),
        ("Welcome", [messages.Welcome]),
    ],
)
def test_interface_has_the_fields_of_the_message(interface, kinds):
    """A field that the wire has and the types do not, or the other way round, fails."""
    fields = {field.name for kind in kinds for field in attrs.fields(kind)}
    assert INTERFACES[interface] - ENVELOPE == fields - ENVELOPE


def test_package_has_the_version_of_the_server():
    """The server and its client are released together."""
    assert json.loads((node.PAGE / "package.json").read_text())["version"] == __version__


def test_types_name_every_public_member(project):
    """What the module exports, and the members of its classes, are those of the types."""
    members = """
const module = await import("creemson");
const of = (kind) => Object.getOwnPropertyNames(kind.prototype).filter((name) => name !== "constructor");
console.log(JSON.stringify([Object.keys(module).sort(), of(module.Client).sort()]));
"""
    exports, client = run(project, "members.mjs", members)
    assert exports == sorted(re.findall(r"^export (?:class|function) (\w+)", TYPES, re.MULTILINE))
    body = re.search(r"^export class Client .*?^\}", TYPES, re.DOTALL | re.MULTILINE)[0]
    typed = set(re.findall(r"^  (?:readonly )?(\w+)[(:]", body, re.MULTILINE)) - {
        "constructor",
        "addEventListener",
    }
    assert sorted(typed) == client


def test_typescript_program_compiles_and_runs(project, server):
    """Strict TypeScript accepts right programs and refuses wrong ones; the program runs in node, with exact integers."""
    (project / "program.ts").write_text(SCRIPT, "utf-8")
    # Without the types of node: `process` and `console` are declared by the test.
    (project / "node.d.ts").write_text("declare const process: { argv: string[] };\n")
    options = ("--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--target", "es2022")
    modules = ("--module", "nodenext", "--moduleResolution", "nodenext", "--lib", "es2023,dom")
    node.tsc(project, *options, *modules, "program.ts", "node.d.ts")
    kinds, preview, rows, text, reason = json.loads(
        node.run([node.node(), "program.js", server.base], project)
    )
    assert kinds == ["Int64", "String"]
    assert preview == [["b", "9223372036854775807n"], ["a", "9007199254740993n"]]
    assert rows == [["9007199254740993n", "a"]]
    assert text == "name,largest\nb,9223372036854775807\na,9007199254740993\n"
    assert reason == "file_not_found"


def test_request_that_json_cannot_carry_rejects_alone(project, server):
    """Half an emoji, NaN, a circle: the promise rejects at once, before and after the connection opens."""
    faults = """
const client = connect(process.argv[2]);
const circle = {};
circle.self = circle;
const attempts = () => Promise.allSettled([
  client.rows("example.csv", 0, 1, { where: [["species", "==", "\\ud83d"]] }),
  client.process({ filename: "example.csv", where: [["year", "==", NaN]] }).promise,
  client.process({ filename: "example.csv", options: circle }).promise,
  client.columns("\\ude00.csv"),
  client.download("\\ude00.csv").promise,
  client.rows("example.csv", 0, 1, { find: "\\\\ud83d \\ud83d\\ude00" }),
]);
const before = await attempts();
await client.columns("example.csv");
const after = await attempts();
console.log(JSON.stringify([before, after].map((all) =>
  all.map(({ reason, value }) => (reason ? [reason.reason, reason.message] : value.rows.length)))));
client.close();
"""
    before, after = run(project, "faults.mjs", faults, server.url)
    assert before == after
    assert [answer[0] for answer in after[:5]] == ["invalid_message"] * 5
    assert '"where"' in after[0][1]
    assert "NaN" in after[1][1]
    assert after[5] == 0  # the text is sound, and in no row


def test_address_without_page_is_completed_or_refused(project, server):
    """http becomes ws, a folder is completed; without an address, the error says what to give."""
    addresses = """
let message = "";
try { connect(); } catch (error) { message = error.message; }
const client = connect(process.argv[2]);
const names = (await client.files()).map(({ filename }) => filename);
client.close();
console.log(JSON.stringify([message, names]));
"""
    message, names = run(project, "addresses.mjs", addresses, server.base)
    assert "ws://127.0.0.1:8000/ws" in message
    assert "example.csv" in names


@pytest.mark.parametrize("address", ["foo", "", "localhost:8000", "ftp://127.0.0.1/", "//"])
def test_address_that_is_none_is_named(project, address):
    """A host without a scheme, too; the error has an example."""
    refused = """
let message = "";
try { connect(process.argv[2]); } catch (error) { message = `${error.name}: ${error.message}`; }
console.log(JSON.stringify(message));
"""
    assert run(project, "refused.mjs", refused, address) == (
        f'TypeError: "{address}" is no address of a server. It looks like "ws://127.0.0.1:8000/ws".'
    )


def test_upload_of_what_is_no_file_is_refused_in_words(project, server):
    """A path, or the file of an input in which none is selected."""
    refused = """
const client = connect(process.argv[2]);
const messages = ["a.csv", undefined].map((file) => {
  try { client.upload(file); } catch (error) { return `${error.name}: ${error.message}`; }
});
client.close();
console.log(JSON.stringify(messages));
"""
    path, nothing = run(project, "no_file.mjs", refused, server.url)
    assert path.startswith("TypeError: upload() takes a File or a Blob")
    assert path.endswith("got a.csv.")
    assert nothing.endswith("got undefined.")


def test_next_address_is_tried_if_one_is_unreachable(project, server):
    """The first address refuses connections; the second is used, and stays in use."""
    several = """
Math.random = () => 0;
const client = connect(["ws://127.0.0.1:1/ws", process.argv[2]]);
console.log(JSON.stringify((await client.files()).length > 0));
client.close();
"""
    assert run(project, "several.mjs", several, server.url) is True


def test_tokens_are_renewed_before_they_end(project, tmp_path):
    """Tokens of some seconds, from a function: the connection stays open beyond them."""
    settings = ("auth.mode=jwt", f"auth.jwt_key={json.dumps(SECRET)}", 'auth.jwt_algorithms=["HS256"]',
                "auth.jwt_audience=tables", "auth.jwt_leeway=0")  # fmt: skip
    renewal = """
import { createHmac } from "node:crypto";
const [, , url, secret] = process.argv;
const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
let given = 0;
const token = async () => {
  given += 1;
  const exp = Math.floor(Date.now() / 1000) + 3;
  const body = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: "ann", aud: "tables", exp })}`;
  return `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
};
const client = connect(url, { token });
const states = [];
client.addEventListener("state", ({ detail }) => states.push(detail.state));
await client.files();
while (given < 3) await new Promise((resolve) => setTimeout(resolve, 20));
await client.files();
console.log(JSON.stringify([states, given]));
client.close();
"""
    options = [part for setting in settings for part in ("--set", setting)]
    with serving(tmp_path / "data", *options) as own:
        states, given = run(project, "renewal.mjs", renewal, own.url, SECRET)
    assert states == ["open"]
    assert given == 3


def test_expired_token_is_replaced_after_the_connection_was_closed(project, tmp_path):
    """An opaque token is revoked: the function is asked again, and the client goes on."""
    revoked = """
import { readFile } from "node:fs/promises";
Math.random = () => 0;
const [, , url, file] = process.argv;
const client = connect(url, { token: async () => (await readFile(file, "utf8")).trim() });
await client.files();
const closed = new Promise((resolve) => client.addEventListener("state", ({ detail }) => detail.state === "waiting" && resolve()));
console.error("open");
await closed;
console.log(JSON.stringify((await client.files()).length));
client.close();
"""

    def tokens(*arguments):
        command = [
            sys.executable,
            "-m",
            "creemson",
            "token",
            *arguments,
            "--data-dir",
            str(tmp_path / "data"),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    (tmp_path / "data").mkdir()
    current = tmp_path / "token"
    current.write_text(tokens("create", "ann"))
    other = tokens("create", "bob")
    with serving(tmp_path / "data", "--set", "auth.mode=token") as own:
        process = subprocess.Popen(
            [node.node(), script(project, "revoked.mjs", revoked), own.url, current],
            cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stderr.readline() == "open\n"
            current.write_text(other)
            tokens("revoke", "ann")
            printed, errors = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        assert printed == "0\n", errors


def test_callback_that_throws_does_not_end_the_client(project, server):
    """Node has no `reportError`: the error is printed, and the job goes on."""
    throwing = """
console.error = () => {};
const client = connect(process.argv[2]);
const onAccepted = () => { throw new Error("mine"); };
const { output_data } = await client.process({ filename: "example.csv", limit: 3 }, { onAccepted }).promise;
console.log(JSON.stringify(output_data.rows));
client.close();
"""
    assert run(project, "throwing.mjs", throwing, server.url) == 3


def test_upload_and_download_in_node_keep_every_byte(project, server):
    """A file from the disk, several frames long, comes back as it was; progress is told."""
    round_trip = """
import { openAsBlob } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
const client = connect(process.argv[2]);
const steps = [];
const upload = client.upload(await openAsBlob(process.argv[3]), {
  name: "node-round-trip.csv", overwrite: true, onProgress: ({ offset }) => steps.push(offset),
});
const { size } = await upload.promise;
await writeFile("back.csv", (await client.download("node-round-trip.csv").promise).stream());
const same = (await readFile("back.csv")).equals(await readFile(process.argv[3]));
await client.remove("node-round-trip.csv");
console.log(JSON.stringify([same, steps.at(-1) === size, steps.length > 2]));
client.close();
"""
    large = project / "large.csv"
    large.write_bytes(SAMPLE.read_bytes() * 400)
    assert run(project, "round_trip.mjs", round_trip, server.url, large) == [True, True, True]
