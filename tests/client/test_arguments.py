"""Python values become JSON values, or an error that names the argument."""

import datetime
import decimal
import enum
import itertools
import json
import math
from decimal import Decimal

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creemson.client.arguments import check_durations, options_of, request_of, work_for, work_of
from creemson.errors import CreemsonError, InvalidFormat
from creemson.model.query import AnyOf, Condition, Options, Query, SortKey
from creemson.wire import codec, messages

ENDLESS = [1]
ENDLESS.append(ENDLESS)


class Colour(enum.StrEnum):
    RED = "red"


class Unprintable:
    def __repr__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("0.1000000000000000055511151231257827"), "0.1000000000000000055511151231257827"),
        (Decimal("1E+3"), "1E+3"),
        (2**64, "18446744073709551616"),
        (-(2**63) - 1, "-9223372036854775809"),
        (10**30, "1" + "0" * 30),
        (np.int64(5), "5"),
        (np.float64(0.5), "0.5"),
        (np.float32(0.5), "0.5"),
        (np.bool_(True), "true"),
        (np.array(3), "3"),
        (np.array([1, 2]), "[1,2]"),
        (np.datetime64("2024-05-01T10:00:00.123456789"), '"2024-05-01T10:00:00.123456789"'),
        (np.timedelta64(1500, "ms"), "1.5"),
        (np.str_("x"), '"x"'),
        (pd.Timestamp("2024-05-01"), '"2024-05-01T00:00:00"'),
        (datetime.date(2024, 5, 1), '"2024-05-01"'),
        (datetime.datetime(2024, 5, 1, 1, tzinfo=datetime.UTC), '"2024-05-01T01:00:00+00:00"'),
        (datetime.time(1, 2), '"01:02:00"'),
        (datetime.timedelta(seconds=90), "90.0"),
        (Colour.RED, '"red"'),
        ((value for value in (1, Decimal(2))), "[1,2]"),
        ({"Größe"}, '["Größe"]'),
    ],
)
def test_value_is_sent_as_its_json(value, text):
    """Numbers keep all their digits; dates and times are ISO 8601, durations seconds."""
    request = work_of("a.csv", where=[("x", "==", value)]).request
    sent = codec.encode(request)
    assert f'"where":[["x","==",{text}]]' in sent
    codec.decode_request(sent)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"abc", "b'abc' is bytes; decode it to text first"),
        (bytearray(b"abc"), "is bytearray; decode it"),
        ("a\ud800", r"'a\ud800' is not valid Unicode"),
        ({"a\ud800": 1}, "is not valid Unicode"),
        ({1: 1}, "the key 1 is not text"),
        (math.nan, "nan is not a number that JSON has"),
        (-math.inf, "-inf is not a number"),
        (Decimal("NaN"), "NaN is not a number"),
        (Decimal("1e400"), "Decimal('1E+400') is beyond the range"),
        pytest.param(10**5000, "this int is beyond the range", id="10**5000"),
        (np.datetime64("NaT"), "NaT is not a time"),
        (np.timedelta64("NaT"), "NaT is not a time"),
        (pd.NaT, "NaT is not a time"),
        (pd.NA, "is of type NAType"),
        (np.longdouble(1), "is of type longdouble"),
        (1j, "1j is of type complex"),
        (object, "is of type type"),
        (Unprintable(), "this Unprintable is of type Unprintable"),
        (ENDLESS, "nested more than 100 levels deep"),
    ],
)
def test_value_that_json_lacks_is_refused_with_its_place(value, why):
    """The error names the argument, the place in it, the value and the reason."""
    with pytest.raises(InvalidFormat) as caught:
        work_of("a.csv", where=[("y", "==", 1), ("x", "==", value)])
    assert caught.value.message.startswith("where[1][2]")
    assert why in caught.value.message
    assert caught.value.reason == "invalid_message"


def test_endless_iterable_is_refused(monkeypatch):
    """It would fill the memory."""
    monkeypatch.setattr("creemson.client.values.to_json.MAX_ITEMS", 1000)
    with pytest.raises(InvalidFormat, match=r"where\[0\]\[2\] cannot be sent: it has 1,000 values or more"):
        work_of("a.csv", where=[("x", "in", itertools.count())])


def test_parts_of_the_model_are_accepted():
    """Conditions, sort keys and options as objects are the same as lists and mappings."""
    work = work_of(
        "a.csv", where=[Condition("x", ">", Decimal(1))], sort=[SortKey("x")], options=Options(decimal=",")
    )
    same = work_of("a.csv", where=[("x", ">", Decimal(1))], sort=[("x", "asc")], options={"decimal": ","})
    assert work == same
    assert options_of(Options(decimal=",")) == options_of({"decimal": ","}) == Options(decimal=",")


def test_conditions_of_which_one_must_hold_are_accepted():
    """In the form of the protocol, also with tuples, or as parts of the model."""
    conditions = (Condition("a", "==", 1), Condition("b", "is_null"))
    for where in ([{"any": [("a", "==", 1), ("b", "is_null")]}], [AnyOf(conditions)]):
        assert work_of("a.csv", where=where).request.where == (AnyOf(conditions),)


def test_query_with_an_unsendable_value_is_refused():
    """A query that was made without the help of this module is checked, too."""
    query = Query(filename="a.csv", where=(Condition("x", "==", b"1"),))
    with pytest.raises(InvalidFormat, match=r"where\[0\]\[2\]"):
        work_for(query, timeout=None, on_disconnect="keep", content=None, overwrite=False)


def test_argument_with_another_name_in_the_message_is_called_by_its_own(tmp_path):
    """Errors speak of `columns`; a file name that is not UTF-8 is an invalid file name."""
    with pytest.raises(InvalidFormat, match=r"^columns\[0\]"):
        work_of("a.csv", columns=[b"x"])
    path = tmp_path / "\udcff.csv"
    path.write_text("a\n1\n")
    with pytest.raises(InvalidFormat) as caught:
        work_of(path)
    assert caught.value.reason == "invalid_filename"


@pytest.mark.parametrize("timeout", [math.nan, -1, 0, "soon", [], pytest.param(10**400, id="10**400")])
def test_timeout_that_is_none_is_refused(timeout):
    """Infinity means none."""
    assert work_of("a.csv", timeout=math.inf).request.timeout is None
    with pytest.raises(InvalidFormat, match="timeout"):
        work_of("a.csv", timeout=timeout)


@pytest.mark.parametrize("seconds", [math.nan, -1, None, "1", True, 0])
def test_duration_of_the_client_that_is_none_is_refused(seconds):
    """The error names the argument."""
    check_durations(give_up_after=0, answer_timeout=math.inf)
    with pytest.raises(ValueError, match="heartbeat_interval is "):
        check_durations(heartbeat_interval=seconds)


TEXTS = st.text(st.characters(exclude_categories=()))
KEYS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.decimals().filter(lambda value: not value.is_snan())  # cannot be a key
    | TEXTS
    | st.binary()
    | st.complex_numbers()
    | st.fractions()
    | st.dates()
    | st.datetimes()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.builds(object)
)
ODD = st.sampled_from([np.int8(1), np.float32("nan"), np.array([[1]]), pd.NaT, pd.NA, Colour.RED, ENDLESS])
VALUES = st.recursive(
    KEYS | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=8,
)
CONDITIONS = st.lists(st.tuples(st.just("a"), st.sampled_from(["==", "in", "<"]), VALUES), max_size=2)
ARGUMENTS = st.one_of(
    st.dictionaries(
        st.sampled_from(
            [
                "columns", "where", "group_by", "aggregate", "sort", "limit", "distinct", "cast", "rename", "options",
                "strict", "preview", "profile", "timeout", "on_disconnect",
            ]
        ),
        VALUES,
        max_size=2,
    ),
    st.builds(lambda conditions: {"where": conditions}, CONDITIONS),
)  # fmt: skip


@settings(max_examples=50)
@given(arguments=ARGUMENTS)
def test_any_arguments_become_a_message_or_an_error(arguments):
    """What is accepted can be encoded, and a server can parse it."""
    try:
        request = work_of("a.csv", **arguments).request
    except CreemsonError as error:
        assert str(error)
        return
    text = codec.encode(request)
    orjson.loads(text.encode())
    codec.decode_request(text)


@settings(max_examples=50)
@given(value=st.decimals(allow_nan=False, allow_infinity=False) | st.integers())
def test_numbers_keep_all_their_digits(value):
    """A parser that reads decimals gets exactly the number."""
    try:
        request = work_of("a.csv", where=[("x", "==", value)]).request
    except InvalidFormat:
        assert abs(value) > 1e308
        return
    with decimal.localcontext(prec=10_000):
        [[_, _, number]] = json.loads(codec.encode(request), parse_float=Decimal, parse_int=Decimal)["where"]
        assert number == value


@settings(max_examples=40)
@given(filename=VALUES, job=VALUES, number=VALUES)
def test_any_fields_of_other_requests_become_a_message_or_an_error(filename, job, number):
    """The same for requests about files and jobs."""
    for kind, fields in (
        (messages.Delete, {"filename": filename}),
        (messages.Attach, {"job": job, "after": number}),
        (messages.Cancel, {"job": job}),
        (messages.ReadRows, {"filename": filename, "offset": number, "limit": number}),
        (messages.Upload, {"filename": filename, "size": number, "overwrite": number}),
    ):
        try:
            request = request_of(kind, id="x", **fields)
        except CreemsonError:
            continue
        codec.decode_request(codec.encode(request))
