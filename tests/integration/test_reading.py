"""Messy files end to end: how they are read, what is reported, and where the rejects are."""

import csv
import io

import httpx
import pytest

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


def upload(client, name="harbour.csv", data=MESSY):
    assert client.upload(name, data, overwrite=True)["type"] == "uploaded"


def test_messy_file_is_read_and_reported(server):
    """The dialect, the repairs, and the rejects file; column types are those of the rows."""
    with server.connect() as client:
        upload(client)
        described = client.ask({"type": "columns", "id": "c", "filename": "harbour.csv"})
        assert [column["dtype"] for column in described["columns"]] == ["String", "String", "Float64", "Date"]
        assert (described["reading"]["delimiter"], described["reading"]["skip_rows"]) == (";", 2)
        output = client.run(filename="harbour.csv", preview=2)["data"]["output_data"]
        assert output["rows"] == 303
        assert output["preview"][0] == ["001", "ship 1", 1.5, "2024-01-02"]
        assert output["reading"] == described["reading"]
        issues = output["issues"]
        assert (issues["padded_rows"], issues["cut_rows"], issues["unparsable_cells"]) == (1, 1, 1)
        assert [issue["line"] for issue in issues["examples"]] == [304, 305, 306]
        assert (issues["examples"][2]["column"], issues["examples"][2]["value"]) == ("weight", "heavy")
        _, data, _ = client.download(issues["rejects"])
        rejects = list(csv.reader(io.StringIO(data.decode())))
        assert rejects[0] == ["line", "column", "value", "why"]
        assert [row[0] for row in rejects[1:]] == ["304", "305", "306"]
        _, data, _ = client.download(output["final_filename_csv"])
        lines = data.decode().splitlines()
        assert lines[1] == '001,ship 1,"1,5",02.01.2024'
        assert lines[-1] == "303,bad weight,heavy,01.01.2024"  # of no use as a number, but not lost
        again = client.run(filename="harbour.csv", preview=2)["data"]["output_data"]
        assert (again["cached"], again["issues"], again["reading"]) == (True, issues, output["reading"])


def test_options_override_detection_and_strict_fails(server):
    """Options make it a different job; a strict request fails and names the line."""
    with server.connect() as client:
        upload(client)
        strict = client.run(filename="harbour.csv", strict=True)
        assert (strict["reason"], strict["code"]) == ("unreadable_file", 1003)
        assert any("304" in detail for detail in strict["details"])
        options = {"skip_rows": 0, "header": False, "delimiter": ";"}
        raw = client.run(filename="harbour.csv", options=options, limit=1, preview=1)["data"]["output_data"]
        assert raw["columns"][0] == "column_1"
        assert raw["preview"] == [["Report of the harbour", None, None, None]]
        asked = {"type": "rows", "id": "r", "filename": "harbour.csv", "offset": 0, "limit": 1}
        assert client.ask(asked)["rows"][0][0] == "001"
        assert client.ask(asked | {"options": options})["rows"][0][0] == "Report of the harbour"
        typed = client.run(filename="harbour.csv", options={"types": {"id": "int64"}}, preview=1)
        assert typed["data"]["output_data"]["preview"][0][0] == 1
        wrong = client.run(filename="harbour.csv", options={"delimeter": ";"})
        assert wrong["reason"] == "invalid_message"
        assert "Did you mean 'delimiter'?" in wrong["details"][0]
        assert (
            client.run(filename="harbour.csv", options={"types": {"ID": "int64"}})["reason"]
            == "invalid_message"
        )


def test_legacy_request_reads_messy_files_too(server):
    """The oldest clients get the same reading, in one answer."""
    with server.connect() as client:
        upload(client)
        answer = client.ask({"filename": "harbour.csv", "selectedColumns": [2, 0]})
        output = answer["data"]["output_data"]
        assert (output["rows"], output["columns"]) == (303, ["weight", "id"])
        assert output["issues"]["padded_rows"] == 1


def test_result_has_a_csv_as_written_and_one_of_values(server):
    """Over the WebSocket and HTTP; if somebody has removed the texts, the result is made again."""
    table = b"price,on,ok\n10.50,1/13/2024,TRUE\nNA,12/3/2024,FALSE\n"
    values = b"price,on,ok\n10.5,2024-01-13,true\n,2024-12-03,false\n"
    with server.connect() as client, httpx.Client(base_url=server.base) as http:
        upload(client, "prices.csv", table)
        output = client.run(filename="prices.csv")["data"]["output_data"]
        written, normalized = output["final_filename_csv"], output["final_filename_csv_normalized"]
        assert client.download(written)[1] == table
        assert client.download(normalized)[1] == values
        assert http.get(f"/download/{written}").content == table
        assert http.get(f"/download/{normalized}").content == values
        for name in ("prices.csv", output["filename"]):
            rows = {"type": "rows", "id": "r", "filename": name, "offset": 1, "limit": 5}
            assert client.ask(rows)["rows"] == [[None, "2024-12-03", False]]
            assert client.ask(rows | {"texts": True})["rows"] == [["NA", "12/3/2024", "FALSE"]]
            # Found as it is written, with values and with texts.
            assert client.ask(rows | {"offset": 0, "find": "10.50"})["rows"] == [[10.5, "2024-01-13", True]]
            found = client.ask(rows | {"offset": 0, "find": "1/13", "texts": True})["rows"]
            assert found == [["10.50", "1/13/2024", "TRUE"]]
        folder = server.data_dir / "outputs"
        texts = folder / output["filename"].replace(".parquet", ".texts.parquet")
        assert texts.stat().st_size == output["texts_size"]
        texts.unlink()
        (folder / written).unlink()
        assert client.download(written)[0]["reason"] == "file_not_found"
        again = client.run(filename="prices.csv")["data"]["output_data"]
        assert (again["cached"], again["filename"]) == (False, output["filename"])
        assert client.download(written)[1] == table


def test_output_of_an_output_has_the_cells_of_the_source(server):
    """Whoever sorts a result, and filters what comes out, has changed no cell."""
    table = b"price,on,ok\n10.50,1/13/2024,TRUE\nNA,12/3/2024,FALSE\n4,2/3/2024,TRUE\n"
    with server.connect() as client:
        upload(client, "steps.csv", table)
        output = client.run(filename="steps.csv")["data"]["output_data"]
        for step in (
            {"sort": [["price", "asc"]]},
            {"where": [["price", "not_null"]]},
            {"selectedColumns": [1, 0]},
        ):
            output = client.run(filename=output["filename"], **step)["data"]["output_data"]
        assert client.download(output["final_filename_csv"])[1] == b"on,price\n2/3/2024,4\n1/13/2024,10.50\n"


@pytest.mark.slow
def test_rejects_live_as_long_as_their_output(tmp_path):
    """A restart keeps both; deleting the output removes both; nothing temporary is left."""
    data = tmp_path / "data"
    with serving(data) as server, server.connect() as client:
        upload(client)
        issues = client.run(filename="harbour.csv")["data"]["output_data"]["issues"]
    with serving(data) as server, server.connect() as client:
        output = client.run(filename="harbour.csv")["data"]["output_data"]
        assert (output["cached"], output["issues"]) == (True, issues)
        assert client.download(issues["rejects"])[1].startswith(b"line,column,value,why")
        texts = output["filename"].replace(".parquet", ".texts.parquet")
        names = {path.name for path in (data / "outputs").iterdir()}
        assert names == {output["filename"], issues["rejects"], texts}
        assert client.ask({"type": "delete", "id": "d", "filename": output["filename"]})["type"] == "deleted"
        assert list((data / "outputs").iterdir()) == []


def test_distinct_cast_and_rename_work_over_the_wire(server):
    """Errors name the reason for each field."""
    with server.connect() as client:
        upload(client, "doubles.csv", b"a,b\n1,x\n1,x\n2,y\n3,y\n")
        output = client.run(
            filename="doubles.csv", distinct=True, cast={"a": "string"}, rename={"a": "key"}, preview=9
        )["data"]["output_data"]
        assert (output["columns"], output["dtypes"]) == (["key", "b"], ["String", "String"])
        assert output["preview"] == [["1", "x"], ["2", "y"], ["3", "y"]]
        firsts = client.run(filename="doubles.csv", distinct=["b"], preview=9)["data"]["output_data"]
        assert firsts["preview"] == [[1, "x"], [2, "y"]]
        for field, value, reason in (
            ("distinct", 3, "invalid_message"),
            ("cast", {"a": "integer"}, "invalid_message"),
            ("cast", {"z": "int64"}, "column_not_found"),
            ("rename", {"z": "y"}, "column_not_found"),
            ("rename", {"a": "b"}, "invalid_columns"),
            ("rename", {"a": ""}, "invalid_message"),
        ):
            assert client.run(filename="doubles.csv", **{field: value})["reason"] == reason, (field, value)
