"""Personal access tokens: for the routes that ask for their scopes, and for nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import uuid4

import httpx
import pytest
from fastapi import Depends, FastAPI

from fastapi_pluggable_auth import (
    Auth,
    AuthError,
    AuthSettings,
    CurrentUser,
    ErrorCode,
    OptionalUser,
    SecurityEvent,
    include_auth,
    require,
)
from fastapi_pluggable_auth.features import PersonalTokens
from fastapi_pluggable_auth.features.administration.users import (
    disable_user,
    enable_user,
    end_sessions,
    require_password_reset,
)
from fastapi_pluggable_auth.features.personal_tokens import flows as tokens_flow
from fastapi_pluggable_auth.flows.authentication import Authentication, authenticate, is_recent
from fastapi_pluggable_auth.flows.authorization import grant
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.models import PersonalToken, User

from .conftest import (
    EMAIL,
    PASSWORD,
    SQLITE_UNLESS_FULL,
    Account,
    Clock,
    Mailbox,
    on_each_database,
    on_one_database,
)
from .smtp_server import text_of
from .test_input import HOSTILE, PLANTED
from .test_notices import change_password, enable_two_factor, reset_password
from .test_password import NEW, forgot
from .test_password import reset as reset_by_link
from .test_queries import STATEMENT

DIALECTS = SQLITE_UNLESS_FULL

SCOPES = {"notes:read": "Read your notes", "notes:write": "Write your notes"}
ADMINS = {"admin": ["notes:delete"]}


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    """A host app with scopes."""
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, roles=ADMINS, features=[PersonalTokens(scopes=SCOPES)])

    @app.get("/notes")
    async def notes(user: Annotated[User, Depends(require(scope="notes:read"))]) -> str:
        return user.email

    @app.post("/notes", dependencies=[Depends(require(scope=["notes:read", "notes:write"]))])
    async def write(user: Annotated[User, Depends(require(scope="notes:write"))]) -> str:
        return user.email

    @app.delete("/notes")
    async def delete(
        user: Annotated[User, Depends(require(scope="notes:write", permission="notes:delete"))],
    ) -> str:
        return user.email

    @app.get("/recent", dependencies=[Depends(require(scope="notes:read", recent=True))])
    async def recent() -> None: ...

    @app.get("/two-factor", dependencies=[Depends(require(scope="notes:read", two_factor=True))])
    async def two_factor() -> None: ...

    @app.get("/person")
    async def person(user: CurrentUser) -> None: ...

    @app.get("/optional")
    async def optional(user: OptionalUser) -> None: ...

    @app.get("/both", dependencies=[Depends(require(scope="notes:read"))])
    async def both(user: CurrentUser) -> None: ...

    @app.get("/role", dependencies=[Depends(require(role="admin"))])
    async def role() -> None: ...

    return app


class Program:
    """A program with a token."""

    def __init__(self, client: httpx.AsyncClient, made: dict[str, Any]) -> None:
        self.client = client
        self.id: str = made["id"]
        self.token: str = made["token"]

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, str | None]:
        """Status and code."""
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = await self.client.request(method, path, headers=headers, **options)
        code = answer.json().get("code") if answer.status_code >= 400 else None
        return answer.status_code, code

    async def notes(self) -> int:
        return (await self.ask("GET", "/notes"))[0]


async def create(account: Account, **body: object) -> httpx.Response:
    wanted = {"name": "backup", "scopes": ["notes:read"]} | body
    return await account.client.post("/account/tokens", json=wanted, headers=account.headers)


async def listed(account: Account) -> list[dict[str, Any]]:
    answer = await account.client.get("/account/tokens", headers=account.headers)
    assert answer.status_code == 200, answer.text
    tokens: list[dict[str, Any]] = answer.json()
    return tokens


Make = Callable[..., Awaitable[Program]]


@pytest.fixture
def make(account: Account) -> Make:
    """Makes a token of the account."""

    async def make(*scopes: str, **body: object) -> Program:
        made = await create(account, **body, **({"scopes": scopes} if scopes else {}))
        assert made.status_code == 201, made.text
        return Program(account.client, made.json())

    return make


async def test_a_token_is_shown_once_listed_without_its_secret_and_revoked(
    account: Account, clock: Clock
) -> None:
    answer = await create(account, name=" backup script ", scopes=["notes:write", "notes:read", "notes:read"])
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    assert re.fullmatch(r"pat_[A-Za-z0-9_-]{43}", made["token"])
    program = Program(account.client, made)
    shown = {key: value for key, value in made.items() if key != "token"}
    assert await listed(account) == [shown]
    assert shown["name"] == "backup script"
    assert shown["scopes"] == ["notes:read", "notes:write"]
    assert shown["last_used_at"] is None
    lifetime = datetime.fromisoformat(shown["expires_at"]) - datetime.fromisoformat(shown["created_at"])
    assert lifetime == timedelta(days=90)
    assert await program.notes() == 200
    (used,) = await listed(account)
    assert used["last_used_at"] is not None

    (stored,) = await PersonalToken.all().values()
    assert made["token"] not in str(stored)
    assert stored["digest"] == hashlib.sha256(made["token"].encode()).hexdigest()

    path = f"/account/tokens/{made['id']}"
    assert (await account.client.delete(path, headers=account.headers)).status_code == 204
    assert await program.notes() == 401
    assert await listed(account) == []
    assert (await account.client.delete(path, headers=account.headers)).json()["code"] == "token_not_found"


@on_one_database
async def test_a_token_opens_no_route_that_does_not_ask_for_its_scope(
    account: Account, make: Make, app: FastAPI
) -> None:
    """It can change no password and make no other token."""
    program = await make("notes:read", "notes:write")
    assert await program.ask("GET", "/notes") == (200, None)
    assert await program.ask("POST", "/notes") == (200, None)
    for path in ("/person", "/optional", "/both", "/role"):
        assert await program.ask("GET", path) == (401, "invalid_token")
    asked = 0
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            signed_in = operation.get("security") and path.startswith(("/auth", "/account"))
            if signed_in and path != "/auth/2fa/verify":
                body = {"json": {}} if "requestBody" not in operation else {"json": VALID.get(path, {})}
                url = path.replace("{token_id}", program.id).replace("{session_id}", str(uuid4()))
                assert await program.ask(method.upper(), url, **body) == (401, "invalid_token"), (
                    method,
                    path,
                )
                asked += 1
    assert asked > 12
    assert await program.notes() == 200


VALID: dict[str, dict[str, object]] = {
    "/account": {"display_name": "Eve"},
    "/account/change-password": {"old_password": PASSWORD, "new_password": PASSWORD},
    "/account/tokens": {"name": "more", "scopes": ["notes:read"]},
    "/auth/reauthenticate": {"password": PASSWORD},
}


@on_one_database
async def test_a_scope_that_is_missing_is_named_and_a_user_in_person_has_every_scope(
    account: Account, make: Make
) -> None:
    """RFC 6750 section 3.1."""
    program = await make("notes:read")
    headers = {"Authorization": f"Bearer {program.token}"}
    answer = await account.client.post("/notes", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    challenge = 'Bearer error="insufficient_scope", scope="notes:read notes:write"'
    assert answer.headers["www-authenticate"] == challenge
    assert (await account.client.post("/notes", headers=account.headers)).status_code == 200
    assert (await account.client.get("/notes")).status_code == 401


@on_one_database
async def test_a_token_never_gives_more_than_its_user_has(account: Account, make: Make, auth: Auth) -> None:
    program = await make("notes:write")
    assert await program.ask("DELETE", "/notes") == (403, "permission_denied")
    user = await grant(auth, (await User.get()).id, roles="admin")
    assert await program.ask("DELETE", "/notes") == (200, None)
    await grant(auth, user.id, superuser=True)
    assert await program.ask("GET", "/notes") == (403, "insufficient_scope")
    assert await program.ask("GET", "/person") == (401, "invalid_token")


@on_one_database
async def test_a_program_is_never_recently_logged_in(account: Account, make: Make, auth: Auth) -> None:
    """Nor is one with a credential of the host's, whatever that says."""
    now, user = auth.clock(), await User.get()
    assert not is_recent(auth, Authentication(user, None, now, scopes=frozenset()))
    assert is_recent(auth, Authentication(user, None, now))
    program = await make()
    assert await program.ask("GET", "/recent") == (403, "reauthentication_required")
    assert (await account.client.get("/recent", headers=account.headers)).status_code == 200


@on_one_database
async def test_two_factor_is_asked_of_the_user(account: Account, make: Make, settings: AuthSettings) -> None:
    program = await make()
    assert await program.ask("GET", "/two-factor") == (403, "two_factor_enrolment_required")
    settings.require_two_factor = True
    assert await program.ask("GET", "/notes") == (403, "two_factor_enrolment_required")
    await enable_two_factor(account)
    assert await program.ask("GET", "/notes") == (200, None)
    assert await program.ask("GET", "/two-factor") == (200, None)


@on_one_database
async def test_making_a_token_needs_a_recent_login(
    account: Account, clock: Clock, settings: AuthSettings
) -> None:
    settings.reauth_ttl = timedelta(minutes=1)
    clock.advance(minutes=2)
    answer = await create(account)
    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
    assert await listed(account) == []


@on_one_database
@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ({"scopes": ["notes:delete"]}, 400, "unknown_scope"),
        ({"scopes": ["notes:read", "NOTES:READ"]}, 400, "unknown_scope"),
        ({"scopes": []}, 422, "validation_error"),
        ({"scopes": "notes:read"}, 422, "validation_error"),
        ({"scopes": ["notes:read"] * 101}, 422, "validation_error"),
        ({"scopes": ["notes read"]}, 422, "validation_error"),
        ({"name": " "}, 422, "validation_error"),
        ({"name": "x" * 65}, 422, "validation_error"),
        ({"name": "a\nb"}, 422, "validation_error"),
        ({"expires_in": -1}, 422, "validation_error"),
        ({"expires_in": 10**30}, 422, "validation_error"),
        ({"expires_in": True}, 422, "validation_error"),
        ({"expires_in": "60"}, 422, "validation_error"),
        ({"expires_in": 365 * 86400 + 1}, 400, "token_lifetime_refused"),
        ({"expires_in": 0}, 400, "token_lifetime_refused"),
        ({"user_id": str(uuid4())}, 422, "validation_error"),
    ],
)
async def test_what_cannot_be_made_is_refused(
    wanted: dict[str, object], status: int, code: str, account: Account
) -> None:
    answer = await create(account, **wanted)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await PersonalToken.all().count() == 0


FINE = {"name": {"a template", "SQL"}, "scopes": set[str](), "expires_in": {"null", "an integer"}}


@pytest.mark.parametrize("field", FINE)
async def test_no_field_takes_a_hostile_value(field: str, account: Account) -> None:
    """R-42 to R-46."""
    for name, value in HOSTILE.items():
        if name in FINE[field]:
            continue
        body = json.dumps({"name": "x", "scopes": ["notes:read"], "expires_in": 60} | {field: "@"})
        for content in {body.replace('"@"', value), body.replace('"@"', f"[{value}]")}:
            answer = await account.client.post(
                "/account/tokens",
                content=content.encode(),
                headers={"content-type": "application/json"} | account.headers,
            )
            assert answer.status_code in (400, 422), (name, answer.text)
            assert PLANTED not in answer.text


async def test_hostile_ids_and_those_of_others_are_not_found(
    account: Account, register: Callable[..., Awaitable[Account]], make: Make
) -> None:
    program = await make()
    other = await register("eve@example.com")
    for token_id in (program.id, str(uuid4()), "x", "%00", "\ud800".encode("utf-8", "surrogatepass").hex()):
        answer = await other.client.delete(f"/account/tokens/{token_id}", headers=other.headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "token_not_found")
    assert await listed(other) == []
    assert await program.notes() == 200


async def test_a_token_ends_with_its_lifetime_and_is_then_purged(
    account: Account, make: Make, clock: Clock, auth: Auth
) -> None:
    program, kept = await make(expires_in=3600), await make(expires_in=7200)
    clock.advance(seconds=3599)
    assert await program.notes() == 200
    clock.advance(seconds=2)
    assert await program.notes() == 401
    assert await kept.notes() == 200
    assert (await purge(auth))["auth_personal_token"] == 1
    assert [str(token.id) for token in await PersonalToken.all()] == [kept.id]


@on_one_database
async def test_a_token_without_end_is_made_where_the_app_allows_it(
    account: Account, make: Make, clock: Clock, settings: AuthSettings, auth: Auth
) -> None:
    settings.personal_token_max_age = timedelta()
    assert (await create(account, expires_in=400 * 86400)).status_code == 201
    program = await make(expires_in=0)
    assert (await listed(account))[0]["expires_at"] is None
    clock.advance(days=3650)
    assert await program.notes() == 200
    assert (await purge(auth))["auth_personal_token"] == 1
    assert await program.notes() == 200


@on_one_database
async def test_the_usual_lifetime_is_no_longer_than_the_longest(
    account: Account, settings: AuthSettings
) -> None:
    settings.personal_token_max_age = timedelta(hours=1)
    made = (await create(account)).json()
    lifetime = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert lifetime == timedelta(hours=1)


@on_each_database
async def test_the_limit_holds_in_a_race(
    account: Account, settings: AuthSettings, clock: Clock, make: Make
) -> None:
    settings.max_personal_tokens = 3
    await make(expires_in=60)
    answers = await asyncio.gather(*(create(account) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["code"] == "too_many_tokens"
    clock.advance(seconds=61)  # one that has expired does not count
    assert (await create(account)).status_code == 201
    assert (await create(account)).status_code == 409


async def disable(account: Account, auth: Auth) -> None:
    await User.all().update(is_active=False)


async def delete_account(account: Account, auth: Auth) -> None:
    answer = await account.client.delete("/account", headers=account.headers)
    assert answer.status_code == 204


async def reset(account: Account, auth: Auth) -> None:
    assert (await reset_password(account)).status_code == 200


async def force_reset(account: Account, auth: Auth) -> None:
    await require_password_reset(auth, (await User.get()).id)


async def disable_and_enable(account: Account, auth: Auth) -> None:
    user_id = (await User.get()).id
    await disable_user(auth, user_id)
    await enable_user(auth, user_id)


async def sign_out_everywhere(account: Account, auth: Auth) -> None:
    await end_sessions(auth, (await User.get()).id)


async def force_reset_and_lift(account: Account, auth: Auth) -> None:
    await force_reset(account, auth)
    await User.all().update(password_reset_required=False)


@on_one_database
@pytest.mark.parametrize("end", [disable, delete_account, reset, force_reset])
async def test_a_token_ends_with_its_account_and_with_a_reset(
    end: Callable[[Account, Auth], Awaitable[None]], account: Account, make: Make, auth: Auth
) -> None:
    program = await make()
    assert await program.notes() == 200
    await end(account, auth)
    assert await program.ask("GET", "/notes") == (401, "invalid_token")
    if end is disable:
        await User.all().update(is_active=True)
        assert await program.notes() == 200
    else:
        assert await PersonalToken.all().count() == 0


async def test_a_token_outlives_logout_and_a_changed_password(account: Account, make: Make) -> None:
    program = await make()
    assert (await change_password(account)).status_code == 204
    assert await program.notes() == 200
    account.password = "another good password"
    await account.client.post("/auth/logout", headers=account.headers)
    assert await program.notes() == 200


async def test_verifying_an_address_ends_the_tokens_of_whoever_came_before(
    client: httpx.AsyncClient, mailbox: Mailbox, settings: AuthSettings
) -> None:
    settings.require_verified_email = False
    await client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    stranger, link = Account(client, mailbox, EMAIL, PASSWORD), mailbox.link()
    await stranger.login()
    program = Program(client, (await create(stranger)).json())
    assert await program.notes() == 200
    assert (await client.get(link)).status_code == 200
    assert await program.notes() == 401


@on_one_database
@pytest.mark.parametrize(
    "end", [disable, disable_and_enable, reset, force_reset, force_reset_and_lift, sign_out_everywhere]
)
async def test_no_token_is_made_after_what_ends_tokens(
    end: Callable[[Account, Auth], Awaitable[None]], account: Account, auth: Auth
) -> None:
    """The request was let in before."""
    authentication = await authenticate(auth, account.access_token)
    await end(account, auth)
    with pytest.raises(AuthError) as refused:
        await tokens_flow.create_token(auth, authentication, "late", ["notes:read"])
    assert refused.value.code is ErrorCode.INVALID_TOKEN
    assert await PersonalToken.all().count() == 0


@on_each_database
async def test_of_a_reset_and_new_tokens_at_once_no_token_is_left(account: Account, mailbox: Mailbox) -> None:
    for _ in range(3):
        link = await forgot(account.client, mailbox)
        answers = await asyncio.gather(
            reset_by_link(account.client, link), *(create(account) for _ in range(6))
        )
        assert answers[0].status_code == 200
        assert {answer.status_code for answer in answers[1:]} <= {201, 401}
        assert await PersonalToken.all().count() == 0
        account.password = NEW
        assert (await account.login()).status_code == 200


async def test_a_token_is_one_query_and_its_use_is_recorded_once_a_minute(
    account: Account, make: Make, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    program = await make("notes:read", "notes:write")

    async def statements() -> list[str]:
        with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
            caplog.clear()
            assert (await program.ask("POST", "/notes"))[0] == 200  # two requirements
        return [match[0] for line in caplog.messages if (match := STATEMENT.match(line))]

    assert await statements() == ["SELECT", "UPDATE"]
    assert await statements() == ["SELECT"]
    clock.advance(seconds=61)
    assert await statements() == ["SELECT", "UPDATE"]
    assert await statements() == ["SELECT"]


async def test_what_is_no_token_of_anybody_is_refused(account: Account, make: Make) -> None:
    program = await make()
    changed = program.token[:-1] + ("A" if program.token[-1] != "A" else "B")
    for text in (
        changed,
        program.token[4:],
        program.token + "x",
        "pat_",
        "pat_" + "a" * 43,
        "pat_" + "é" * 43,
    ):
        headers = {"Authorization": f"Bearer {text}".encode()}
        answer = await account.client.get("/notes", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    digest = (await PersonalToken.get()).digest
    for text in (digest, f"pat_{digest}"):
        answer = await account.client.get("/notes", headers={"Authorization": f"Bearer {text}"})
        assert answer.status_code == 401


async def test_everything_about_tokens_is_told(
    account: Account, auth: Auth, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """To the log, and a new token to its owner; never the secret."""
    caplog.set_level(logging.DEBUG)
    heard: list[SecurityEvent] = []
    auth.on(SecurityEvent)(heard.append)
    mailbox.clear()
    made = (await create(account, name="<b>{{ 7*7 }}</b>")).json()
    program = Program(account.client, made)
    await create(account, scopes=["king"])
    await program.ask("POST", "/notes")
    await program.ask("GET", "/person")
    path = f"/account/tokens/{made['id']}"
    for _ in range(2):
        await account.client.delete(path, headers=account.headers)
    user = await User.get()
    told = [(event.kind, event.reason, event.user_id) for event in heard]
    assert told == [
        ("personal_token_created", None, user.id),
        ("personal_token_created", "unknown_scope", user.id),
        ("access", "insufficient_scope", user.id),
        ("access", "invalid_token", None),
        ("personal_token_revoked", None, user.id),
        ("personal_token_revoked", "token_not_found", user.id),
    ]
    (mail,) = mailbox.messages
    assert mail["To"] == EMAIL
    assert '"<b>{{ 7*7 }}</b>"' in text_of(mail)
    assert "notes:read" in text_of(mail)
    assert made["token"] not in mail.as_string() + caplog.text


@on_one_database
async def test_cookies_reach_such_a_route_from_pages_of_the_app_only(
    account: Account, settings: AuthSettings, clock: Clock
) -> None:
    settings.cookies = True
    app = FastAPI()
    auth = include_auth(app, settings=settings, clock=clock, features=[PersonalTokens(scopes=SCOPES)])

    @app.post("/notes")
    async def write(user: Annotated[User, Depends(require(scope="notes:write"))]) -> str:
        return user.email

    transport, own = httpx.ASGITransport(app), {"origin": "http://localhost:8000"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as browser:
        body = {"email": EMAIL, "password": PASSWORD}
        assert (await browser.post("/auth/login", json=body, headers=own)).status_code == 200
        assert (await browser.post("/notes", json={}, headers=own)).status_code == 200
        foreign = await browser.post("/notes", json={}, headers={"origin": "https://evil.example"})
        assert foreign.json()["code"] == "csrf_refused"
        created = await browser.post(
            "/account/tokens", json={"name": "x", "scopes": ["notes:write"]}, headers=own
        )
        bearer = {"Authorization": f"Bearer {created.json()['token']}", "origin": "https://evil.example"}
        assert (await browser.post("/notes", json={}, headers=bearer)).status_code == 200
    await auth.close()


@on_one_database
async def test_an_app_without_scopes_has_no_such_tokens(
    account: Account, make: Make, settings: AuthSettings, clock: Clock
) -> None:
    program = await make()
    app = FastAPI()
    auth = include_auth(app, settings=settings, clock=clock)

    @app.get("/notes")
    async def notes(user: Annotated[User, Depends(require(scope="notes:read"))]) -> str:
        return user.email

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        assert await Program(client, {"id": "", "token": program.token}).notes() == 401
        assert (await client.get("/notes", headers=account.headers)).status_code == 200
        for method in ("GET", "POST"):
            assert (await client.request(method, "/account/tokens")).status_code == 404
    await auth.close()


@on_one_database
async def test_a_scope_that_the_app_does_not_have_is_an_error_of_the_app(
    app: FastAPI, account: Account
) -> None:
    @app.get("/slip", dependencies=[Depends(require(scope="note:read"))])
    async def slip() -> None: ...

    with pytest.raises(ValueError, match="No feature of the app has the scope note:read"):
        await account.client.get("/slip", headers=account.headers)
    for scopes in ({"a b": ""}, {"": ""}, {"ä": ""}):
        with pytest.raises(ValueError, match="is not a name"):
            PersonalTokens(scopes=scopes)
