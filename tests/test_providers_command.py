"""`providers check`: what an operator learns of the providers of an app, each a real server here."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.features.social_login.id_tokens import public_half
from fastapi_pluggable_auth.features.social_login.testing import CLIENT_ID, CLIENT_SECRET, IdentityProvider

from .conftest import SECRET

APP = """
from fastapi import FastAPI

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import Oidc, SocialLogin

app, plain = FastAPI(), FastAPI()
settings = AuthSettings(jwt_secret="{secret}", bcrypt_rounds=4)
acme = Oidc("acme-id", issuer="{issuer}"{more})
include_auth(app, settings=settings, features=[SocialLogin(acme)])
include_auth(plain, settings=settings)
"""
WHERE = "acme-id: the redirect address to paste there is http://localhost:8000/auth/social/acme-id/callback"

Ask = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider().serving() as provider:
        provider.secret = CLIENT_SECRET
        yield provider


@pytest.fixture
def ask(
    provider: IdentityProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Ask]:
    """Runs the command, and gives its status and lines; a secret is in none of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("AUTH_ACME_ID_CLIENT_ID", CLIENT_ID)
    monkeypatch.setenv("AUTH_ACME_ID_CLIENT_SECRET", CLIENT_SECRET)

    def asked(*, issuer: str = "", more: str = "", app: str = "app") -> tuple[int, list[str]]:
        text = APP.format(secret=SECRET, issuer=issuer or provider.issuer, more=more)
        (tmp_path / "app_of_providers.py").write_text(text)
        sys.modules.pop("app_of_providers", None)
        sys.path_importer_cache.clear()
        status = main(["providers", "check", "--app", f"app_of_providers:{app}"])
        captured = capsys.readouterr()
        assert not [each for each in (CLIENT_SECRET, SECRET) if each in captured.out + captured.err]
        return status, (captured.out + captured.err).splitlines()

    yield asked
    sys.modules.pop("app_of_providers", None)


def failures(lines: list[str]) -> list[str]:
    return [line.removeprefix("FAIL  ") for line in lines if line.startswith("FAIL")]


def test_a_provider_that_is_set_up_well_passes_and_the_address_to_paste_is_shown(ask: Ask) -> None:
    looked = (
        "document",
        "code",
        "PKCE",
        "signatures",
        "keys",
        "client authentication",
        "credentials",
        "clock",
    )
    assert ask() == (0, [WHERE, *(f"ok    {each}" for each in looked)])


@pytest.mark.parametrize(
    ("published", "problem"),
    [
        ({"issuer": "https://other.example"}, "document: {issuer} says to be 'https://other.example': set"),
        ({"response_types_supported": ["id_token"]}, "code: it does not support the code flow"),
        ({"code_challenge_methods_supported": ["plain"]}, "PKCE: it does not support PKCE with S256"),
        ({"code_challenge_methods_supported": "S256"}, "PKCE: it does not support PKCE with S256"),
        ({"id_token_signing_alg_values_supported": ["HS256"]}, "signatures: it signs by HS256: have it sign"),
        (
            {"jwks_uri": "http://id.example/keys"},
            "keys: its keys are not to be had at 'http://id.example/keys'",
        ),
        (
            {"token_endpoint_auth_methods_supported": ["private_key_jwt"]},
            "client authentication: it takes private_key_jwt alone: allow",
        ),
        (
            {"token_endpoint": "http://id.example/token"},
            "token endpoint: token_endpoint is 'http://id.example",
        ),
    ],
)
def test_what_a_provider_publishes_that_is_not_right_is_said_with_what_to_do(
    published: dict[str, object], problem: str, provider: IdentityProvider, ask: Ask
) -> None:
    provider.published = published
    status, lines = ask()
    assert (status, lines[0]) == (1, WHERE)
    (failed,) = failures(lines)
    assert failed.startswith(problem.format(issuer=provider.issuer))
    assert failed.endswith(".")


def test_an_issuer_is_compared_letter_by_letter(provider: IdentityProvider, ask: Ask) -> None:
    """OpenID Connect Discovery section 4.3: one with a slash at its end is another."""
    status, lines = ask(issuer=f"{provider.issuer}/")
    (failed,) = failures(lines)
    assert (status, f"says to be '{provider.issuer}'" in failed) == (1, True)


def test_a_provider_that_says_nothing_of_pkce_is_noted_and_passes(
    provider: IdentityProvider, ask: Ask
) -> None:
    document = provider.document

    def without(place: str = "") -> dict[str, object]:
        said = document(place)
        del said["code_challenge_methods_supported"]
        return said

    provider.document = without  # type: ignore[method-assign]
    status, lines = ask()
    assert status == 0
    assert "note  PKCE: it does not say whether it supports PKCE with S256, which is sent." in lines


def test_a_provider_that_is_down_is_said(ask: Ask) -> None:
    with IdentityProvider().serving() as gone:
        issuer = gone.issuer
    status, lines = ask(issuer=issuer)
    (failed,) = failures(lines)
    assert (status, failed.startswith(f"document: {issuer} does not answer (")) == (1, True)


@pytest.mark.parametrize(("seconds", "way"), [(75, "behind"), (-75, "ahead of")])
def test_a_clock_that_is_wrong_is_said(seconds: int, way: str, provider: IdentityProvider, ask: Ask) -> None:
    provider.clock = lambda: time.time() + seconds
    status, lines = ask()
    (failed,) = failures(lines)
    assert (status, f" s {way} its clock" in failed, "NTP" in failed) == (1, True, True)
    provider.clock = lambda: time.time() + seconds * 0.7
    assert ask()[0] == 0, "within the minute that is allowed"


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("another-secret", "it refuses the client id or the secret: copy AUTH_ACME_ID_CLIENT_ID and"),
        (None, "it wants a secret: set AUTH_ACME_ID_CLIENT_SECRET"),
    ],
)
def test_credentials_that_the_provider_refuses_are_said(
    secret: str | None, problem: str, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    if secret is None:
        monkeypatch.delenv("AUTH_ACME_ID_CLIENT_SECRET")
    else:
        monkeypatch.setenv("AUTH_ACME_ID_CLIENT_SECRET", secret)
    status, lines = ask()
    (failed,) = failures(lines)
    assert (status, failed.startswith(f"credentials: {problem}")) == (1, True)
    assert secret is None or secret not in failed


def test_a_missing_client_id_is_said(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTH_ACME_ID_CLIENT_ID")
    status, lines = ask()
    assert (status, "AUTH_ACME_ID_CLIENT_ID is not set" in lines[0]) == (1, True)


def test_a_provider_without_keys_that_sign_is_said(provider: IdentityProvider, ask: Ask) -> None:
    assert ask()[0] == 0
    key = {**public_half(provider.key), "use": "enc"}
    provider.keys = [key, {"kty": "oct", "k": "c2VjcmV0"}, {"kty": "unheard of"}]
    status, lines = ask()
    assert (status, failures(lines)) == (1, ["keys: it publishes no key that signs: check `jwks_uri` there."])


def test_a_token_endpoint_that_answers_no_json_is_said(provider: IdentityProvider, ask: Ask) -> None:
    def page(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"<p>Good morning</p>")

    provider.raw = page
    status, lines = ask()
    (failed,) = failures(lines)
    assert (status, failed.startswith("token endpoint: ")) == (1, True)


def test_an_app_without_social_login_and_none_at_all_are_said(
    ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(app="plain")[1] == [
        "app_of_providers:plain has no social login: name SocialLogin(...) among its features."
    ]
    assert main(["providers", "check"]) == 1
    assert capsys.readouterr().err.startswith("Pass --app, such as --app main:app")
