"""Names of temporary files and of files that belong to outputs."""

import glob
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "NORMALIZED",
    "companion",
    "is_remote",
    "is_stored",
    "is_temporary",
    "names_deleted_with",
    "output_names",
    "owner_name",
    "rejects_name",
    "remove_path",
    "remove_with_companions",
    "rendering_of",
    "temporary_name",
    "texts_name",
]

_REJECTS_SUFFIX = ".rejects.csv"
_TEXTS_SUFFIX = ".texts.parquet"
NORMALIZED = "normalized.csv"
"""The format of a CSV with values; that with the texts of the original file is ``csv``."""
_TEMPORARY_SUFFIX = ".tmp"


def temporary_name(name: str, attempt: str) -> str:
    """Return the hidden name that a file has until it is complete.

    Args:
        name: name that the file will have, in the same folder.
        attempt: distinguishes several attempts to write it.
    """
    return f".{hashlib.sha256(name.encode()).hexdigest()[:16]}.{attempt}{_TEMPORARY_SUFFIX}"


def companion(part: Path, purpose: str) -> Path:
    """Return a second temporary path that belongs to ``part`` and is removed with it.

    >>> companion(Path(".0123.1.tmp"), "rejects").name
    '.0123.1.rejects.tmp'
    """
    return part.with_name(f"{part.stem}.{purpose}{_TEMPORARY_SUFFIX}")


def remove_with_companions(part: Path) -> None:
    """Remove a temporary file and its companions."""
    part.unlink(missing_ok=True)
    for path in part.parent.glob(f"{glob.escape(part.stem)}.*{_TEMPORARY_SUFFIX}"):
        remove_path(path)


def remove_path(path: Path, *, ignore_errors: bool = True) -> None:
    """Remove a file, or a folder with all that is in it.

    Args:
        path: the file or folder; it need not exist.
        ignore_errors: whether what cannot be removed of a folder stays without an error.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=ignore_errors)
    else:
        path.unlink(missing_ok=True)


def rejects_name(output: str) -> str:
    """Return the name of the file that lists the repaired and lost records of a stored output.

    >>> rejects_name("flights-0123456789ab.parquet")
    'flights-0123456789ab.rejects.csv'
    """
    return f"{output.rsplit('.', 1)[0]}{_REJECTS_SUFFIX}"


def texts_name(output: str) -> str:
    """Return the name of the file with the texts of a stored output: how the original file writes its values.

    >>> texts_name("flights-0123456789ab.parquet")
    'flights-0123456789ab.texts.parquet'
    """
    return f"{output.rsplit('.', 1)[0]}{_TEXTS_SUFFIX}"


def output_names(output: str, formats: Sequence[str]) -> list[str]:
    """Return the names of a stored output, its renderings in other formats, its texts and its file of rejects.

    Args:
        output: name of the stored output.
        formats: the extensions of outputs; the first is that of stored ones.

    >>> output_names("a-0123456789ab.parquet", ["parquet", "xlsx"])[:3]
    ['a-0123456789ab.parquet', 'a-0123456789ab.xlsx', 'a-0123456789ab.normalized.csv']
    """
    stem = output.rsplit(".", 1)[0]
    renderings = [f"{stem}.{format_}" for format_ in (*formats, NORMALIZED)]
    return [*renderings, texts_name(output), rejects_name(output)]


def names_deleted_with(name: str, formats: Sequence[str]) -> list[str]:
    """Return the names of what is deleted with a file of an output, itself included.

    With a stored output, all that belongs to it; with anything else nothing, since the output is still served.

    >>> names_deleted_with("a-0123456789ab.csv", ["parquet", "csv"])
    ['a-0123456789ab.csv']
    """
    return output_names(name, formats) if is_stored(name, formats) else [name]


def is_stored(name: str, formats: Sequence[str]) -> bool:
    """Return whether a file of an output is the stored one, and not a rendering, its texts or its file of rejects.

    >>> is_stored("a-0123456789ab.parquet", ["parquet"]), is_stored("a-0123456789ab.texts.parquet", ["parquet"])
    (True, False)
    """
    found = rendering_of(name, formats)
    return found is not None and found[0] == name


def rendering_of(name: str, formats: Sequence[str]) -> tuple[str, str] | None:
    """Return the stored output of which a name is a rendering, and the format; None for a name of another form.

    Args:
        name: a file name.
        formats: the extensions of outputs; the first is that of stored ones.

    >>> rendering_of("flights-0123456789ab.csv", ["parquet", "csv"])
    ('flights-0123456789ab.parquet', 'csv')
    >>> rendering_of("flights-0123456789ab.normalized.csv", ["parquet", "csv"])
    ('flights-0123456789ab.parquet', 'normalized.csv')
    """
    stem, _, format_ = name.partition(".")
    return (f"{stem}.{formats[0]}", format_) if format_ in (*formats, NORMALIZED) else None


def owner_name(name: str, stored: str) -> str:
    """Return the output that a file of rejects or texts belongs to; for any other file, its own name.

    Args:
        name: name of the file.
        stored: extension of stored outputs.

    >>> owner_name("flights-0123456789ab.rejects.csv", "parquet")
    'flights-0123456789ab.parquet'
    """
    for suffix in (_REJECTS_SUFFIX, _TEXTS_SUFFIX):
        if name.endswith(suffix):
            return f"{name.removesuffix(suffix)}.{stored}"
    return name


def is_remote(path: str) -> bool:
    """Return whether what a worker reads or writes is in an object store, and not on a disk."""
    return path.startswith("s3://")


def is_temporary(name: str) -> bool:
    """Return whether ``name`` was made by :func:`temporary_name`.

    >>> is_temporary(temporary_name("a.csv", "1")), is_temporary("a.csv")
    (True, False)
    """
    return name.startswith(".") and name.endswith(_TEMPORARY_SUFFIX)
