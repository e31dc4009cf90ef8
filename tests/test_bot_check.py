"""A check that somebody is human, before anything is hashed, stored or mailed."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features import BotCheck, EmailSignIn, Feature, Turnstile, Widget
from fastapi_pluggable_auth.flows.signup import signup
from fastapi_pluggable_auth.models import Mail, Pending, User
from fastapi_pluggable_auth.schemas import NotStored, UserCreate

from .conftest import EMAIL, PASSWORD, Clock, Database, Mailbox, on_each_database
from .siteverify import SECRET, SITE_KEY, Service
from .test_outliving import RolledBackAround, Switch
from .test_queries import STATEMENT

DIALECTS = ("sqlite",)
NEW = "kim@example.com"
ADDRESS = "192.0.2.7"
FRAMEWORK = ("request", "scope", "receive")
"""Variables that are objects of the framework."""
BY_MAIL = {
    "forgot_password": "/auth/forgot-password",
    "resend": "/auth/verify/resend",
    "email_sign_in": "/auth/email-sign-in",
}


@pytest.fixture
def service() -> Iterator[Service]:
    with Service().serving() as service:
        yield service


@pytest.fixture
def features(service: Service) -> list[Feature]:
    return [EmailSignIn(), BotCheck(service.turnstile())]


async def sign_up(client: httpx.AsyncClient, token: Any = None, email: str = NEW) -> httpx.Response:
    return await client.post("/auth/signup", json={"email": email, "password": PASSWORD, "bot_token": token})


async def log_in(client: httpx.AsyncClient, password: str, email: str = EMAIL, **more: Any) -> httpx.Response:
    return await client.post("/auth/login", json={"email": email, "password": password, **more})


def code(answer: httpx.Response) -> str:
    said: str = answer.json().get("code", "")
    return said


@pytest.fixture
async def user(auth: Auth, client: httpx.AsyncClient, mailbox: Mailbox) -> User:
    await signup(auth, EMAIL, PASSWORD)
    await User.filter(email=EMAIL).update(is_verified=True)
    await auth.dispatcher.deliver(await Mail.all().values_list("id", flat=True))  # type: ignore[arg-type]
    mailbox.clear()
    return await User.get(email=EMAIL)


async def test_a_signup_goes_through_with_a_token_of_its_form_and_host(
    client: httpx.AsyncClient, service: Service
) -> None:
    assert (await sign_up(client, service.token("signup"))).status_code == 201
    (asked,) = service.asked
    assert (asked["secret"], asked["remoteip"]) == (SECRET, ADDRESS)


@pytest.mark.parametrize(
    "said",
    [
        {"hostname": "evil.example"},
        {"hostname": None},
        {"action": "login"},
        {"action": ""},
        {"action": ["signup"]},
        {"hostname": ["localhost"]},
        {"success": "true"},
        {"success": 1},
        {"success": None},
    ],
    ids=str,
)
async def test_a_token_of_another_form_or_host_or_without_a_yes_is_none(
    client: httpx.AsyncClient, service: Service, said: dict[str, Any]
) -> None:
    token = service.token(**{"action": "signup", **said})
    refused = await sign_up(client, token)
    assert (refused.status_code, code(refused)) == (403, "bot_check_failed")
    assert not await User.exists()


HOSTILE = {
    "none": (None, 403),
    "empty": ("", 422),
    "unknown": ("made-up", 403),
    "long": ("x" * 9000, 422),
    "surrogate": ("\ud800", 422),
    "blank": ("a token", 422),
    "foreign": ("tökén", 422),
    "array": (["token"], 422),
    "object": ({"token": "token"}, 422),
    "number": (1, 422),
}


@pytest.mark.parametrize("token", HOSTILE)
async def test_a_hostile_token_is_refused_and_most_are_not_sent_on(
    client: httpx.AsyncClient, service: Service, token: str
) -> None:
    value, status = HOSTILE[token]
    body = json.dumps({"email": NEW, "password": PASSWORD, "bot_token": value})
    refused = await client.post("/auth/signup", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == status
    assert len(service.asked) == (token == "unknown")
    huge = json.dumps({"email": NEW, "password": PASSWORD, "bot_token": "x" * 3_000_000})
    refused = await client.post("/auth/signup", content=huge, headers={"Content-Type": "application/json"})
    assert refused.status_code == 413
    assert not await User.exists()


@on_each_database
async def test_of_many_requests_at_once_with_one_token_one_goes_through(
    client: httpx.AsyncClient, service: Service
) -> None:
    """Also where the service takes it more than once."""
    service.spends = False
    token = service.token("signup")
    answers = await asyncio.gather(
        *(sign_up(client, token, f"kim{number}@example.com") for number in range(5))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 403, 403, 403, 403]
    assert code(await sign_up(client, token)) == "bot_check_failed"
    assert await User.all().count() == 1


async def test_a_token_that_is_not_good_leaves_no_row(client: httpx.AsyncClient, service: Service) -> None:
    for number in range(5):
        await sign_up(client, f"made-up-{number}")
    assert not await Pending.exists()


async def test_it_comes_before_anything_is_hashed_stored_or_mailed(
    auth: Auth, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[object] = []
    monkeypatch.setattr(auth.hasher, "hash", hashed.append)
    assert code(await sign_up(client)) == "bot_check_failed"
    for path in BY_MAIL.values():
        assert code(await client.post(path, json={"email": EMAIL})) == "bot_check_failed"
    assert not hashed
    for table in auth.tables:
        assert not await table.exists(), table


@pytest.mark.parametrize("action", BY_MAIL)
async def test_a_mail_is_sent_after_a_token_for_it_alone(
    client: httpx.AsyncClient, service: Service, user: User, mailbox: Mailbox, action: str
) -> None:
    """The same for an address that has no account."""
    await User.filter(id=user.id).update(is_verified=action != "resend")
    for other in {*BY_MAIL, "signup"} - {action}:
        body = {"email": EMAIL, "bot_token": service.token(other)}
        assert code(await client.post(BY_MAIL[action], json=body)) == "bot_check_failed"
    assert not mailbox.messages
    said = []
    for email in (EMAIL, NEW):
        for token in (None, service.token(action)):
            answer = await client.post(BY_MAIL[action], json={"email": email, "bot_token": token})
            said.append((answer.status_code, answer.json().keys(), answer.json().get("detail")))
    assert said[:2] == said[2:]
    assert [mail["To"] for mail in mailbox.messages] == [EMAIL]


async def test_a_mistake_in_the_body_spends_no_token(client: httpx.AsyncClient, service: Service) -> None:
    token = service.token("signup")
    body = {"email": NEW, "password": "short", "bot_token": token}
    assert (await client.post("/auth/signup", json=body)).status_code == 422
    assert not service.asked
    assert (await sign_up(client, token)).status_code == 201


@pytest.mark.parametrize("email", [EMAIL, "nobody@example.com"])
async def test_a_login_is_asked_after_three_wrong_guesses(
    client: httpx.AsyncClient, service: Service, user: User, email: str
) -> None:
    """An outsider learns of no account by it."""
    said = [code(await log_in(client, "wrong password", email)) for _ in range(5)]
    assert said == [*["invalid_credentials"] * 3, "bot_check_failed", "bot_check_failed"]
    assert [each["response"] for each in service.asked] == [""]  # whether it is there at all
    for token, then in ((service.token("signup"), "bot_check_failed"), (service.token("login"), "")):
        answer = await log_in(client, PASSWORD, email, bot_token=token)
        assert code(answer) == (then or ("" if email == EMAIL else "invalid_credentials"))


async def test_a_login_without_wrong_guesses_asks_nobody(
    client: httpx.AsyncClient, service: Service, user: User
) -> None:
    assert (await log_in(client, PASSWORD)).status_code == 200
    assert (await log_in(client, "wrong password")).status_code == 401
    assert (await log_in(client, PASSWORD)).status_code == 200
    assert not service.asked


async def test_a_login_without_wrong_guesses_has_no_query_more(
    client: httpx.AsyncClient, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await log_in(client, PASSWORD)).status_code == 200
    with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
        caplog.clear()
        assert (await log_in(client, PASSWORD)).status_code == 200
    assert len([line for line in caplog.messages if STATEMENT.match(line)]) <= 7


async def test_what_is_refused_first_is_no_guess(
    client: httpx.AsyncClient, service: Service, user: User, settings: AuthSettings
) -> None:
    """Programs that solve nothing lock nobody out."""
    settings.throttle_daily_limit = 5
    for _ in range(3):
        await log_in(client, "wrong password")
    for _ in range(10):
        assert code(await log_in(client, PASSWORD)) == "bot_check_failed"
    assert (await log_in(client, PASSWORD, bot_token=service.token("login"))).status_code == 200


def silent(handler: BaseHTTPRequestHandler) -> None:
    threading.Event().wait(4)


def slow(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(8):
        threading.Event().wait(0.5)
        try:
            handler.wfile.write(b" ")
            handler.wfile.flush()
        except OSError:
            return


def huge(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(1000):
            handler.wfile.write(b'"' + b"x" * 65536)
    except OSError:
        pass


def answering(status: int, text: str, **headers: str) -> Any:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text.encode())

    return answer


GOOD = '{"success": true, "hostname": "localhost", "action": "signup"}'
DOWN = {
    "silent": silent,
    "slow": slow,
    "huge": huge,
    "redirecting": answering(302, GOOD, Location="/elsewhere"),
    "error": answering(500, GOOD),
    "busy": answering(429, GOOD),
    "not JSON": answering(200, "<html>"),
    "deep": answering(200, "[" * 60_000),
    "an array": answering(200, f"[{GOOD}]"),
    "the word true": answering(200, "true"),
    "wrong secret": answering(200, '{"success": false, "error-codes": ["invalid-input-secret"]}'),
}


@pytest.mark.parametrize("how", DOWN)
async def test_where_the_service_is_down_signing_up_is_closed_and_the_rest_open(
    client: httpx.AsyncClient,
    service: Service,
    user: User,
    mailbox: Mailbox,
    how: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service.raw = DOWN[how]
    started = asyncio.get_running_loop().time()
    with caplog.at_level(logging.WARNING, "fastapi_pluggable_auth"):
        refused, mailed = await asyncio.gather(
            sign_up(client, "some-token"),
            client.post(BY_MAIL["forgot_password"], json={"email": EMAIL, "bot_token": "some-token"}),
        )
    assert (refused.status_code, code(refused)) == (503, "bot_check_unavailable")
    assert refused.headers["Retry-After"] == "5"
    assert mailed.status_code == 200
    assert asyncio.get_running_loop().time() - started < 3.9
    assert [mail["To"] for mail in mailbox.messages] == [EMAIL]
    assert not await User.filter(email=NEW).exists()
    (line,) = [record.getMessage() for record in caplog.records if "bot check" in record.getMessage()]
    assert "some-token" not in line
    assert SECRET not in line


async def test_who_gets_no_token_from_a_service_that_is_down_is_not_locked_out(
    client: httpx.AsyncClient, service: Service, user: User, mailbox: Mailbox
) -> None:
    service.raw = answering(503, "")
    assert (await client.post(BY_MAIL["forgot_password"], json={"email": EMAIL})).status_code == 200
    assert len(mailbox.messages) == 1
    service.raw = None
    for _ in range(3):
        refused = await client.post(BY_MAIL["forgot_password"], json={"email": EMAIL})
        assert code(refused) == "bot_check_failed"
    assert len(service.asked) == 2  # once more, and then it is known that it answers


async def test_an_app_says_itself_what_stays_open(settings: AuthSettings, service: Service) -> None:
    closed = BotCheck(service.turnstile(), open_when_down=())
    assert closed.options.open_when_down == frozenset()
    with pytest.raises(ValueError, match="'signin' is no action"):
        BotCheck(service.turnstile(), open_when_down=["signin"])  # type: ignore[list-item]


async def test_no_frame_of_the_library_shows_a_token(
    client: httpx.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ASVS 16.2.5: where the database fails while it is spent, and where a function of the app does."""

    async def failing(*_: object, **__: object) -> None:
        raise RuntimeError("The disk is full")

    monkeypatch.setattr(Pending, "bulk_create", failing)
    token = service.token("signup")
    with pytest.raises(RuntimeError) as failed:
        await sign_up(client, token)
    assert_hidden(failed.value, token)


def assert_hidden(error: BaseException, token: str) -> None:
    """The frames that the package has in the traceback say nothing of the token."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if "fastapi_pluggable_auth" in frame.f_code.co_filename]
    assert any("bot_check" in frame.f_code.co_filename for frame in ours)
    for frame in ours:
        shown = {name: repr(value) for name, value in frame.f_locals.items() if name not in FRAMEWORK}
        assert token not in str(shown), frame.f_code.co_filename


# A function of the app


def app_with(settings: AuthSettings, clock: Clock, check: Any, **options: Any) -> FastAPI:
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, features=[BotCheck(check, **options)])
    return app


class Judge:
    """A function that says what a test has it say."""

    def __init__(self) -> None:
        self.says: Any = True
        self.heard: list[tuple[str, str, str]] = []

    async def __call__(self, token: str, action: str, address: str) -> bool:
        self.heard.append((token, action, address))
        if isinstance(self.says, Exception):
            raise self.says
        said: bool = self.says
        return said


@pytest.fixture
def judge() -> Judge:
    return Judge()


class TestOfTheApp:
    @pytest.fixture
    def features(self, judge: Judge) -> list[Feature]:
        return [BotCheck(judge)]

    async def test_it_hears_token_action_and_address_and_its_yes_counts_once(
        self, client: httpx.AsyncClient, judge: Judge
    ) -> None:
        assert (await sign_up(client, "solved")).status_code == 201
        assert judge.heard == [("solved", "signup", ADDRESS)]
        assert code(await sign_up(client, "solved", "bo@example.com")) == "bot_check_failed"

    @pytest.mark.parametrize("says", [False, None, "yes", {"success": False}, 1])
    async def test_only_true_is_a_yes(self, client: httpx.AsyncClient, judge: Judge, says: Any) -> None:
        judge.says = says
        assert code(await sign_up(client, "solved")) == "bot_check_failed"

    async def test_one_that_gets_no_answer_is_down_and_a_mistake_is_none(
        self, client: httpx.AsyncClient, judge: Judge
    ) -> None:
        judge.says = ConnectionRefusedError()
        assert code(await sign_up(client, "solved")) == "bot_check_unavailable"
        judge.says = KeyError("success")
        with pytest.raises(KeyError) as failed:
            await sign_up(client, "solved-it")
        assert_hidden(failed.value, "solved-it")
        assert not await User.exists()


class TestRolledBack:
    """In an app that wraps each request in a transaction and rolls it back."""

    @pytest.fixture
    def features(self, judge: Judge) -> list[Feature]:
        return [BotCheck(judge, login_after=0)]

    @pytest.fixture
    def app(self, app: FastAPI, database: Database) -> FastAPI:
        switch = Switch()
        switch.on = True
        app.add_middleware(RolledBackAround, switch=switch, name=database.dialect)
        return app

    @on_each_database
    async def test_a_token_stays_spent(
        self, client: httpx.AsyncClient, database: Database, judge: Judge
    ) -> None:
        said = [code(await log_in(client, "wrong password", bot_token="solved")) for _ in range(2)]
        assert said == ["invalid_credentials", "bot_check_failed"]
        assert len(judge.heard) == 2


async def test_a_function_that_blocks_runs_in_a_thread(
    tortoise: object, mailbox: Mailbox, settings: AuthSettings, clock: Clock
) -> None:
    threads = []

    def is_human(token: str, action: str, address: str) -> bool:
        threads.append(threading.get_ident())
        return token == "solved"

    app = app_with(settings, clock, is_human)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        assert (await sign_up(client, "solved")).status_code == 201
        assert code(await sign_up(client, "other")) == "bot_check_failed"
    assert threading.get_ident() not in threads
    await app.state.pluggable_auth.close()


# What is found at the start


def test_an_app_without_keys_does_not_start(settings: AuthSettings) -> None:
    with pytest.raises(ValueError, match="AUTH_TURNSTILE_SECRET_KEY is not set"):
        include_auth(FastAPI(), settings=settings, features=[BotCheck(Turnstile())])
    keyless, own = BotCheck(Turnstile(secret_key=SECRET)), BotCheck(Judge())
    with pytest.raises(ValueError, match="AUTH_TURNSTILE_SITE_KEY is not set"):
        include_auth(FastAPI(), settings=settings, features=[keyless], pages=True)
    with pytest.raises(ValueError, match="The pages need a widget"):
        include_auth(FastAPI(), settings=settings, features=[own], pages=True)
    with pytest.raises(TypeError, match="check is of type str"):
        BotCheck("turnstile")  # type: ignore[arg-type]


def test_the_keys_are_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, settings: AuthSettings
) -> None:
    monkeypatch.setenv("AUTH_TURNSTILE_SITE_KEY", SITE_KEY)
    monkeypatch.setenv("AUTH_TURNSTILE_SECRET_KEY", SECRET)
    include_auth(FastAPI(), settings=settings, features=[BotCheck(Turnstile())], pages=True)
    assert SECRET not in repr(Turnstile(secret_key=SECRET))


def test_published_keys_are_for_local_apps_only(settings: AuthSettings) -> None:
    """https://developers.cloudflare.com/turnstile/troubleshooting/testing/"""
    always = Turnstile(SITE_KEY, "1x0000000000000000000000000000000AA")
    include_auth(FastAPI(), settings=settings, features=[BotCheck(always)])
    settings.public_base_url = "https://app.example.com"
    with pytest.raises(ValueError, match="one for tests, with which everyone passes"):
        include_auth(FastAPI(), settings=settings, features=[BotCheck(always)])


def test_a_body_of_the_host_with_such_a_field_is_refused(settings: AuthSettings) -> None:
    class Own(UserCreate):
        bot_token: Annotated[str, NotStored] = ""

    with pytest.raises(ValueError, match=r"Own\.bot_token is a field of a feature"):
        include_auth(FastAPI(), settings=settings, user_create=Own, features=[BotCheck(Judge())])


def test_the_document_has_the_field_and_the_refusals(app: FastAPI, settings: AuthSettings) -> None:
    document = app.openapi()
    for path in ("/auth/signup", "/auth/login", *BY_MAIL.values()):
        operation = document["paths"][path]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        body = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        assert "bot_token" in body["properties"], path
        assert "bot_token" not in body.get("required", [])
        assert "`bot_check_failed`" in operation["responses"]["403"]["description"]
        assert "`bot_check_unavailable`" in operation["responses"]["503"]["description"]
    assert "bot_check_failed" not in str(document["paths"]["/auth/refresh"])
    plain = FastAPI()
    include_auth(plain, settings=settings)
    assert "bot_" not in str(plain.openapi())


def test_a_widget_of_the_app_is_named(settings: AuthSettings) -> None:
    widget = Widget(script="/static/w.js", css_class="w", form_field="w", sources={"script-src": ("'self'",)})
    include_auth(FastAPI(), settings=settings, features=[BotCheck(Judge(), widget=widget)], pages=True)
