"""The password meter: how good a password is, before it is chosen."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from tortoise.context import TortoiseContext
from zxcvbn import matching

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.errors import PASSWORD_REFUSALS
from fastapi_pluggable_auth.routes.pages.strength import LEVELS
from fastapi_pluggable_auth.security.guessing import PLACES, Hint, rate
from fastapi_pluggable_auth.words.texts import offered_languages, words_for

from .conftest import EMAIL, PASSWORD

DIALECTS = ("sqlite",)
PATH = "/account/password-strength"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "Accept-Language": "en"}
COSTLY = "4@8({[<369!1|7$5"
"""Of which zxcvbn makes hundreds of words."""


@pytest.fixture
def page(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """What a script of a page asks with, in an app that has link pages alone."""
    client.headers.update(OWN_PAGE)
    return client


async def said_of(page: httpx.AsyncClient, password: str, email: str = "", **headers: str) -> tuple[int, str]:
    answer = await page.post(PATH, json={"password": password, "email": email}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["score"], answer.json()["said"]


@pytest.mark.parametrize(
    ("password", "score", "said"),
    [
        ("tall giraffe river", 4, "Very good."),
        ("giraffe44tall", 3, "Good."),
        ("p@$$w0rd!", 1, "Easy to guess. It resembles a common password. Add another word or two."),
        ("encyclopedia", 1, "Easy to guess. Single words are tried early. Add another word or two."),
        ("elisabeth77", 1, "Easy to guess. Names are tried early. Add another word or two."),
        (
            "bhu89ijnm",
            2,
            "Could be stronger. Keys that are side by side are tried early. Add another word or two.",
        ),
        ("abcabcabcabc", 0, "Very easy to guess. Repeating something adds little. Add another word or two."),
        (
            "abcdefghij",
            0,
            "Very easy to guess. Runs such as abc or 6543 add little. Add another word or two.",
        ),
        ("12.03.1987", 1, "Easy to guess. Dates and years are tried early. Add another word or two."),
    ],
)
async def test_the_meter_says_how_good_a_password_is_and_what_would_help(
    page: httpx.AsyncClient, password: str, score: int, said: str
) -> None:
    """ASVS 6.2.7."""
    assert await said_of(page, password) == (score, said)


async def test_what_was_typed_beside_it_counts(page: httpx.AsyncClient) -> None:
    personal = "It has something about you in it."
    assert personal not in (await said_of(page, "lovelacebernoulli"))[1]
    assert personal in (await said_of(page, "lovelacebernoulli", "bernoulli@lovelace.example"))[1]


@pytest.mark.parametrize("password", ["password1", "myapp1234", "ada12345"])
async def test_what_a_form_would_refuse_is_said_as_it_would_say_it(
    page: httpx.AsyncClient, password: str
) -> None:
    score, said = await said_of(page, password, EMAIL)
    refused = await page.post("/auth/signup", json={"email": EMAIL, "password": password})
    assert (score, refused.status_code) == (0, 422)
    words = words_for(AuthSettings(_env_file=None), None, "en")
    assert said == words(f"errors.{refused.json()['code']}")
    assert "several words" in said


async def test_it_speaks_the_language_of_the_page(page: httpx.AsyncClient) -> None:
    german = {"Accept-Language": "de"}
    assert (await said_of(page, "tall giraffe river", **german))[1] == "Sehr gut."
    assert "nichts miteinander zu tun" in (await said_of(page, "password1", **german))[1]


@pytest.mark.parametrize("language", sorted(offered_languages(AuthSettings(_env_file=None))))
def test_there_are_words_for_all_that_it_may_say(language: str) -> None:
    words = words_for(AuthSettings(_env_file=None), language, "")
    for key in (*LEVELS, *Hint, "longer"):
        assert words(f"strength.{key}")[-1] in ".。"
    for refusal in PASSWORD_REFUSALS:
        assert words(f"errors.{refusal.code}")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-origin", "Content-Type": "text/plain"},
    ],
)
async def test_only_a_page_of_the_app_may_ask(page: httpx.AsyncClient, headers: dict[str, str]) -> None:
    body = f'{{"password": "{PASSWORD}"}}'
    answer = await page.post(PATH, content=body, headers={"Content-Type": "application/json"} | headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf_refused")
    del page.headers["Sec-Fetch-Site"]
    assert (await page.post(PATH, json={"password": PASSWORD})).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {"password": "short"},
        {"password": "x" * 1025},
        {"password": "x" * 10_000},
        {"password": PASSWORD, "email": "x" * 321},
        {"password": [PASSWORD]},
        {"password": PASSWORD, "account": EMAIL},
        {},
    ],
)
async def test_what_no_form_takes_is_refused_at_once(
    page: httpx.AsyncClient, body: dict[str, object]
) -> None:
    answer = await page.post(PATH, json=body)
    assert answer.status_code == 422
    assert PASSWORD not in answer.text


async def test_a_password_that_was_asked_about_is_nowhere(
    page: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in a log, and not in the tables of zxcvbn, which last as long as the process."""
    caplog.set_level(logging.DEBUG)
    password, address = "some quite secret words", "nobody.else@example.com"
    await said_of(page, password, address)
    assert not [record for record in caplog.records if password in record.getMessage()]
    assert "user_inputs" not in matching.RANKED_DICTIONARIES
    assert not [name for name, words in matching.RANKED_DICTIONARIES.items() if address in words]


async def test_costly_passwords_hold_up_nobody(page: httpx.AsyncClient) -> None:
    """Those of one client wait in a short queue, and other requests do not wait for them."""
    asked = [
        asyncio.create_task(page.post(PATH, json={"password": f"{COSTLY}{number}" * 9}))
        for number in range(3 * PLACES)
    ]
    await asyncio.sleep(0)
    assert (await page.get("/auth/me")).status_code == 401
    assert not all(each.done() for each in asked)
    answers = await asyncio.gather(*asked)
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() == {200, 503}
    assert statuses[200] >= PLACES
    assert {answer.headers.get("retry-after") for answer in answers if answer.status_code == 503} == {"2"}


@pytest.mark.parametrize("password", [COSTLY * 64, "a1" * 512, "|!1l" * 256, "12" * 512, "({[<@4" * 170])
def test_no_password_takes_long_to_rate(password: str) -> None:
    """CPU time: zxcvbn as it is takes minutes for these."""
    rate("warm")
    started = time.thread_time()
    rate(password, [password] * 8)
    assert time.thread_time() - started < 0.3


@given(st.text(max_size=60), st.lists(st.text(max_size=20), max_size=4))
def test_every_text_has_a_score(password: str, about: list[str]) -> None:
    assert 0 <= rate(password, about).score <= 4


async def test_pages_that_choose_a_password_may_ask_and_no_other(
    settings: AuthSettings, tortoise: TortoiseContext
) -> None:
    app = FastAPI()
    include_auth(app, settings=settings, pages=True)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost:8000", headers={"Accept": "text/html"}
    ) as client:
        for name, may in (("sign-up", True), ("sign-in", False), ("forgot-password", False)):
            answer = await client.get(f"/account/{name}")
            assert ("connect-src 'self'" in answer.headers["content-security-policy"]) is may
            assert (f'data-strength="{PATH}"' in answer.text) is may
