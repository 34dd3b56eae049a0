"""The TLS files of a cluster, and certificates for a first try."""

import datetime
import os
from pathlib import Path

import attrs

from creemson.settings.checks import is_loopback

__all__ = ["TlsFiles", "create_certificates", "host_of", "refusal"]

VALID_DAYS = 365
"""Validity of the certificates."""
_FIRST_TRY = "`creemson worker --tls-create DIR` makes certificates for a first try."
CA, CERT, KEY = "ca.pem", "cert.pem", "key.pem"


@attrs.frozen
class TlsFiles:
    """PEM files: of the authority that has signed all certificates of the cluster, and of one's own certificate."""

    ca: Path
    cert: Path
    key: Path

    @classmethod
    def of(cls, ca: Path | None, cert: Path | None, key: Path | None) -> "TlsFiles | None":
        """Return the files, if all three are given."""
        return None if ca is None or cert is None or key is None else cls(ca, cert, key)

    @classmethod
    def in_folder(cls, folder: Path) -> "TlsFiles":
        """Return the files that :func:`create_certificates` has made in a folder."""
        return cls(folder / CA, folder / CERT, folder / KEY)


def host_of(address: str) -> str:
    """Return the host in the address of a scheduler.

    >>> host_of("tls://10.0.0.1:8786"), host_of("tcp://[::1]:8786")
    ('10.0.0.1', '::1')
    """
    rest = address.partition("://")[2] or address
    return rest.rpartition(":")[0].strip("[]") or rest


def refusal(address: str, files: TlsFiles | None, *, how: str) -> str | None:
    """Return why a scheduler must not be used; None if it may be.

    A scheduler runs what it is sent, and so do its workers: whoever reaches it without a certificate owns them.

    Args:
        address: address of the scheduler.
        files: the TLS files, if all are given.
        how: how to give the files, for the message.
    """
    scheme = address.partition("://")[0]
    if scheme not in ("tcp", "tls") or "://" not in address or not _has_port(address):
        return f"{address!r} is not the address of a Dask scheduler: give one such as tls://10.0.0.1:8786."
    if scheme == "tls" and files is None:
        return f"{address} needs certificates: give {how}. {_FIRST_TRY}"
    if scheme == "tcp" and not is_loopback(host_of(address)):
        return (
            f"{address} is on another machine and not encrypted: anyone who can reach it can run programs there. "
            f"Start the scheduler with TLS, and use tls:// with {how}. {_FIRST_TRY}"
        )
    for path in () if scheme == "tcp" or files is None else (files.ca, files.cert, files.key):
        if not os.access(path, os.R_OK):
            return f"{path} cannot be read: it must be a PEM file that the user of this process may read."
    return None


def _has_port(address: str) -> bool:
    return address.rpartition(":")[2].isdigit()


def create_certificates(folder: Path) -> TlsFiles:
    """Make a certificate that all parts of a cluster can share, and the authority that has signed it.

    The key of the authority is not kept, so nothing else can be signed by it.

    Args:
        folder: where the files are written; it is created if necessary.

    Raises:
        OSError: a file exists already, or cannot be written.
    """
    # Imported here: only this function needs it, and it takes 50 ms.
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    now = datetime.datetime.now(datetime.UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def certificate(
        subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_ca: bool
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
            .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
        )

    authority = name("Creemson cluster")
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = certificate(authority, authority_key, is_ca=True).sign(authority_key, hashes.SHA256())
    own = certificate(name("Creemson"), key, is_ca=False).sign(authority_key, hashes.SHA256())
    files = TlsFiles.in_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pem = serialization.Encoding.PEM
    _write_new(files.ca, ca.public_bytes(pem), 0o644)
    _write_new(files.cert, own.public_bytes(pem), 0o644)
    private = serialization.PrivateFormat.PKCS8
    _write_new(files.key, key.private_bytes(pem, private, serialization.NoEncryption()), 0o600)
    return files


def _write_new(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as stream:
        stream.write(content)
