"""Authentication: which tokens identify a caller, and which are refused."""

import base64
import contextlib
import errno
import json
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from creemson.errors import InvalidFormat
from creemson.server.auth.authenticators import make_authenticator, token_file
from creemson.server.auth.identities import bearer
from creemson.server.auth.tokens import Tokens
from creemson.settings.sections import Auth, Settings, Storage
from creemson.settings.units import SettingsError

SECRET = "0123456789abcdef" * 4
CLAIMS = {"sub": "ann", "aud": "tables"}


def jwt_authenticator(**changes):
    fields = {"jwt_key": SECRET, "jwt_algorithms": ("HS256",), "jwt_audience": "tables", **changes}
    return make_authenticator(Settings(auth=Auth(mode="jwt", **fields)))


def signed(key=SECRET, algorithm="HS256", *, without=(), **claims):
    all_claims = {**CLAIMS, "exp": time.time() + 3600, **claims}
    return jwt.encode({name: all_claims[name] for name in all_claims if name not in without}, key, algorithm)


def unsigned(header, claims):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part(header)}.{part(claims)}."


@pytest.fixture(scope="module")
def key_pair():
    """An RSA key pair, as PEM."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret.decode(), public.decode()


def refused(authenticator, token):
    with pytest.raises(InvalidFormat) as fault:
        authenticator.identify(token)
    assert fault.value.reason == "unauthenticated"
    assert SECRET not in fault.value.message
    return fault.value.message


def test_without_authentication_everyone_is_anonymous():
    """Tokens are accepted and ignored."""
    anyone = make_authenticator(Settings())
    assert not anyone.required
    assert anyone.identify("whatever").caller == "anonymous"
    assert anyone.holds(anyone.identify(""))


def test_opaque_token_identifies_its_caller_until_revoked(tmp_path):
    """A revoked token no longer holds, and an unknown one is refused."""
    settings = Settings(auth=Auth(mode="token"), storage=Storage(data_dir=tmp_path))
    assert token_file(settings) == tmp_path / "tokens"
    tokens, authenticator = Tokens(token_file(settings)), make_authenticator(settings)
    identity = authenticator.identify(tokens.create("ann"))
    assert (identity.caller, identity.expires) == ("token:ann", None)
    assert authenticator.holds(identity)
    tokens.revoke("ann")
    assert not authenticator.holds(identity)
    refused(authenticator, "crm_x_y")


def test_jwt_gives_its_subject_and_expiry():
    """The caller differs from that of an opaque token with the same name."""
    expires = time.time() + 100
    identity = jwt_authenticator().identify(signed(exp=expires))
    assert (identity.caller, int(identity.expires)) == ("jwt:ann", int(expires))


def test_jwt_holds_until_it_expires():
    """By the server's clock, with the leeway."""
    now = [1000.0]
    settings = Settings(
        auth=Auth(
            mode="jwt", jwt_key=SECRET, jwt_algorithms=("HS256",), jwt_audience="tables", jwt_leeway=2.0
        )
    )
    authenticator = make_authenticator(settings, clock=lambda: now[0])
    identity = authenticator.identify(signed(exp=time.time() + 60))
    assert authenticator.holds(identity)
    now[0] = identity.expires + 1.9
    assert authenticator.holds(identity)
    now[0] = identity.expires + 2
    assert not authenticator.holds(identity)


@pytest.mark.parametrize(("claim", "sign"), [("exp", -1), ("nbf", 1), ("iat", 1)])
def test_jwt_of_a_clock_that_differs_is_accepted_within_the_leeway(claim, sign):
    """Up to `auth.jwt_leeway`, in either direction; by default, that is 10 s."""
    assert Auth().jwt_leeway == 10
    authenticator, strict = jwt_authenticator(jwt_leeway=1000.0), jwt_authenticator(jwt_leeway=0.0)
    near, far = (signed(**{claim: time.time() + sign * seconds}) for seconds in (500, 6000))
    assert authenticator.identify(near).caller == "jwt:ann"
    refused(strict, near)
    refused(authenticator, far)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(min_value=10**300) | st.floats()
    | st.text(st.characters()) | st.sampled_from(["\ud83d", "tables", "ann"]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("exp", "nbf", "iat", "sub", "aud", "iss", "jti"), JSON))
)
def test_jwt_with_any_claims_is_accepted_or_refused(claims):
    """No claim of a rightly signed token makes the server fail, and every accepted caller can be stored as UTF-8."""
    body = {**CLAIMS, "exp": time.time() + 60, **claims}
    with contextlib.suppress(InvalidFormat):
        identity = jwt_authenticator().identify(
            jwt.api_jws.encode(json.dumps(body).encode(), SECRET, "HS256")
        )
        assert identity.caller.encode().startswith(b"jwt:")


WRONG = [
    signed(exp=time.time() - 20),
    signed(exp=10**400),
    signed(exp=float("inf")),
    signed(exp=float("nan")),
    signed(nbf=10**400),
    signed(iat=10**400),
    signed(nbf=time.time() + 3600),
    signed(aud="another"),
    signed(without=["exp"]),
    signed(without=["aud"]),
    signed(without=["sub"]),
    signed(sub=""),
    signed(sub="x" * 201),
    signed(sub="\udcff"),
    signed(sub="ann\ud83d"),
    signed(key="another key of 32 bytes, and so long enough"),
    signed(algorithm="HS512"),
    unsigned({"alg": "none", "typ": "JWT"}, {**CLAIMS, "exp": time.time() + 60}),
    unsigned({"alg": "HS256"}, {**CLAIMS, "exp": time.time() + 60}),
    signed()[:-2],
    "", ".", "..", "a.b.c", "\udcff", "é", "x" * 10_000, "[" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("token", WRONG, ids=range(len(WRONG)))
def test_invalid_jwt_is_refused(token):
    """Expired, not yet valid, wrong audience, missing claim, bad signature, wrong algorithm, garbage."""
    refused(jwt_authenticator(), token)


def test_jwt_signed_with_the_public_key_as_secret_is_refused(key_pair):
    """Algorithm confusion: the public key must not work as an HMAC secret."""
    secret, public = key_pair
    authenticator = jwt_authenticator(jwt_key=public, jwt_algorithms=("RS256",))
    assert authenticator.identify(signed(secret, "RS256")).caller == "jwt:ann"
    head = {"alg": "HS256", "typ": "JWT"}
    body = unsigned(head, {**CLAIMS, "exp": time.time() + 60}).rstrip(".")
    algorithm = jwt.get_algorithm_by_name("HS256")
    signature = base64.urlsafe_b64encode(algorithm.sign(body.encode(), public.encode())).decode().rstrip("=")
    refused(authenticator, f"{body}.{signature}")


def test_jwt_key_may_be_a_file(tmp_path, key_pair):
    """PEM, or a secret followed by a line break."""
    secret, public = key_pair
    (tmp_path / "public.pem").write_text(public)
    authenticator = jwt_authenticator(jwt_key=str(tmp_path / "public.pem"), jwt_algorithms=("RS256",))
    assert authenticator.identify(signed(secret, "RS256")).caller == "jwt:ann"
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    assert jwt_authenticator(jwt_key=str(tmp_path / "secret")).identify(signed()).caller == "jwt:ann"


@pytest.fixture
def broken_key(tmp_path, monkeypatch, request):
    """The path of a file that cannot be the key."""
    path = tmp_path / "jwt"
    match request.param:
        case "missing":
            pass
        case "relative":
            monkeypatch.chdir(tmp_path)
            return "issuer.pem"
        case "in a folder":
            monkeypatch.chdir(tmp_path)
            (tmp_path / "keys").mkdir()
            return "keys/jwt"
        case "not mounted":
            return "/not-mounted/jwt"
        case "not mounted, deep":
            return "/not-mounted/some-project/signing-keys/jwt"
        case "empty":
            path.write_text("\n")
        case "binary":
            path.write_bytes(bytes(range(128, 256)))
        case "folder":
            path.mkdir()
        case "forbidden":
            path.write_text(SECRET)

            def refuse(self, *_, **__):
                raise PermissionError(errno.EACCES, "Permission denied", str(self))

            monkeypatch.setattr(Path, "read_text", refuse)  # root may read everything
    return str(path)


@pytest.mark.parametrize(
    ("broken_key", "words"),
    [
        ("missing", "no such file"),
        ("relative", "no such file"),
        ("in a folder", "no such file"),
        ("not mounted", "no such file"),
        ("not mounted, deep", "no such file"),
        ("empty", "empty"),
        ("binary", "no text"),
        ("folder", "Is a directory"),
        ("forbidden", "Permission denied"),
    ],
    indirect=["broken_key"],
)
@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
def test_path_of_a_file_that_cannot_be_read_is_no_secret(broken_key, words, algorithm):
    """Anybody could guess it, and sign tokens with it."""
    with pytest.raises(SettingsError, match=f"^auth.jwt_key is the path of a file.*{words}"):
        jwt_authenticator(jwt_key=broken_key, jwt_algorithms=(algorithm,))


@pytest.mark.parametrize(
    "secret", ["/8aX" + SECRET + "/b=", SECRET * 8, f"{SECRET}/{SECRET}", f"a.b/{SECRET}"]
)
def test_secret_may_look_a_little_like_a_path(secret):
    """Base64 has slashes, also at its begin."""
    assert jwt_authenticator(jwt_key=secret).identify(signed(secret)).caller == "jwt:ann"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"jwt_key": None}, "auth.jwt_key"),
        ({"jwt_algorithms": ()}, "auth.jwt_algorithms"),
        ({"jwt_audience": None}, "auth.jwt_audience"),
        ({"jwt_algorithms": ("none",)}, "none"),
        ({"jwt_algorithms": ("HS257",)}, "HS257"),
        ({"jwt_algorithms": ("HS256", "RS256")}, "one kind"),
        ({"jwt_algorithms": ("RS256",)}, "not a key for RS256"),
    ],
)
def test_insufficient_jwt_settings_are_refused(changes, words):
    """The server does not start and says why; the message does not contain the key."""
    with pytest.raises(SettingsError, match=words) as fault:
        jwt_authenticator(**changes)
    assert SECRET not in str(fault.value)


@pytest.mark.parametrize("header", ["Bearer abc", "bearer abc", "BEARER  abc ", " Bearer abc"])
def test_bearer_scheme_in_any_case_gives_the_token(header):
    """The scheme is case-insensitive (RFC 9110 section 11.1)."""
    assert bearer(header) == "abc"


@pytest.mark.parametrize("header", ["", "abc", "Basic abc", "Bearer", "Bearer ", "Bearerabc"])
def test_other_authorization_scheme_is_refused(header):
    """The error says which scheme is expected."""
    with pytest.raises(InvalidFormat, match="Bearer TOKEN"):
        bearer(header)
