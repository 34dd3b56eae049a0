"""Which characters bytes stand for."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creemson.processing.encodings import encoding_of

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
def test_a_mark_decides(mark, encoding, text):
    """The mark at the beginning says what follows it; it is no part of the text."""
    head = mark + text.encode(encoding)
    assert encoding_of(head, whole=True) == (encoding, len(mark))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff\x00")))
def test_what_can_be_utf8_is(text):
    """No statistics about what is valid UTF-8."""
    assert encoding_of(text.encode(), whole=True) == ("utf-8", 0)


@pytest.mark.parametrize("cut", range(1, 4))
def test_a_cut_character(cut):
    """The last character of a sample may be cut; of a whole text it may not."""
    head = ("a,b\n" * 20 + "\N{GRINNING FACE}").encode()[:-cut]
    assert encoding_of(head, whole=False) == ("utf-8", 0)
    assert encoding_of(head, whole=True)[0] != "utf-8"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark(encoding):
    """Every other byte of English text, digits and separators is NUL."""
    assert encoding_of("id,name\n1,ash\n2,Bärbel\n".encode(encoding), whole=True) == (encoding, 0)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (FRENCH, "cp1252"), (FRENCH, "cp850"), (RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"), (RUSSIAN, "iso8859-5"),
        (JAPANESE, "shift_jis"), (JAPANESE, "euc_jp"),
    ],
)  # fmt: skip
def test_statistics_tell_the_others(text, encoding):
    """What is found reads the text as it was written, whatever its name."""
    found, mark = encoding_of(text.encode(encoding), whole=True)
    assert (text.encode(encoding).decode(found), mark) == (text, 0)


@pytest.mark.parametrize(
    "words",
    [
        "Größe", "Straße", "café", "España", "año", "São Paulo", "Århus", "Zoë naïve", "François Hélène", "°C", "€",
        "20 µg/m³", "“quoted” it’s – so…", "n° 5 £3.50", "Größe Straße Müller", "Gebühr in €", "numéro pâté été",
    ],
)  # fmt: skip
def test_a_few_words_are_western(words):
    """There is little to count in one word; what stands in so many files as windows-1252 is taken for that."""
    head = ("id;name\n" + "".join(f"{n};{word}\n" for n, word in enumerate(words.split()))).encode("cp1252")
    found, _ = encoding_of(head, whole=True)
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
def test_what_is_not_western(text, encoding):
    """Letters that the West hardly has, or signs in the middle of words, tell it apart."""
    head = ("id;name\n" + "".join(f"{n};{word}\n" for n, word in enumerate(text.split()))).encode(encoding)
    found, _ = encoding_of(head, whole=True)
    assert head.decode(found) == head.decode(encoding)


def test_numbers_do_not_blur_the_picture():
    """One name in a thousand lines of numbers is enough."""
    text = (
        "id;value\n" + "".join(f"{n};{n * 7919 % 1000}\n" for n in range(2000)) + "3000;Müller-Lüdenscheidt\n"
    )
    found, _ = encoding_of(text.encode("cp1252"), whole=True)
    assert text.encode("cp1252").decode(found) == text


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_have_an_encoding(head, whole):
    """And it is one that Python knows, in which most of them mean something."""
    encoding, mark = encoding_of(head, whole=whole)
    assert 0 <= mark <= 4
    if not mark and not encoding.startswith("utf"):
        codecs.getincrementaldecoder(encoding)().decode(head)
