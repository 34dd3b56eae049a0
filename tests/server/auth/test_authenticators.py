"""Who a caller is: what tokens say, and what they cannot say."""

import base64
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from creemson.errors import InvalidFormat
from creemson.server.identity import bearer, make_authenticator, token_file
from creemson.server.tokens import Tokens
from creemson.settings import Auth, Settings, SettingsError, Storage

SECRET = "0123456789abcdef" * 4
CLAIMS = {"sub": "ann", "aud": "tables"}


def by_jwt(**changes):
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
def pair():
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


def test_anybody_is_the_same_caller_without_authentication():
    """A token does no harm."""
    anyone = make_authenticator(Settings())
    assert not anyone.required
    assert anyone.identify("whatever").caller == "anonymous"
    assert anyone.holds(anyone.identify(""))


def test_an_opaque_token_names_its_caller(tmp_path):
    """Until it is revoked."""
    settings = Settings(auth=Auth(mode="token"), storage=Storage(data_dir=tmp_path))
    assert token_file(settings) == tmp_path / "tokens"
    tokens, authenticator = Tokens(token_file(settings)), make_authenticator(settings)
    identity = authenticator.identify(tokens.create("ann"))
    assert (identity.caller, identity.expires) == ("token:ann", None)
    assert authenticator.holds(identity)
    tokens.revoke("ann")
    assert not authenticator.holds(identity)
    refused(authenticator, "crm_x_y")


def test_a_jwt_names_its_subject_and_its_end():
    """The caller is not that of an opaque token of the same name."""
    expires = time.time() + 100
    identity = by_jwt().identify(signed(exp=expires))
    assert (identity.caller, int(identity.expires)) == ("jwt:ann", int(expires))


def test_a_jwt_holds_until_its_end():
    """By the server's clock."""
    now = [1000.0]
    settings = Settings(
        auth=Auth(mode="jwt", jwt_key=SECRET, jwt_algorithms=("HS256",), jwt_audience="tables")
    )
    authenticator = make_authenticator(settings, clock=lambda: now[0])
    identity = authenticator.identify(signed(exp=time.time() + 60))
    assert authenticator.holds(identity)
    now[0] = identity.expires
    assert not authenticator.holds(identity)


WRONG = [
    signed(exp=time.time() - 1),
    signed(nbf=time.time() + 3600),
    signed(aud="another"),
    signed(without=["exp"]),
    signed(without=["aud"]),
    signed(without=["sub"]),
    signed(sub=""),
    signed(sub="x" * 201),
    signed(key="another key of 32 bytes, and so long enough"),
    signed(algorithm="HS512"),
    unsigned({"alg": "none", "typ": "JWT"}, {**CLAIMS, "exp": time.time() + 60}),
    unsigned({"alg": "HS256"}, {**CLAIMS, "exp": time.time() + 60}),
    signed()[:-2],
    "", ".", "..", "a.b.c", "\udcff", "é", "x" * 10_000, "[" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("token", WRONG, ids=range(len(WRONG)))
def test_what_is_no_valid_jwt(token):
    """Expired, not yet valid, of another audience, without a claim, badly signed, of another algorithm, garbage."""
    refused(by_jwt(), token)


def test_the_public_key_is_no_secret(pair):
    """Algorithm confusion: a token signed with the public key as if it were an HMAC secret."""
    secret, public = pair
    authenticator = by_jwt(jwt_key=public, jwt_algorithms=("RS256",))
    assert authenticator.identify(signed(secret, "RS256")).caller == "jwt:ann"
    head = {"alg": "HS256", "typ": "JWT"}
    body = unsigned(head, {**CLAIMS, "exp": time.time() + 60}).rstrip(".")
    algorithm = jwt.get_algorithm_by_name("HS256")
    signature = base64.urlsafe_b64encode(algorithm.sign(body.encode(), public.encode())).decode().rstrip("=")
    refused(authenticator, f"{body}.{signature}")


def test_a_key_may_be_in_a_file(tmp_path, pair):
    """As PEM, or a secret with a line break behind it."""
    secret, public = pair
    (tmp_path / "public.pem").write_text(public)
    authenticator = by_jwt(jwt_key=str(tmp_path / "public.pem"), jwt_algorithms=("RS256",))
    assert authenticator.identify(signed(secret, "RS256")).caller == "jwt:ann"
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    assert by_jwt(jwt_key=str(tmp_path / "secret")).identify(signed()).caller == "jwt:ann"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"jwt_key": None}, "auth.jwt_key"),
        ({"jwt_algorithms": ()}, "auth.jwt_algorithms"),
        ({"jwt_audience": None}, "auth.jwt_audience"),
        ({"jwt_algorithms": ("none",)}, "none"),
        ({"jwt_algorithms": ("HS257",)}, "HS257"),
        ({"jwt_algorithms": ("HS256", "RS256")}, "one kind"),
        ({"jwt_algorithms": ("RS256",)}, "no key for RS256"),
    ],
)
def test_settings_that_do_not_suffice(changes, words):
    """The server does not start, and says why; the key itself is not shown."""
    with pytest.raises(SettingsError, match=words) as fault:
        by_jwt(**changes)
    assert SECRET not in str(fault.value)


@pytest.mark.parametrize("header", ["Bearer abc", "bearer abc", "BEARER  abc ", " Bearer abc"])
def test_a_bearer_token(header):
    """The scheme in any case (RFC 9110 section 11.1)."""
    assert bearer(header) == "abc"


@pytest.mark.parametrize("header", ["", "abc", "Basic abc", "Bearer", "Bearer ", "Bearerabc"])
def test_another_scheme(header):
    """It says what is wanted."""
    with pytest.raises(InvalidFormat, match="Bearer TOKEN"):
        bearer(header)
