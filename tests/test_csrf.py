"""Requests that other sites make in the name of a browser."""

from __future__ import annotations

import itertools
import json
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI, Form, Request
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from fastapi_pluggable_auth import (
    Auth,
    AuthSettings,
    CurrentUser,
    PageUser,
    SecurityEvent,
    csrf_token,
    include_auth,
)
from fastapi_pluggable_auth.dependencies import CurrentAuth
from fastapi_pluggable_auth.http.csrf import check_form
from fastapi_pluggable_auth.models import RefreshToken, Session, User
from fastapi_pluggable_auth.security.csrf import is_form_token, make_form_token
from fastapi_pluggable_auth.security.keys import key_set
from fastapi_pluggable_auth.security.redirects import safe_next

from .conftest import SECRET, Clock
from .test_cookies import (
    BASE,
    CREDENTIALS,
    attributes,
    browser,
    client_with,
    cookies_of,
    set_cookies,
    settings,
    signed_in,
)
from .test_fuzzing import any_text, bounded
from .test_keys import pem_of

__all__ = ["browser", "settings", "signed_in"]

DIALECTS = ("sqlite",)

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
OWN = {"Sec-Fetch-Site": "same-origin"}
TRUSTED = "https://spa.example.com"
EVIL = "https://evil.example"

FOREIGN: tuple[dict[str, str], ...] = (
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "cross-site", "Origin": EVIL},
    {"Sec-Fetch-Site": "same-site", "Origin": "https://blog.example.com"},
    {"Origin": EVIL},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://app.example.com"},
    {"Origin": "https://app.example.com:8443"},
    {"Origin": f"{BASE}.evil.example"},
    {"Origin": f"{BASE}, {EVIL}"},
    {"Sec-Fetch-Site": "same-origin, same-origin"},
)
"""What a page of another origin, or no page at all, sends."""

SIMPLE: tuple[dict[str, str], ...] = (
    {},
    FORM,
    {"Content-Type": "text/plain"},
    {"Content-Type": "text/plain; application/json"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Content-Type": "application/x-www-form-urlencoded; charset=application/json"},
)
"""What a plain form of any site can send."""

FORMS = [each for each in SIMPLE if "form" in each.get("Content-Type", "")]
"""Those that are forms by their content type."""

NO_FETCH_METADATA = {"Origin": BASE}
"""What an own page sends in browsers that do not know `Sec-Fetch-Site`, and over http."""


@pytest.fixture
def app(app: FastAPI) -> FastAPI:
    """A host app with a form of its own."""

    @app.get("/form")
    async def form(request: Request) -> str:
        return csrf_token(request)

    @app.post("/form")
    async def post(request: Request, name: str = Form()) -> str:
        await check_form(request)
        return name

    @app.post("/notes")
    async def add_note(user: CurrentUser, text: str = Form()) -> str:
        return text

    @app.post("/page")
    async def page(user: PageUser) -> str:
        return user.email

    @app.get("/notes")
    async def notes(user: CurrentUser) -> str:
        return "none"

    @app.delete("/notes")
    async def clear(user: CurrentUser) -> str:
        return "cleared"

    return app


@pytest.fixture
def events(auth: Auth) -> list[SecurityEvent]:
    heard: list[SecurityEvent] = []
    auth.on(SecurityEvent)(heard.append)
    return heard


def is_refused(answer: httpx.Response) -> bool:
    return answer.status_code == 403 and answer.json()["code"] == "csrf_refused" and not set_cookies(answer)


async def test_another_site_cannot_use_the_cookies(
    app: FastAPI, signed_in: httpx.AsyncClient, events: list[SecurityEvent]
) -> None:
    """A-77, A-90: routes of the library and of the host alike; each refusal is an event."""
    cookies = cookies_of(signed_in)
    for headers in FOREIGN:
        async with client_with(app, cookies, **headers, **JSON, **{"X-Requested-With": "x"}) as client:
            for method, path in (
                ("POST", "/auth/logout"),
                ("POST", "/auth/refresh"),
                ("PATCH", "/account"),
                ("DELETE", "/account"),
                ("DELETE", "/notes"),
            ):
                if path == "/auth/refresh" and not headers:
                    continue  # no browser, and no token in the body: 422
                events.clear()
                answer = await client.request(method, path)
                assert is_refused(answer), (headers, path, answer.text)
                assert [(e.kind, e.outcome, e.reason) for e in events] == [
                    ("access", "failure", "csrf_refused")
                ]
    assert (await signed_in.get("/auth/me")).status_code == 200
    assert await RefreshToken.all().count() == 1


async def test_what_a_plain_form_can_send_is_refused_even_from_an_own_page(
    app: FastAPI, signed_in: httpx.AsyncClient
) -> None:
    """A-77: but for a form of which the browser says that its page is the app's own."""
    cookies = cookies_of(signed_in)
    body = json.dumps({"display_name": "Eve"})
    for headers, source in itertools.product(SIMPLE, (OWN, NO_FETCH_METADATA)):
        if headers in FORMS and source is OWN:
            continue
        async with client_with(app, cookies, **source, **headers) as client:
            for method, path in (("POST", "/auth/logout"), ("POST", "/auth/refresh"), ("PATCH", "/account")):
                content = body if "multipart" not in headers.get("Content-Type", "") else ""
                answer = await client.request(method, path, content=content)
                assert is_refused(answer), (headers, path, answer.text)
    assert (await User.get()).display_name is None


@pytest.mark.parametrize("source", [OWN, {"Origin": BASE}, {"Origin": BASE, **OWN}])
@pytest.mark.parametrize(
    "extra", [JSON, {"X-Requested-With": ""}, {"Content-Type": "application/merge-patch+json"}]
)
async def test_an_own_page_may(
    app: FastAPI, signed_in: httpx.AsyncClient, source: dict[str, str], extra: dict[str, str]
) -> None:
    """A-77."""
    async with client_with(app, cookies_of(signed_in), **source, **extra) as client:
        assert (await client.delete("/notes")).text == '"cleared"'
        assert (await client.post("/auth/logout")).status_code == 200


async def test_nobody_is_signed_in_by_another_site(app: FastAPI, browser: httpx.AsyncClient) -> None:
    """A-77: login CSRF, and the planting of a stranger's refresh token."""
    async with client_with(app, {}) as client:
        token = (await client.post("/auth/login", json=CREDENTIALS)).json()["refresh_token"]
    for headers in FOREIGN[1:]:
        async with client_with(app, {}, **headers, **JSON, **{"X-Requested-With": "x"}) as client:
            assert is_refused(await client.post("/auth/login", json=CREDENTIALS))
            assert is_refused(await client.post("/auth/refresh", json={"token": token}))
    for headers in SIMPLE:
        async with client_with(app, {}, **OWN, **headers) as client:
            content = "" if "multipart" in headers.get("Content-Type", "") else json.dumps(CREDENTIALS)
            answer = await client.post("/auth/login", content=content)
            assert answer.status_code == 422 if headers in FORMS else is_refused(answer)
            assert not set_cookies(answer)
    assert await Session.all().count() == 1


async def test_a_trusted_origin_of_the_same_site_may(
    app: FastAPI, signed_in: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """A-77."""
    page = {"Sec-Fetch-Site": "same-site", "Origin": TRUSTED}
    async with client_with(app, cookies_of(signed_in), **page, **JSON) as client:
        assert is_refused(await client.delete("/notes"))
        settings.trusted_origins = [TRUSTED]
        assert (await client.delete("/notes")).status_code == 200
        assert (await client.post("/auth/login", json=CREDENTIALS)).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "app.example.com", "https://", "https://a.example/path", "https://u@a.example", "ftp://a"],
)
def test_what_is_no_origin_is_not_trusted(origin: str) -> None:
    with pytest.raises(ValidationError):
        AuthSettings(_env_file=None, trusted_origins=origin)  # type: ignore[arg-type]  # text of an environment


def test_origins_are_compared_as_browsers_spell_them() -> None:
    settings = AuthSettings(
        _env_file=None,
        public_base_url="https://APP.example.com:443/base",
        trusted_origins="HTTPS://Spa.Example.com/, http://[::1]:3000",  # type: ignore[arg-type]
    )
    assert settings.page_origins == {BASE, TRUSTED, "http://[::1]:3000"}


async def test_a_header_that_authenticates_needs_no_proof(app: FastAPI, browser: httpx.AsyncClient) -> None:
    """A-77: no browser adds it by itself."""
    async with client_with(app, {}) as client:
        token = (await client.post("/auth/login", json=CREDENTIALS)).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}", "Origin": EVIL, "Sec-Fetch-Site": "cross-site"}
        assert (await client.delete("/notes", headers=headers)).status_code == 200


async def test_a_link_from_another_site_finds_the_user_signed_in(
    app: FastAPI, signed_in: httpx.AsyncClient, clock: Clock
) -> None:
    """A-77, A-78: nothing but the cookies changes."""
    clock.advance(minutes=16)
    before = await User.get().values()
    async with client_with(app, cookies_of(signed_in), **{"Sec-Fetch-Site": "cross-site"}) as client:
        answer = await client.get("/notes")
    assert (answer.status_code, len(set_cookies(answer))) == (200, 2)
    assert await User.get().values() == before


async def test_safe_methods_change_nothing(signed_in: httpx.AsyncClient) -> None:
    """A-78: GET and HEAD with cookies, on every route that changes something."""
    before = cookies_of(signed_in)
    for method in ("GET", "HEAD"):
        for path in (
            "/auth/login",
            "/auth/logout",
            "/auth/refresh",
            "/auth/2fa/enable",
            "/account/change-password",
            "/account/2fa/disable",
            "/account/logout-others",
        ):
            answer = await signed_in.request(method, path)
            assert (answer.status_code, set_cookies(answer)) == (405, {})
    assert cookies_of(signed_in) == before
    assert (await signed_in.get("/auth/me")).status_code == 200


# --- forms -----------------------------------------------------------------------------------------------


async def shown(client: httpx.AsyncClient) -> str:
    """The token of a form that the page shows."""
    answer = await client.get("/form")
    token: str = answer.json()
    return token


async def test_a_form_needs_the_token_that_was_made_for_this_visitor(
    app: FastAPI, browser: httpx.AsyncClient
) -> None:
    """A-77."""
    del browser.headers["X-Requested-With"]
    first = await browser.get("/form")
    (cookie,) = set_cookies(first).values()
    assert cookie.key == "__Host-visitor"
    assert len(cookie.value) == 22
    assert attributes(cookie) == {"path": "/", "secure": True, "httponly": True, "samesite": "Lax"}
    assert cookie["max-age"] == ""
    assert first.headers["cache-control"] == "no-store"
    again = await browser.get("/form")
    assert not set_cookies(again)
    assert again.json() != first.json()
    for token in (first.json(), again.json()):
        assert (await browser.post("/form", data={"name": "Ada", "csrf_token": token})).json() == "Ada"
    async with client_with(app, {}, **OWN) as other:
        foreign = await shown(other)
    nonce, _, signature = str(first.json()).partition(".")
    parts = (nonce, f"{nonce}.", f".{signature}", f"x{nonce}.{signature}")
    forged = (None, "", ".", "é", "a" * 90_000, foreign, *parts)
    for token in forged:
        data = {"name": "Ada"} | ({} if token is None else {"csrf_token": token})
        assert is_refused(await browser.post("/form", data=data)), token
    files = {"name": (None, "Ada"), "csrf_token": ("token", first.text.encode())}
    assert is_refused(await browser.post("/form", files=files))
    async with client_with(app, {}, **OWN) as without_cookie:
        assert is_refused(
            await without_cookie.post("/form", data={"name": "Ada", "csrf_token": first.json()})
        )


async def test_of_two_visitors_cookies_none_counts(app: FastAPI, browser: httpx.AsyncClient) -> None:
    """A-75: nor one of nearly that name."""
    token = await shown(browser)
    (cookie,) = (f"{name}={value}" for name, value in cookies_of(browser).items())
    for sent in (f"{cookie}; __Host-visitor=x", f"__Host-visitor=x; {cookie}", f"\xa0{cookie}"):
        headers = [(b"cookie", sent.encode("latin-1"))]
        async with client_with(app, {}, **OWN) as client:
            data = {"name": "Ada", "csrf_token": token}
            assert is_refused(await client.post("/form", data=data, headers=headers))
    assert (await browser.post("/form", data={"name": "Ada", "csrf_token": token})).json() == "Ada"


async def test_a_right_token_does_not_help_another_site(app: FastAPI, browser: httpx.AsyncClient) -> None:
    """A-77."""
    token = await shown(browser)
    for headers in FOREIGN:
        async with client_with(app, cookies_of(browser), **headers) as client:
            assert is_refused(await client.post("/form", data={"name": "Ada", "csrf_token": token}))


async def test_a_form_of_the_host_is_guarded_by_the_dependency_alone(
    app: FastAPI, signed_in: httpx.AsyncClient, clock: Clock
) -> None:
    """A-77: by a token that is bound to the session, also while it is renewed."""
    del signed_in.headers["X-Requested-With"], signed_in.headers["Sec-Fetch-Site"]
    signed_in.headers["Origin"] = BASE
    token = await shown(signed_in)
    assert "__Host-visitor" not in cookies_of(signed_in)
    assert is_refused(await signed_in.post("/notes", data={"text": "milk"}))
    for _ in range(2):
        answer = await signed_in.post("/notes", data={"text": "milk", "csrf_token": token})
        assert answer.json() == "milk"
        clock.advance(minutes=16)
    answer = await signed_in.post("/notes", files={"text": (None, "milk"), "csrf_token": (None, token)})
    assert answer.json() == "milk"
    clock.advance(minutes=16)
    assert await shown(signed_in) != token


async def test_a_form_of_an_own_page_needs_no_token(app: FastAPI, signed_in: httpx.AsyncClient) -> None:
    """A-77: the browser says that it is the app's own, and no page can make it say so."""
    cookies = cookies_of(signed_in)
    for more in ({}, {"Origin": BASE}, {"Origin": "null"}, {"Sec-Fetch-Mode": "navigate"}):
        async with client_with(app, cookies, **OWN, **more) as client:
            assert (await client.post("/notes", data={"text": "milk"})).json() == "milk"
            files = {"text": (None, "milk"), "csrf_token": (None, "wrong")}
            assert (await client.post("/notes", files=files)).json() == "milk"
            assert (await client.post("/page", headers=FORM)).status_code == 200
    for headers in (*FOREIGN, NO_FETCH_METADATA):
        async with client_with(app, cookies, **headers) as client:
            assert is_refused(await client.post("/notes", data={"text": "milk"})), headers
            assert is_refused(await client.post("/page", headers=FORM)), headers
    for headers in ([("sec-fetch-site", "same-origin")] * 2, [("sec-fetch-site", "Same-Origin")]):
        async with client_with(app, cookies) as client:
            assert is_refused(await client.post("/notes", data={"text": "milk"}, headers=headers)), headers


async def test_a_refusal_names_what_is_missing(app: FastAPI, signed_in: httpx.AsyncClient) -> None:
    cookies = cookies_of(signed_in)
    missing = {
        "Sec-Fetch-Site": (FOREIGN[0], FORM),
        "Origin": ({"Origin": EVIL}, JSON),
        "X-Requested-With": (OWN, {"Content-Type": "text/plain"}),
        "csrf_token": (NO_FETCH_METADATA, FORM),
    }
    for name, (source, kind) in missing.items():
        async with client_with(app, cookies, **source, **kind) as client:
            answer = await client.delete("/notes")
            assert is_refused(answer)
            assert name in answer.json()["detail"]
    async with client_with(app, cookies, **OWN) as client:
        assert "csrf_token" in (await client.post("/form", data={"name": "Ada"})).json()["detail"]


async def test_a_template_that_asks_for_a_token_without_cookies_is_told(settings: AuthSettings) -> None:
    settings.cookies = False
    app = FastAPI()
    include_auth(app, settings=settings)

    @app.get("/form")
    async def form(request: Request) -> str:
        return csrf_token(request)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client:
        with pytest.raises(RuntimeError, match="COOKIES"):
            await client.get("/form")


async def test_a_form_of_one_session_is_refused_in_another(
    signed_in: httpx.AsyncClient, browser: httpx.AsyncClient
) -> None:
    """A-77."""
    before = await shown(signed_in)
    await signed_in.post("/auth/login", json=CREDENTIALS)
    del signed_in.headers["X-Requested-With"], signed_in.headers["Sec-Fetch-Site"]
    signed_in.headers["Origin"] = BASE
    assert is_refused(await signed_in.post("/notes", data={"text": "milk", "csrf_token": before}))
    after = await shown(signed_in)
    answer = await signed_in.post("/notes", data={"text": "milk", "csrf_token": after})
    assert answer.json() == "milk"
    await signed_in.post("/auth/logout", headers={"X-Requested-With": "x"})
    assert is_refused(await signed_in.post("/form", data={"name": "Ada", "csrf_token": after}))


async def test_the_form_that_deletes_dead_cookies_works(signed_in: httpx.AsyncClient, app: FastAPI) -> None:
    """It is bound to the visitor, as the browser has no session when it posts."""

    @app.get("/sign-in")
    async def sign_in_page(request: Request, auth: CurrentAuth) -> str:
        from fastapi_pluggable_auth.http.cookies import sign_out

        sign_out(request, auth)
        return csrf_token(request)

    token = (await signed_in.get("/sign-in")).json()
    assert set(cookies_of(signed_in)) == {"__Host-visitor"}
    assert (await signed_in.post("/form", data={"name": "Ada", "csrf_token": token})).json() == "Ada"


@pytest.mark.parametrize("algorithm", ["HS256", "ES256"])
def test_the_key_of_form_tokens_is_derived_and_differs(algorithm: str) -> None:
    pem: Any = None
    if algorithm == "ES256":
        pem = pem_of(ec.generate_private_key(ec.SECP256R1()))
    keys = key_set(
        AuthSettings(_env_file=None, jwt_secret=SECRET, jwt_algorithm=algorithm, jwt_private_key=pem)  # type: ignore[arg-type]
    )
    one, other = keys.derive("form tokens"), keys.derive("something else")
    assert len(one) == len(other) == 32
    assert len({one, other, SECRET.encode()[:32]}) == 3
    assert SECRET not in repr(keys)


@bounded
@given(key=st.binary(min_size=1), binding=any_text, other=any_text, token=any_text)
def test_no_text_is_a_form_token_but_one_made_for_this_binding(
    key: bytes, binding: str, other: str, token: str
) -> None:
    """A-77."""
    made = make_form_token(key, binding)
    assert is_form_token(key, binding, made)
    assert not is_form_token(key, binding, token)
    assert not is_form_token(key, f"{binding} ", made)
    assert not is_form_token(key + b"x", binding, made)
    # Half characters, which no binding has, are alike.
    same = other.encode("utf-8", "replace") == binding.encode("utf-8", "replace")
    assert is_form_token(key, other, made) is same


# --- where to go on to -----------------------------------------------------------------------------------

HOSTILE = [
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "https:evil.example",
    "https://evil.example",
    "/%09/evil.example",
    "/\t/evil.example",
    "/%2F/evil.example",
    "/%5Cevil.example",
    "/a\r\nSet-Cookie: x=1",
    "/a%0D%0ASet-Cookie: x=1",
    "javascript:alert(1)",
    "/\x00",
    " /a",
    "/a b",
    "",
    "a",
    "?a",
    "#a",
    "/\u3002evil.example",
    "/\ud800",
    "/" + "a" * 5000,
]


@pytest.mark.parametrize("value", HOSTILE)
def test_no_other_place_is_gone_on_to(value: str) -> None:
    """A-81."""
    assert safe_next(value) is None


@pytest.mark.parametrize(
    "value", ["/", "/notes", "/caf%C3%A9?q=a%20b&r=//x#top", "/a/../b", "/a?next=https://x"]
)
def test_an_own_path_is_gone_on_to(value: str) -> None:
    assert safe_next(value) == value
    assert safe_next(None) is None


@bounded
@given(
    value=any_text
    | st.text("/\\.:@%0259Ff?#ehtps\t\r\n ", max_size=14).map(lambda text: f"/{text}")
    | st.builds("{}{}".format, st.sampled_from(["/", "//", "/%2f", "/\\", "https:"]), any_text)
)
@example("/..//evil.example")
@example("/.//evil.example")
@example("///evil.example")
def test_wherever_it_leads_is_the_same_origin(value: str) -> None:
    """A-81: as browsers resolve it, who drop tabs and line breaks and take a backslash for a slash."""
    safe = safe_next(value)
    if safe is None:
        return
    assert safe == value
    for spelled in (safe, unquote(safe.partition("?")[0])):
        seen = "".join(c for c in spelled if c not in "\t\r\n").replace("\\", "/").strip()
        target = urlsplit(urljoin(f"{BASE}/account/sign-in", seen))
        assert (target.scheme, target.netloc) == ("https", "app.example.com")
