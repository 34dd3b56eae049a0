"""Parquet and Arrow files with types that polars does not read."""

import base64
import zlib

import pytest

from creemson.errors import ProcessingError
from creemson.formats.open import faults, open_table

# Written by pyarrow: a column ``v`` of the type decimal256(50, 2) with 10.50.
PARQUET = (
    "c-m!7F%E)25L_<gLM-U^!kQ~+xTpalCQ{j0+7aq&2$E=_;Gy^jU+rS+CbOCB&Sa)K)&&BVSf(hLNR%1?#0(Gq$6umP"
    "=^i3EwwLbKpa2YUgCg>#WPv`OQ#)^#DnXjG0gWLg5{MPZM`e{Y!AWx%u=}u<WPW-45GGI-R`Jld$E$m0?J#7GbNxG>"
    "IyYYXd%P?2ZC;R`OMVy?_x}PG1skI"
)
ARROW = (
    "c-p;DF%H5o47`-kR+Wbg6+(!iBP&b{EPVk|7k<Lb$k=D}mvDAnQ6XUDq}Z`zpD#(<b?3_-cn~)L35p7W97~kk5g{@L"
    "qmnkdWtywDo|?HFg;gcz2!;Bs*TU<sWK6~(#(m(*rbCQ6?#`<atXzp0I~EaZx&{*}#$t@hck(*~ypZ8Ln%O?Q^(i(H"
    "KcRZzGli;iQ<_GtRCT1?&EBi`zW&2}{NarUy4L>u3IC56X8"
)


@pytest.mark.parametrize(("name", "content"), [("x.parquet", PARQUET), ("x.arrow", ARROW)])
def test_decimals_of_256_bits_are_refused_in_words(tmp_path, name, content):
    """The message names the type, and says what to do."""
    path = tmp_path / name
    path.write_bytes(zlib.decompress(base64.b85decode(content)))
    with (
        pytest.raises(
            ProcessingError, match=r"decimal256\), which are not supported. Write the column as"
        ) as caught,
        faults(name, path),
    ):
        open_table(path, name).readings[0](list).collect()
    assert caught.value.reason == "unreadable_file"
