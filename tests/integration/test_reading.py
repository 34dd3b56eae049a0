"""Messy files on the real road: how they are read, what is told of them, and where the rest of it is."""

import csv
import io

from tests.servers import serving

MESSY = (
    "Report of the harbour;;;\n"
    ";;;\n"
    "id;name;weight;day\n"
    + "".join(f"{n:03};ship {n};{n},5;{n % 28 + 1:02}.01.2024\n" for n in range(1, 301))
    + "301;too few\n"
    "302;too many;1,5;01.01.2024;and more\n"
    "303;bad weight;heavy;01.01.2024\n"
).encode("windows-1252")


def upload(client, name="messy.csv", data=MESSY):
    assert client.upload(name, data, overwrite=True)["type"] == "uploaded"


def test_a_messy_file_is_read_and_told(server):
    """What it was, what was mended, and all of that as a file; the types are those of the rows."""
    with server.connect() as client:
        upload(client)
        told = client.ask({"type": "columns", "id": "c", "filename": "messy.csv"})
        assert [column["dtype"] for column in told["columns"]] == ["String", "String", "Float64", "Date"]
        assert (told["reading"]["delimiter"], told["reading"]["skip_rows"]) == (";", 2)
        output = client.run(filename="messy.csv", preview=2)["data"]["output_data"]
        assert output["rows"] == 303
        assert output["preview"][0] == ["001", "ship 1", 1.5, "2024-01-02"]
        assert output["reading"] == told["reading"]
        issues = output["issues"]
        assert (issues["padded_rows"], issues["cut_rows"], issues["unparsable_cells"]) == (1, 1, 1)
        assert [issue["line"] for issue in issues["examples"]] == [304, 305, 306]
        assert (issues["examples"][2]["column"], issues["examples"][2]["value"]) == ("weight", "heavy")
        _, data, _ = client.download(issues["rejects"])
        rejects = list(csv.reader(io.StringIO(data.decode())))
        assert rejects[0] == ["line", "column", "value", "why"]
        assert [row[0] for row in rejects[1:]] == ["304", "305", "306"]
        _, data, _ = client.download(output["final_filename_csv"])
        assert data.decode().splitlines()[1] == "001,ship 1,1.5,02.01.2024"
        again = client.run(filename="messy.csv", preview=2)["data"]["output_data"]
        assert (again["cached"], again["issues"], again["reading"]) == (True, issues, output["reading"])


def test_options_and_strict(server):
    """Options overrule what is found out and make other work of it; strict requests fail, and say where."""
    with server.connect() as client:
        upload(client)
        strict = client.run(filename="messy.csv", strict=True)
        assert (strict["reason"], strict["code"]) == ("unreadable_file", 1003)
        assert any("304" in detail for detail in strict["details"])
        told = {"skip_rows": 0, "header": False, "delimiter": ";"}
        raw = client.run(filename="messy.csv", options=told, limit=1, preview=1)["data"]["output_data"]
        assert raw["columns"][0] == "column_1"
        assert raw["preview"] == [["Report of the harbour", None, None, None]]
        asked = {"type": "rows", "id": "r", "filename": "messy.csv", "offset": 0, "limit": 1}
        assert client.ask(asked)["rows"][0][0] == "001"
        assert client.ask(asked | {"options": told})["rows"][0][0] == "Report of the harbour"
        typed = client.run(filename="messy.csv", options={"types": {"id": "int64"}}, preview=1)
        assert typed["data"]["output_data"]["preview"][0][0] == 1
        wrong = client.run(filename="messy.csv", options={"delimeter": ";"})
        assert wrong["reason"] == "invalid_message"
        assert "Did you mean 'delimiter'?" in wrong["details"][0]
        assert (
            client.run(filename="messy.csv", options={"types": {"ID": "int64"}})["reason"]
            == "invalid_message"
        )


def test_the_classic_request_reads_the_same(server):
    """The oldest clients get a messy file read, too, in one answer."""
    with server.connect() as client:
        upload(client)
        answer = client.ask({"filename": "messy.csv", "selectedColumns": [2, 0]})
        output = answer["data"]["output_data"]
        assert (output["rows"], output["columns"]) == (303, ["weight", "id"])
        assert output["issues"]["padded_rows"] == 1


def test_rejects_go_with_their_output(tmp_path):
    """A restart keeps both; to delete the output removes both; nothing temporary is left."""
    data = tmp_path / "data"
    with serving(data) as server, server.connect() as client:
        upload(client)
        issues = client.run(filename="messy.csv")["data"]["output_data"]["issues"]
    with serving(data) as server, server.connect() as client:
        output = client.run(filename="messy.csv")["data"]["output_data"]
        assert (output["cached"], output["issues"]) == (True, issues)
        assert client.download(issues["rejects"])[1].startswith(b"line,column,value,why")
        assert {path.name for path in (data / "outputs").iterdir()} == {output["filename"], issues["rejects"]}
        assert client.ask({"type": "delete", "id": "d", "filename": output["filename"]})["type"] == "deleted"
        assert list((data / "outputs").iterdir()) == []


def test_distinct_cast_and_rename(server):
    """The transformations by the wire, with the faults of their fields."""
    with server.connect() as client:
        upload(client, "t.csv", b"a,b\n1,x\n1,x\n2,y\n3,y\n")
        output = client.run(
            filename="t.csv", distinct=True, cast={"a": "string"}, rename={"a": "key"}, preview=9
        )["data"]["output_data"]
        assert (output["columns"], output["dtypes"]) == (["key", "b"], ["String", "String"])
        assert output["preview"] == [["1", "x"], ["2", "y"], ["3", "y"]]
        firsts = client.run(filename="t.csv", distinct=["b"], preview=9)["data"]["output_data"]
        assert firsts["preview"] == [[1, "x"], [2, "y"]]
        for field, value, reason in (
            ("distinct", 3, "invalid_message"),
            ("cast", {"a": "integer"}, "invalid_message"),
            ("cast", {"z": "int64"}, "column_not_found"),
            ("rename", {"z": "y"}, "column_not_found"),
            ("rename", {"a": "b"}, "invalid_columns"),
            ("rename", {"a": ""}, "invalid_message"),
        ):
            assert client.run(filename="t.csv", **{field: value})["reason"] == reason, (field, value)
