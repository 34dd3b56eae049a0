"""Detection of character encodings."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.engine.run import run
from creemson.errors import ProcessingError
from creemson.formats.detection.encodings import encoding_of, is_nearly_utf16, unicode_of
from creemson.model.query import Options, Query

FRENCH = "numéro;prénom;café\n1;Hélène;crème brûlée\n2;François;pâté à l'ancienne\n3;Zoë;où est-ce déjà\n"
RUSSIAN = "номер;имя;город\n1;Наталья;Санкт-Петербург\n2;Сергей;Нижний Новгород\n3;Ольга;Екатеринбург\n"
JAPANESE = "番号,名前,町\n1,さくら,横浜市\n2,たろう,名古屋市\n3,はなこ,札幌市のまんなか\n"


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
@pytest.mark.parametrize("text", ["", "a,b\n", FRENCH])
def test_encoding_of_text_with_byte_order_mark_is_that_of_the_mark(mark, encoding, text):
    """The mark identifies the encoding and is not part of the text."""
    head = mark + text.encode(encoding)
    assert encoding_of(head, is_whole=True) == (encoding, len(mark))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff\x00")))
def test_encoding_of_valid_utf8_is_utf8(text):
    """Valid UTF-8 is never given to statistics."""
    assert encoding_of(text.encode(), is_whole=True) == ("utf-8", 0)


@pytest.mark.parametrize("cut", range(1, 4))
def test_encoding_of_sample_with_a_cut_character_is_utf8(cut):
    """The last character of a sample may be cut off, and that of a file, too."""
    head = ("a,b\n" * 20 + "\N{GRINNING FACE}").encode()[:-cut]
    assert encoding_of(head, is_whole=False) == ("utf-8", 0)
    assert encoding_of(head, is_whole=True) == ("utf-8", 0)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_encoding_of_utf16_without_a_mark_is_detected(encoding):
    """In English text, digits and separators, every other byte is NUL."""
    assert encoding_of("id,name\n1,ash\n2,Bärbel\n".encode(encoding), is_whole=True) == (encoding, 0)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (FRENCH, "cp1252"), (FRENCH, "cp850"), (RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"), (RUSSIAN, "iso8859-5"),
        (JAPANESE, "shift_jis"), (JAPANESE, "euc_jp"),
    ],
)  # fmt: skip
def test_encoding_of_legacy_text_decodes_it_correctly(text, encoding):
    """The detected encoding decodes the text correctly, whatever it is called."""
    found, mark = encoding_of(text.encode(encoding), is_whole=True)
    assert (text.encode(encoding).decode(found), mark) == (text, 0)


@pytest.mark.parametrize(
    "words",
    [
        "Größe", "Straße", "café", "España", "año", "São Paulo", "Århus", "Zoë naïve", "François Hélène", "°C", "€",
        "20 µg/m³", "“quoted” it’s – so…", "n° 5 £3.50", "Größe Straße Müller", "Gebühr in €", "numéro pâté été",
    ],
)  # fmt: skip
def test_encoding_of_a_few_western_words_is_windows_1252(words):
    """Statistics on one word are weak; the most common legacy encoding is the default."""
    head = ("id;name\n" + "".join(f"{n};{word}\n" for n, word in enumerate(words.split()))).encode("cp1252")
    found, _ = encoding_of(head, is_whole=True)
    assert head.decode(found) == head.decode("cp1252")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Łódź Kraków Poznań Gdańsk Częstochowa małopolskie śląskie", "cp1250"),
        ("Plzeň České Budějovice příjmení Dvořák Růžička Ústí nad Labem řádek šestý", "cp1250"),
        ("İstanbul İzmir Şanlıurfa Muğla Çanakkale Eskişehir doğum kişi sayısı", "cp1254"),
        ("όνομα επώνυμο", "cp1253"), ("город", "cp1251"), ("ירושלים חיפה", "cp1255"), ("ชื่อ", "cp874"),
        ("Größe Straße Müller Zürich Köln München für Übung Häuser", "mac_roman"),
        ("Größe Straße Müller Zürich Köln München für Übung Häuser", "cp850"),
    ],
)  # fmt: skip
def test_encoding_of_a_few_other_words_is_not_western(text, encoding):
    """Letters rare in Western texts, or symbols inside words, identify the encoding."""
    head = ("id;name\n" + "".join(f"{n};{word}\n" for n, word in enumerate(text.split()))).encode(encoding)
    found, _ = encoding_of(head, is_whole=True)
    assert head.decode(found) == head.decode(encoding)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("jméno město Železný Plzeň Šťastný Děčín Kůň Říčany", "cp1250"),
        ("Plzeň Kůň Říčany Łódź Kraków Gdańsk żółty Győr Pécs Šumava Dvořák město", "iso8859-2"),
        ("Šumava Dvořák Žižkov", "cp1250"), ("Şişli Ağrı Iğdır", "cp1254"), ("Москва 5кВ", "cp1251"),
    ],
)  # fmt: skip
def test_encoding_that_gives_controls_or_words_of_two_scripts_is_unlikely(text, encoding):
    """Control characters of ISO 8859, and Latin letters beside Greek or Cyrillic ones, mean another encoding."""
    head = ("id;name\n" + "".join(f"{n};{word}\n" for n, word in enumerate(text.split()))).encode(encoding)
    found, _ = encoding_of(head, is_whole=True)
    assert head.decode(found) == head.decode(encoding)


def test_encoding_of_one_name_among_many_numbers_is_detected():
    """One name in two thousand lines of numbers is enough."""
    text = (
        "id;value\n" + "".join(f"{n};{n * 7919 % 1000}\n" for n in range(2000)) + "3000;Müller-Lüdenscheidt\n"
    )
    found, _ = encoding_of(text.encode("cp1252"), is_whole=True)
    assert text.encode("cp1252").decode(found) == text


@given(st.binary(max_size=300), st.booleans())
def test_encoding_of_any_bytes_is_a_codec_that_decodes_them(head, whole):
    """The detected codec exists in Python and decodes the bytes."""
    encoding, mark = encoding_of(head, is_whole=whole)
    assert 0 <= mark <= 4
    if not mark and not encoding.startswith("utf"):
        codecs.getincrementaldecoder(encoding)().decode(head)


# --- UTF-16 without a mark -------------------------------------------------------------------------------

SCRIPTS = {
    "Japanese": "名前,都市\n佐藤,大阪\n鈴木,京都\n高橋,札幌\n",
    "kana": "なまえ,まち\nさとう,オオサカ\nすずき,キョウト\n",
    "Chinese": "姓名,城市\n李雷,北京\n韩梅梅,上海\n",
    "Korean": "이름,도시\n김철수,서울\n이영희,부산\n",
    "Russian": "имя,город\nНаталья,Санкт-Петербург\nСергей,Нижний Новгород\n",
    "Greek": "όνομα,πόλη\nΝίκος,Αθήνα\nΜαρία,Πάτρα\n",
    "Hebrew": "שם,עיר\nדוד,ירושלים\nרות,חיפה\n",
    "Arabic": "اسم,مدينة\nمحمد,القاهرة\nفاطمة,بيروت\n",
    "Thai": "ชื่อ,เมือง\nสมชาย,กรุงเทพฯ\n",
    "English": "id,name\n1,ash\n2,oak\n",
}


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_utf16_without_a_mark_is_read_where_it_is_certain(tmp_path, script, order):
    """Line ends and delimiters have NUL bytes, all on one side, and the text makes sense."""
    path = tmp_path / "t.csv"
    path.write_bytes(SCRIPTS[script].encode(f"utf-16-{order}"))
    outcome = run(Query(filename="t.csv", preview=9), path, tmp_path / "out", lambda _: None)
    header, *rows = (line.split(",") for line in SCRIPTS[script].splitlines())
    assert (outcome.reading.encoding, outcome.issues) == (f"utf-16-{order}", None)
    assert list(outcome.columns) == header
    assert [list(map(str, row)) for row in outcome.preview] == rows


@given(
    st.lists(
        st.tuples(
            *[
                st.text(
                    st.characters(categories=["L", "N"], max_codepoint=0xFFFF),
                    min_size=1,
                    max_size=8,
                )
            ]
            * 3
        ),
        min_size=4,
        max_size=20,
    ),
    st.sampled_from(["utf-16-le", "utf-16-be"]),
)
def test_utf16_without_a_mark_is_never_taken_for_another_encoding(rows, encoding):
    """If it is not certain, nothing else is certain either: the file is refused."""
    data = "".join(",".join(row) + "\r\n" for row in rows).encode(encoding)
    assert unicode_of(data) in (encoding, None)
    if unicode_of(data) is None:
        assert is_nearly_utf16(data)


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\n1,\x002\n3,4\n", b"a,b\n" + b"1,2\x00\n" * 50, b"a,b\n1,2\x00\n3,4\x00\n", b"name\x00\x00\x00,n\n",
        "a,b\n1,ü\x00\n".encode(), b"\x00a,b\n1,2\n",
    ],
)  # fmt: skip
def test_text_with_some_nul_bytes_is_not_utf16(data):
    """NUL bytes in UTF-8 are left out and told."""
    assert unicode_of(data) is None
    assert encoding_of(data, is_whole=True)[0] == "utf-8"


def test_utf16_without_a_mark_that_is_not_certain_is_refused_with_the_next_step(tmp_path):
    """The option reads it."""
    path = tmp_path / "t.csv"
    # Private characters, with bytes that are controls.
    text = "a,b\n" + "".join(f"{chr(0xE002) * 9}{chr(code)},\n" for code in range(0x4E00, 0x4E40))
    path.write_bytes(text.encode("utf-16-le"))
    with pytest.raises(
        ProcessingError, match=r"UTF-16 without a byte order mark.*options\.encoding: utf-16-le"
    ) as error:
        run(Query(filename="t.csv"), path, tmp_path / "out", lambda _: None)
    assert error.value.reason == "unsupported_format"
    query = Query(filename="t.csv", options=Options(encoding="utf-16-le"))
    assert run(query, path, tmp_path / "out", lambda _: None).rows == 64


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.json", '[{"a":"ü"},{"a":"é"}]'), ("t.ndjson", '{"a":"ü"}\n{"a":"é"}\n'), ("t", '[{"a": "ü"}, {"a": "é"}]'),
        ("t.json", '[\n  {"a": "ü"},\n  {"a": "é"}\n]\n'),
    ],
)  # fmt: skip
def test_json_in_utf16_is_read(tmp_path, name, text, encoding):
    """As PowerShell writes it."""
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    outcome = run(Query(filename=name, preview=9), path, tmp_path / "out", lambda _: None)
    assert outcome.preview == (("ü",), ("é",))
    assert outcome.reading.encoding == encoding + ("" if encoding.count("-") == 2 else "-le")


def test_json_in_utf16_that_is_cut_is_refused_in_words(tmp_path):
    """In the middle of a character."""
    path = tmp_path / "t.json"
    path.write_bytes('[{"a":"ü"},{"a":"é"}]'.encode("utf-16")[:-1])
    with pytest.raises(ProcessingError, match=r"'t\.json' is not valid UTF-16-LE to its end"):
        run(Query(filename="t.json"), path, tmp_path / "out", lambda _: None)
