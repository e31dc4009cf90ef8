"""Refusals say their sentence in the language that the client asks for; codes stay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.dependencies import CurrentAuth, get_current_user
from fastapi_pluggable_auth.errors import AuthError, ErrorCode, ErrorTable, Refused
from fastapi_pluggable_auth.hooks import BeforeSignup
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.words.texts import words_for

from .conftest import EMAIL, PASSWORD

DIALECTS = ("sqlite",)
WRONG = {"email": EMAIL, "password": "wrong password"}
ENGLISH = ErrorCode.INVALID_CREDENTIALS.detail
GERMAN = "E-Mail-Adresse, Passwort oder Code ist falsch."


@pytest.mark.parametrize(
    ("header", "language", "sentence"),
    [
        (None, "en", ENGLISH),
        ("", "en", ENGLISH),
        ("en-GB,de;q=0.5", "en", ENGLISH),
        ("nl", "en", ENGLISH),
        ("nl,de-AT;q=0.5", "de", GERMAN),
        ("*", "en", ENGLISH),
        ("\xff", "en", ENGLISH),
    ],
)
async def test_a_refusal_is_in_the_language_of_the_client(
    header: str | None, language: str, sentence: str, client: httpx.AsyncClient
) -> None:
    headers = {} if header is None else {"Accept-Language": header.encode("latin-1")}
    answer = await client.post("/auth/login", json=WRONG, headers=headers)
    assert answer.json() == {"detail": sentence, "code": "invalid_credentials"}
    assert (answer.status_code, answer.headers["content-language"]) == (401, language)
    assert "Accept-Language" in answer.headers["vary"]


async def test_a_refusal_in_a_route_of_the_host_is_so_too(app: FastAPI, client: httpx.AsyncClient) -> None:
    @app.get("/notes")
    async def notes(user: Annotated[User, Depends(get_current_user)]) -> None: ...

    answer = await client.get("/notes", headers={"Accept-Language": "de"})
    assert answer.json() == {"detail": "Bitte melden Sie sich an.", "code": "not_authenticated"}
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_languages_that_the_settings_leave_out_are_not_spoken(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    settings.languages = ["en"]
    answer = await client.post("/auth/login", json=WRONG, headers={"Accept-Language": "de"})
    assert (answer.json()["detail"], answer.headers["content-language"]) == (ENGLISH, "en")
    page = await client.get("/auth/verify/x", headers={"Accept": "text/html", "Accept-Language": "de"})
    assert page.headers["content-language"] == "en"
    await client.post(
        "/auth/signup", json={"email": EMAIL, "password": PASSWORD}, headers={"Accept-Language": "de"}
    )
    assert (await User.get()).language is None


async def test_a_refusal_of_a_hook_has_the_words_of_the_app(
    client: httpx.AsyncClient, auth: Auth, template_dir: Path, settings: AuthSettings
) -> None:
    @auth.on(BeforeSignup)
    async def refuse(event: BeforeSignup) -> None:
        raise Refused("Not today.", code=event.email.partition("@")[0])

    (template_dir / "words").mkdir()
    words = '[errors]\nclosed = "Heute nicht."\nfull = "Mit {x}."\nodd = "{minimum.x}"\nempty = "{}"'
    (template_dir / "words" / "de.toml").write_text(words)
    settings.template_dir = template_dir
    said = []
    for code in ("closed", "elsewhere", "full", "odd", "empty"):
        body = {"email": f"{code}@example.com", "password": PASSWORD}
        answer = await client.post("/auth/signup", json=body, headers={"Accept-Language": "de"})
        said.append((answer.json()["detail"], answer.headers.get("content-language")))
    # Nobody knows in which language a hook says what it says.
    assert said == [("Heute nicht.", "de"), *[("Not today.", None)] * 4]


async def test_the_language_of_a_sentence_is_said_where_it_is_known(
    client: httpx.AsyncClient, auth: Auth, app: FastAPI
) -> None:
    class OwnError(ErrorTable):
        NOT_YET = (409, "Noch nicht.")

    raised: list[AuthError] = [
        Refused("Heute nicht."),
        AuthError(OwnError.NOT_YET),
        AuthError(ErrorCode.PERMISSION_DENIED, detail="Das darf nur der Vorstand."),
        AuthError(ErrorCode.PERMISSION_DENIED),
    ]

    @app.get("/raises/{number}")
    async def raises(number: int, auth: CurrentAuth) -> None:
        raise raised[number]

    for language in ({}, {"Accept-Language": "en"}, {"Accept-Language": "de"}):
        answers = [await client.get(f"/raises/{number}", headers=language) for number in range(4)]
        known = [answer.headers.get("content-language") for answer in answers]
        assert known == [None, None, None, "de" if "de" in language.values() else "en"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"languages": "en,xx"}, "There are no words in xx"),
        ({"languages": "de"}, "lacks en, which is AUTH_DEFAULT_LANGUAGE"),
    ],
)
def test_languages_that_cannot_be_are_refused_at_the_start(
    values: dict[str, str], said: str, settings: AuthSettings
) -> None:
    chosen = AuthSettings(_env_file=None, jwt_secret=settings.jwt_secret, **values)
    with pytest.raises(ValueError, match=said):
        include_auth(FastAPI(), settings=chosen)


def test_an_app_may_speak_one_language_that_is_not_english(settings: AuthSettings) -> None:
    chosen = AuthSettings(
        _env_file=None, jwt_secret=settings.jwt_secret, languages="de", default_language="de"
    )
    include_auth(FastAPI(), settings=chosen)
    assert words_for(chosen, None, "en").language == "de"
