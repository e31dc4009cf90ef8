"""Signing keys: algorithms, rotation, publication, and what is refused at the start."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi import FastAPI
from jose import jwk, jws

from fastapi_pluggable_auth import Auth, AuthSettings, InsecureSettingsError, include_auth
from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.security.keys import key_set

from .conftest import SECRET, Account, Clock

# What is tested here is the same on every database.
DIALECTS = ("sqlite",)

OLD_SECRET = "an old secret of 32 characters or more"


def pem_of(key: Any) -> str:
    text: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return text.decode()


def public_pem_of(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return text.decode()


RSA = rsa.generate_private_key(65537, 2048)
WEAK_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
EC = ec.generate_private_key(ec.SECP256R1())
OTHER_EC = ec.generate_private_key(ec.SECP256R1())
WIDE_EC = ec.generate_private_key(ec.SECP521R1())


def header_of(token: str) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    return header


async def public_keys(client: httpx.AsyncClient) -> list[dict[str, str]]:
    answer = await client.get("/.well-known/jwks.json")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert answer.headers["access-control-allow-origin"] == "*"
    keys: list[dict[str, str]] = answer.json()["keys"]
    return keys


@pytest.mark.parametrize(
    ("algorithm", "key"), [("RS256", RSA), ("RS512", RSA), ("ES256", EC), ("ES512", WIDE_EC)]
)
async def test_other_services_can_check_access_tokens_with_the_published_key(
    algorithm: str, key: Any, account: Account, settings: AuthSettings
) -> None:
    settings.jwt_private_key = pem_of(key)
    settings.jwt_algorithm = algorithm  # type: ignore[assignment]
    assert (await account.login()).status_code == 200
    assert (await account.me()).status_code == 200
    assert (await account.refresh()).status_code == 200
    (published,) = await public_keys(account.client)
    assert header_of(account.access_token)["kid"] == published["kid"]
    assert (published["alg"], published["use"]) == (algorithm, "sig")
    assert not {"d", "p", "q", "k"} & set(published)
    claims = json.loads(jws.verify(account.access_token, published, algorithms=[algorithm]))
    assert claims["sub"] == (await account.me()).json()["id"]


async def test_a_shared_secret_is_not_published(client: httpx.AsyncClient) -> None:
    assert await public_keys(client) == []


@pytest.mark.parametrize("kind", ["secret", "pair"])
async def test_a_rotated_key_is_good_until_it_is_dropped(
    kind: str, account: Account, settings: AuthSettings
) -> None:
    """R-33, A-62: add a key, sign with it, keep the old one, drop it."""
    if kind == "pair":
        settings.jwt_private_key, settings.jwt_algorithm = pem_of(EC), "ES256"
        await account.login()
    old_access, old_refresh = account.access_token, account.refresh_token

    if kind == "pair":
        settings.jwt_private_key, settings.jwt_previous_keys = pem_of(OTHER_EC), [public_pem_of(EC)]
    else:
        settings.jwt_secret, settings.jwt_previous_keys = OLD_SECRET, [SECRET]
    assert (await account.me(old_access)).status_code == 200
    fresh = (await account.refresh(old_refresh)).json()
    assert header_of(fresh["access_token"])["kid"] != header_of(old_access)["kid"]
    assert len(await public_keys(account.client)) == (2 if kind == "pair" else 0)

    settings.jwt_previous_keys = []
    assert (await account.me(old_access)).status_code == 401
    assert (await account.me(fresh["access_token"])).status_code == 200
    assert (await account.refresh(fresh["refresh_token"])).status_code == 200


async def test_no_request_fails_while_a_key_is_rotated_under_load(
    account: Account, settings: AuthSettings
) -> None:
    """R-33."""
    old = account.access_token

    async def requests() -> list[int]:
        return [(await account.me(old)).status_code for _ in range(30)]

    load = asyncio.gather(*(requests() for _ in range(4)))
    settings.jwt_previous_keys = [SECRET]
    await asyncio.sleep(0)
    settings.jwt_secret = OLD_SECRET
    assert Counter(status for statuses in await load for status in statuses) == {200: 120}


async def test_a_public_key_is_no_hmac_key(account: Account, settings: AuthSettings) -> None:
    """RFC 8725 section 2.1: the published key as the secret of an HMAC, with each algorithm name."""
    settings.jwt_private_key, settings.jwt_algorithm = pem_of(RSA), "RS256"
    await account.login()
    claims = json.loads(base64.urlsafe_b64decode(account.access_token.split(".")[1] + "=="))
    kid = header_of(account.access_token)["kid"]
    der = RSA.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for secret in (base64.b64encode(der).decode(), json.dumps((await public_keys(account.client))[0])):
        for headers in ({"typ": "at+jwt", "kid": kid}, {"typ": "at+jwt"}):
            key = jwk.construct(secret, "HS256")
            forged = jws.sign(claims, key, headers=headers, algorithm="HS256")
            assert (await account.me(forged)).status_code == 401


async def test_deployments_that_share_a_key_do_not_accept_each_others_tokens(
    auth: Auth, account: Account, settings: AuthSettings
) -> None:
    """A-57."""
    for name in ("jwt_audience", "jwt_issuer", "public_base_url"):
        other = settings.model_copy()
        setattr(other, name, "http://other.test")
        foreign = Auth(other, clock=auth.clock).signer.access_token(
            (await account.me()).json()["id"],
        )
        assert (await account.me(foreign)).status_code == 401
    own = auth.signer.access_token((await account.me()).json()["id"])
    assert (await account.me(own)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"jwt_algorithm": "RS256"}, "JWT_PRIVATE_KEY is not set"),
        ({"jwt_algorithm": "RS256", "jwt_private_key": "nonsense"}, "neither PEM"),
        ({"jwt_algorithm": "RS256", "jwt_private_key": "-----BEGIN X-----"}, "does not fit"),
        ({"jwt_algorithm": "RS256", "jwt_private_key": pem_of(EC)}, "does not fit|RSA"),
        ({"jwt_algorithm": "RS256", "jwt_private_key": pem_of(WEAK_RSA)}, "1024 bits"),
        ({"jwt_algorithm": "RS256", "jwt_private_key": public_pem_of(RSA)}, "public key"),
        ({"jwt_algorithm": "ES256", "jwt_private_key": pem_of(WIDE_EC)}, "curve of 256 bits, not 521"),
        ({"jwt_algorithm": "HS256", "jwt_secret": public_pem_of(RSA)}, "does not fit"),
    ],
)
def test_keys_that_do_not_fit_are_refused_at_the_start(
    changes: dict[str, Any], complaint: str, settings: AuthSettings
) -> None:
    """A-53, A-58: also on localhost."""
    unfit = settings.model_copy(update=changes)
    with pytest.raises(InsecureSettingsError, match=complaint):
        include_auth(FastAPI(), settings=unfit)


def test_a_key_may_be_a_file_or_one_line(tmp_path: Path, settings: AuthSettings) -> None:
    file = tmp_path / "key.pem"
    file.write_text(pem_of(EC))
    ids = set()
    for text in (str(file), pem_of(EC), pem_of(EC).strip().replace("\n", "\\n")):
        fit = settings.model_copy(update={"jwt_algorithm": "ES256", "jwt_private_key": text})
        ids.add(key_set(fit).signing_id)
        assert pem_of(EC).splitlines()[1] not in repr(fit)
    assert len(ids) == 1


def test_the_check_command_tells_of_unfit_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JWT_ALGORITHM", "ES256")
    assert main(["check"]) == 1
    assert "JWT_PRIVATE_KEY is not set" in capsys.readouterr().out


async def test_the_secret_of_a_key_pair_deployment_does_not_matter(settings: AuthSettings) -> None:
    settings.public_base_url = "https://app.example.com"
    settings.jwt_secret = "CHANGE_ME"
    settings.jwt_private_key, settings.jwt_algorithm = pem_of(EC), "ES256"
    include_auth(FastAPI(), settings=settings)


async def test_expired_and_spent_is_still_theft(account: Account, clock: Clock) -> None:
    """A-52: whoever replays a token that was spent long ago ends the session, expired or not."""
    first = account.refresh_token
    for _ in range(3):
        clock.advance(days=3)
        account.refresh_token = (await account.refresh()).json()["refresh_token"]
    assert (await account.refresh(first)).status_code == 401
    assert (await account.refresh()).status_code == 401
    assert (await account.login()).status_code == 200
