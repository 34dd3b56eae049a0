"""Random files with faults behind their beginning, and random queries on them."""

import gzip
import random

from creemson.model.query import Aggregate, Condition, Options, Query, SortKey, View

ROWS = 9_000
"""So many rows that the sample is the smaller part of a file of some hundred kilobytes."""
NAMES = ("n", "name", "size", "day", "price", "flag")
KINDS = ("plain", "comma", "words", "gzip", "latin", "ndjson", "json", "fixed", "header", "late")
SIZES = ("%d", "%d.5", "007", "what", "1e5", "NA", "", "-", "12345678901234567890")
FAULTS = (
    '%d,"name,1\n', '%d,na"me,1\n', "%d,name\n", "%d,name,1,2,3,4,5,6\n", "%d,name,1.5,2024-01-02,1.5,true\n",
    "%d,name,what,soon,dear,maybe\n", '%d,"two\nlines",1,2024-01-02,2.50,true\n', "%d,na\0me,1,2024-01-02,1,true\n",
    "\n", "NA,NA,NA,NA,NA,NA\n", "n,name,size,day,price,flag\n", "%d,na\x92me,1,2024-01-02,1,true\n",
    "%d,x,what,2024-01-02,9.10,true\n", "x,x,1,2024-01-02,cheap,true\n", "%d,x,1,02/03/2024,1,true\n",
)  # fmt: skip


def write_random(folder, kind, rng, count=ROWS):
    """Write a random file of a kind and number of rows; return its path and the options with which it is read."""
    if kind == "ndjson" or kind == "json":
        return _write_json(folder, kind, rng), None
    if kind == "fixed":
        path = folder / "t.txt"
        rows = [f"{n:06}  name {n % 100:03}  {n % 7}.{n % 10}\n" for n in range(ROWS)]
        if rng.random() < 0.3:
            rows[rng.randrange(ROWS // 2, ROWS)] = "000001  name 001  xx \n"
        path.write_text("n       name      size\n" + "".join(rows))
        return path, None
    delimiter = ";" if kind == "comma" else ","
    lines = []
    for n in range(count):
        price = f"{n % 50}.{n % 100:02}"
        cells = [n, f"name {n % 30}", n % 70, f"2024-01-{n % 28 + 1:02}", price, ("true", "false")[n % 2]]
        if kind == "comma":
            cells[4] = price.replace(".", ",")
        if kind == "words" and n % 9 == 0:
            cells[rng.randrange(1, 6)] = rng.choice(["NA", "null", "-", "n/a"])
        if kind == "late" and n > count * 3 // 4 and rng.random() < 0.001:
            cells[2] = rng.choice(SIZES).replace("%d", str(n))
        lines.append(delimiter.join(map(str, cells)) + "\n")
    faults = [fault for fault in FAULTS if kind != "header" or fault.startswith(("n,", "%d,name,w", "x,"))]
    for at in rng.sample(range(count // 2, count), rng.choice([0, 1, 1, 2, 4])):
        fault = rng.choice(faults).replace(",", delimiter)
        lines[at] = fault % at if "%" in fault else fault
    text = delimiter.join(NAMES) + "\n" + "".join(lines)
    path = folder / ("t.csv.gz" if kind == "gzip" else "t.csv")
    content = text.encode("utf-8")
    if kind == "latin":
        content = content.replace(b"name 3,", "näme 3,".encode("windows-1252"))
    if kind == "gzip":
        content = gzip.compress(content, 1)
    path.write_bytes(content)
    return path, Options(null_values=("NA", "-")) if rng.random() < 0.15 else None


def _write_json(folder, kind, rng):
    rows = [
        f'{{"n":{n},"name":"name {n % 30}","size":{n % 70},"day":"2024-01-{n % 28 + 1:02}",'
        f'"price":{n % 50}.{n % 100:02},"flag":{("true", "false")[n % 2]}}}'
        for n in range(ROWS)
    ]
    for at in rng.sample(range(ROWS // 2, ROWS), rng.randint(0, 2)):
        rows[at] = rng.choice(
            [
                '{"n":1,"name":"x","size":1.5}',
                '{"n":1,"size":"what"}',
                '{"n":null}',
                '{"n":1,"late":[1]}',
                '{"n":1.10}',
            ]
        )
    path = folder / f"t.{kind}"
    path.write_text("\n".join(rows) + "\n" if kind == "ndjson" else "[" + ",\n".join(rows) + "]")
    return path


def random_query(path, names, options, rng):
    """Return a random query on a file with these columns; it may not fit the file."""
    some = tuple(rng.sample(names, rng.randint(1, min(3, len(names)))))
    fields = {}
    if rng.random() < 0.4:
        value = rng.choice([3, 40, "name 3", "2024-01-05", 1.5])
        operator = rng.choice(["==", "!=", "<", ">", "is_null", "not_null", "contains"])
        fields["where"] = (Condition(rng.choice(names), operator, value),)
    if rng.random() < 0.2:
        fields["group_by"] = (rng.choice(names),)
        function = rng.choice(["count", "min", "max", "first", "last", "n_unique"])
        fields["aggregate"] = (Aggregate(rng.choice(names), function, "result"),)
        some = None
    elif rng.random() < 0.1:
        some = None
    if rng.random() < 0.2:
        key = rng.choice([*fields["group_by"], "result"] if "group_by" in fields else names)
        fields["sort"] = (SortKey(key, rng.random() < 0.5),)
    if rng.random() < 0.15:
        fields["limit"] = rng.choice([0, 5, 20_000])
    if rng.random() < 0.1 and "group_by" not in fields:
        fields["distinct"] = True
    if rng.random() < 0.2:
        fields["profile"] = True
    if rng.random() < 0.1:
        fields["strict"] = True
    if rng.random() < 0.1:
        fields["cast"] = {rng.choice(names): "string"}  # loses nothing: losses of casts have no fixed order
    return Query(filename=path.name, options=options, selectedColumns=some, preview=5, **fields)


def random_view(names, rng):
    """Return a random view of the rows; it may not fit the file."""
    fields = {}
    if rng.random() < 0.6:
        fields["find"] = rng.choice(["name 3", "1.5", "NA", "2024-01-05", "TRUE", "what", "03/", "0"])
    if rng.random() < 0.5:
        fields["where"] = (
            Condition(rng.choice(names), rng.choice(["==", "<", "is_null"]), rng.choice([3, "name 3"])),
        )
    if rng.random() < 0.5:
        fields["sort"] = (SortKey(rng.choice(names), rng.random() < 0.5),)
    return View(**fields)


def seeded(*words):
    """Return a generator of random numbers."""
    return random.Random(" ".join(map(str, words)))
