"""Plugging in: every way a host app sets up FastAPI and Tortoise."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import FastAPIError
from pydantic import ValidationError
from tortoise import Tortoise
from tortoise.context import TortoiseContext
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import (
    AuthSettings,
    CurrentUser,
    InsecureSettingsError,
    RecentUser,
    get_current_user,
    include_auth,
)
from fastapi_pluggable_auth import config as config_module
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.features import (
    Administration,
    AuditLog,
    Feature,
    OAuthServer,
    Oidc,
    Passkeys,
    PersonalTokens,
    SocialLogin,
)
from fastapi_pluggable_auth.features.oauth_server.settings import OAuthSettings
from fastapi_pluggable_auth.http.route import AuthRoute
from fastapi_pluggable_auth.models import RefreshToken, User
from fastapi_pluggable_auth.routes import account as account_routes
from fastapi_pluggable_auth.routes import core
from fastapi_pluggable_auth.routes.router import AuthRouter
from fastapi_pluggable_auth.schemas import ProfileUpdate
from fastapi_pluggable_auth.security.hashing import hash_password
from fastapi_pluggable_auth.security.jwt import create_access_token

from . import databases
from .conftest import EMAIL, PASSWORD, SECRET, Account, Clock, Database, Mailbox, on_each_database
from .live import serving
from .test_keys import EC, pem_of

DIALECTS = ("sqlite",)
MODELS = {"models": ["fastapi_pluggable_auth.models"]}
CREDENTIALS = {"email": EMAIL, "password": PASSWORD}


@asynccontextmanager
async def asgi_client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client that runs no lifespan."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


async def schemas(app: FastAPI, url: str) -> None:
    await Tortoise.init(db_url=url, modules=MODELS)
    await Tortoise.generate_schemas()


def app_with_plain_init_in_lifespan(url: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await schemas(app, url)
        yield
        await Tortoise.close_connections()

    return FastAPI(lifespan=lifespan)


def app_with_register_tortoise(url: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with RegisterTortoise(app, db_url=url, modules=MODELS, generate_schemas=True):
            yield

    return FastAPI(lifespan=lifespan)


def app_with_startup_handler(url: str) -> FastAPI:
    app = FastAPI()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        @app.on_event("startup")
        async def startup() -> None:
            await schemas(app, url)

        @app.on_event("shutdown")
        async def shutdown() -> None:
            await Tortoise.close_connections()

    return app


@pytest.mark.parametrize(
    "host", [app_with_plain_init_in_lifespan, app_with_register_tortoise, app_with_startup_handler]
)
def test_every_usual_set_up_of_tortoise_works_under_uvicorn(
    host: Callable[[str], FastAPI], settings: AuthSettings, mailbox: Mailbox, tmp_path: Path
) -> None:
    app = host(f"sqlite://{tmp_path / 'host.sqlite3'}")
    include_auth(app, settings=settings)

    @app.get("/host")
    async def host_route(user: CurrentUser) -> dict[str, int]:
        return {"users": await User.filter(id=user.id).count()}

    with serving(app) as base, httpx.Client(base_url=base, timeout=30) as client:
        assert client.post("/auth/signup", json=CREDENTIALS).status_code == 201
        mailbox.server.wait_for(1)
        assert client.get(mailbox.link()).status_code == 200
        token = client.post("/auth/login", json=CREDENTIALS).json()["access_token"]
        answer = client.get("/host", headers={"Authorization": f"Bearer {token}"})
        assert answer.json() == {"users": 1}


def test_mail_of_a_request_that_was_cut_off_is_sent_by_the_lifespan(
    settings: AuthSettings, mailbox: Mailbox, tmp_path: Path
) -> None:
    """R-26: what is in the outbox at start-up leaves it."""
    url = f"sqlite://{tmp_path / 'host.sqlite3'}"

    async def leave_a_mail() -> None:
        async with TortoiseContext() as context:
            await context.init(db_url=url, modules=MODELS)
            await context.generate_schemas()
            auth = include_auth(FastAPI(), settings=settings)
            await User.create(email=EMAIL, hashed_password="")
            await auth.outbox.add(MailKind.VERIFY, EMAIL)

    asyncio.run(leave_a_mail())
    app = app_with_plain_init_in_lifespan(url)
    include_auth(app, settings=settings)
    with serving(app):
        mailbox.server.wait_for(1)
    assert [message["To"] for message in mailbox.messages] == [EMAIL]


async def test_two_apps_with_different_settings_live_in_one_process(
    settings: AuthSettings, tortoise: TortoiseContext, mailbox: Mailbox
) -> None:
    one, other = FastAPI(), FastAPI()
    include_auth(one, settings=settings)
    include_auth(other, settings=settings.model_copy(update={"jwt_secret": SECRET[::-1], "totp_issuer": "B"}))
    async with asgi_client(one) as client_of_one, asgi_client(other) as client_of_other:
        await client_of_one.post("/auth/signup", json=CREDENTIALS)
        await client_of_one.get(mailbox.link())
        token = (await client_of_one.post("/auth/login", json=CREDENTIALS)).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        assert (await client_of_one.get("/auth/me", headers=headers)).status_code == 200
        assert (await client_of_other.get("/auth/me", headers=headers)).status_code == 401
        issuer = (await client_of_one.post("/auth/2fa/enable", headers=headers)).json()["otpauth_uri"]
        assert "issuer=MyApp" in issuer


def test_the_tables_mount_under_any_app_label(
    settings: AuthSettings, mailbox: Mailbox, tmp_path: Path
) -> None:
    """In a process of its own: Tortoise keeps labels for the life of the process."""
    script = tmp_path / "label.py"
    script.write_text(LABEL_SCRIPT)
    import subprocess
    import sys

    result = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert result.stdout.strip() == "201 1 {'accounts'}", result.stderr


LABEL_SCRIPT = f"""
import asyncio, httpx
from fastapi import FastAPI
from tortoise import Tortoise
from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.models import Session, User

async def main():
    app = FastAPI()
    include_auth(app, settings=AuthSettings(
        jwt_secret="{SECRET}", bcrypt_rounds=4, email_provider="smtp", smtp_host="127.0.0.1", smtp_port=1))
    await Tortoise.init(db_url="sqlite://:memory:", modules={{"accounts": ["fastapi_pluggable_auth.models"]}})
    await Tortoise.generate_schemas()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
        answer = await client.post("/auth/signup", json={CREDENTIALS!r})
    print(answer.status_code, await User.all().count(), {{Session._meta.app}})
    await Tortoise.close_connections()

asyncio.run(main())
"""


async def test_a_mounted_app_works_below_its_mount_point(
    settings: AuthSettings, tortoise: TortoiseContext, mailbox: Mailbox
) -> None:
    settings.public_base_url = "http://localhost:8000/api"
    parent, child = FastAPI(), FastAPI()
    include_auth(child, settings=settings)
    parent.mount("/api", child)
    async with asgi_client(parent) as client:
        assert (await client.post("/api/auth/signup", json=CREDENTIALS)).status_code == 201
        assert mailbox.link().startswith("/api/auth/verify/")
        assert (await client.get(mailbox.link())).status_code == 200
        await client.post("/api/auth/forgot-password", json={"email": EMAIL})
        page = await client.get(mailbox.link(), headers={"Accept": "text/html"})
        assert f'action="{mailbox.link()}/form"' in page.text


async def test_the_route_prefix_moves_routes_and_links(
    settings: AuthSettings, tortoise: TortoiseContext, mailbox: Mailbox
) -> None:
    settings.route_prefix = "/api/v1"
    app = FastAPI()
    include_auth(app, settings_override=settings)
    async with asgi_client(app) as client:
        assert (await client.post("/auth/signup", json=CREDENTIALS)).status_code == 404
        assert (await client.post("/api/v1/auth/signup", json=CREDENTIALS)).status_code == 201
        assert (await client.get(mailbox.link())).json() == {"detail": "Your e-mail address is verified."}


@pytest.mark.parametrize(
    "prefix", ["/{tenant}", "/a%20b", "/a?b", "/a#b", "/a\\b", "/a b", "//a", "/a/", "a"]
)
def test_a_route_prefix_that_paths_and_links_would_not_share_is_refused(prefix: str) -> None:
    with pytest.raises(ValidationError, match="route_prefix"):
        AuthSettings(_env_file=None, route_prefix=prefix)


def test_a_duration_that_dates_cannot_bear_is_refused() -> None:
    """Also one that is set later."""
    settings = AuthSettings(_env_file=None)
    names = [name for name, field in AuthSettings.model_fields.items() if field.annotation is timedelta]
    assert len(names) > 15
    for name in names:
        for wrong in (-1, "-PT1S", "P9000Y", 10**12, timedelta.max):
            with pytest.raises(ValidationError, match=name):
                setattr(settings, name, wrong)
        setattr(settings, name, 0)


async def test_a_route_called_before_tortoise_is_initialised_answers_clearly(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    """R-51: no route is open before the start has ended, and none says more than that."""

    @app.get("/host", dependencies=[Depends(get_current_user)])
    async def host_route() -> None: ...

    async with asgi_client(app) as client:
        for answer in (
            await client.post("/auth/signup", json=CREDENTIALS),
            await client.get("/host", headers={"Authorization": "Bearer x"}),
        ):
            assert answer.status_code == 503
            assert answer.json() == {
                "detail": "The application has not initialised its database.",
                "code": "database_not_initialised",
            }
    assert "RegisterTortoise" in caplog.text
    assert "Traceback" not in caplog.text


async def test_start_up_without_tortoise_is_told_and_mail_still_leaves_after_responses(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    async with app.router.lifespan_context(app):
        assert "not initialised at start-up" in caplog.text


@pytest.mark.parametrize("dialect", ["postgres", "mysql"])
async def test_a_database_that_is_down_is_503(
    dialect: str, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    """The client learns nothing but that it may try again."""

    @app.get("/host", dependencies=[Depends(get_current_user)])
    async def host_route() -> None: ...

    signer = app.state.pluggable_auth.signer
    headers = {"Authorization": f"Bearer {signer.access_token(uuid4())}"}
    async with TortoiseContext() as context:
        await context.init(databases.config(f"{dialect}://nobody@127.0.0.1:1/none", dialect))
        async with asgi_client(app) as client:
            for answer in (
                await client.post("/auth/login", json=CREDENTIALS),
                await client.get("/host", headers=headers),
            ):
                assert answer.status_code == 503
                assert answer.json() == {
                    "detail": "The service is temporarily unavailable.",
                    "code": "database_unavailable",
                }
                assert answer.headers["retry-after"] == "1"


async def test_host_routes_refuse_with_the_same_body(app: FastAPI, tortoise: TortoiseContext) -> None:
    @app.get("/host", dependencies=[Depends(get_current_user)])
    async def host_route() -> None: ...

    async with asgi_client(app) as client:
        answer = await client.get("/host")
    assert answer.status_code == 401
    assert answer.json() == {"detail": "An access token is required.", "code": "not_authenticated"}
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_errors_of_host_routes_stay_the_hosts_own(app: FastAPI, client: httpx.AsyncClient) -> None:
    @app.get("/host/{number}")
    async def host_route(number: int) -> int:
        return number

    answer = await client.get("/host/x")
    assert answer.status_code == 422
    assert "code" not in answer.json()


@pytest.mark.parametrize("secret", ["CHANGE_ME", "supersecret"])
def test_a_weak_secret_is_refused_on_a_public_address_only(
    secret: str, settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """A-58."""
    settings.jwt_secret = secret
    for local in ("http://localhost:8000", "http://127.0.0.1", "http://[::1]:8000"):
        settings.public_base_url = local
        include_auth(FastAPI(), settings=settings)
        assert "JWT_SECRET" in caplog.text
    for public in (
        "https://app.example.com",
        "http://localhost.example.com",
        "https://localhost@evil.example",
    ):
        settings.public_base_url = public
        with pytest.raises(InsecureSettingsError, match="JWT_SECRET"):
            include_auth(FastAPI(), settings=settings)


@pytest.mark.parametrize("url", ["http://app.example.com", "http://192.168.0.9:8000", "ftp://x", "app.com"])
def test_a_public_address_without_https_is_refused_unless_told(
    url: str, settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """A-37, H-01."""
    settings.public_base_url = url
    with pytest.raises(InsecureSettingsError, match="not https"):
        include_auth(FastAPI(), settings=settings)
    settings.allow_http = True
    include_auth(FastAPI(), settings=settings)
    assert "not https" in caplog.text


@pytest.mark.parametrize("url", ["http://web:8000", "http://app.test", "https://app.example.com"])
def test_names_that_are_not_public_need_no_https(
    url: str, settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.public_base_url = url
    include_auth(FastAPI(), settings=settings)
    assert "not https" not in caplog.text


def test_settings_come_from_the_environment_and_env_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(
        "JWT_SECRET=from-file\nSMTP_USER=\nACCESS_TOKEN_EXPIRES=900\nREFRESH_TOKEN_EXPIRES=P2D\nUNKNOWN=1\n"
    )
    monkeypatch.setenv("TOTP_ISSUER", "Environment")
    read = AuthSettings()
    assert (read.jwt_secret, read.totp_issuer, read.smtp_user) == ("from-file", "Environment", None)
    assert (read.access_token_expires.total_seconds(), read.refresh_token_expires.days) == (900, 2)


def test_no_secret_is_in_the_representation_of_the_settings() -> None:
    """A-91."""
    shown = repr(AuthSettings(jwt_secret=SECRET, smtp_password="hunter22", sendgrid_api_key="SG.key"))
    assert SECRET not in shown
    assert "hunter22" not in shown
    assert "SG.key" not in shown


async def test_a_changed_setting_takes_effect(account: Account, settings: AuthSettings, clock: Clock) -> None:
    settings.access_token_expires = settings.access_token_expires * 2
    await account.login()
    clock.advance(minutes=25)
    assert (await account.me()).status_code == 200


@on_each_database
async def test_the_documented_helpers_work_on_the_default_settings(
    tortoise: TortoiseContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_module.settings, "jwt_secret", SECRET)
    app = FastAPI()
    include_auth(app)
    user = await User.create(email="Grace@Example.com", hashed_password=hash_password(PASSWORD))
    async with asgi_client(app) as client:
        headers = {"Authorization": f"Bearer {create_access_token(user.id)}"}
        me = await client.get("/auth/me", headers=headers)
    assert me.json()["email"] == "grace@example.com"


async def test_routers_mounted_by_hand_use_the_default_settings(
    tortoise: TortoiseContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_module.settings, "jwt_secret", SECRET)
    app = FastAPI()
    app.include_router(core.router)
    user = await User.create(email=EMAIL, hashed_password="")
    async with asgi_client(app) as client:
        headers = {"Authorization": f"Bearer {create_access_token(user.id)}"}
        assert (await client.get("/auth/me", headers=headers)).status_code == 200
        assert (await client.get("/auth/me")).json()["code"] == "not_authenticated"


CONTRACT = {
    ("post", "/auth/signup"), ("post", "/auth/login"), ("post", "/auth/refresh"), ("get", "/auth/me"),
    ("post", "/auth/logout"), ("get", "/auth/verify/{token}"), ("post", "/auth/verify/resend"),
    ("post", "/auth/forgot-password"), ("post", "/auth/reset-password/{token}"),
    ("post", "/auth/2fa/enable"), ("post", "/auth/2fa/verify"), ("get", "/account"), ("patch", "/account"),
    ("delete", "/account"), ("post", "/account/change-password"), ("post", "/account/2fa/disable"),
    ("post", "/account/logout-others"),
}  # fmt: skip
BESIDE_IT = {
    ("post", "/auth/reauthenticate"), ("post", "/auth/verify/{token}"), ("post", "/account/set-password"),
    ("get", "/auth/email-change/{token}"), ("post", "/auth/email-change/{token}"),
    ("get", "/auth/stop-email-change/{token}"), ("post", "/auth/stop-email-change/{token}"),
    ("get", "/auth/reset-password/{token}"), ("get", "/account/sessions"),
    ("delete", "/account/sessions/{session_id}"), ("get", "/auth/2fa/recovery-codes"),
    ("post", "/auth/reauthenticate/mail"), ("post", "/auth/reauthenticate/mail/code"),
    ("get", "/account/devices"), ("delete", "/account/devices/{device_id}"),
    ("post", "/auth/2fa/recovery-codes"), ("get", "/.well-known/jwks.json"), ("get", "/account/export"),
    ("get", "/auth/invite/{token}"), ("post", "/auth/invite/{token}"),
    ("post", "/auth/verify/code"), ("post", "/auth/reset-password/code"), ("post", "/auth/email-change/code"),
}  # fmt: skip


def test_the_documented_routes_are_all_there_and_no_others(app: FastAPI) -> None:
    """A-21."""
    paths = app.openapi()["paths"]
    assert {(method, path) for path, methods in paths.items() for method in methods} == CONTRACT | BESIDE_IT


async def test_every_path_answers_with_and_without_slashes_at_its_end_and_no_redirect_names_the_host(
    settings: AuthSettings, tortoise: TortoiseContext, mailbox: Mailbox
) -> None:
    """R-48: Starlette would make its address of the request's Host. The same where routers are mounted in
    others by hand, and in apps that are mounted."""
    settings.cookies, settings.dev_mailbox, settings.email_provider = True, True, "memory"
    settings.jwt_algorithm, settings.jwt_private_key = "ES256", pem_of(EC)
    accounts, parent = FastAPI(), FastAPI()
    features = [Administration(), PersonalTokens(scopes={"notes:read": "Read"}), AuditLog(), Passkeys()]
    acme = Oidc("acme", issuer="https://acme.example", client_id="app")
    oauth = OAuthSettings(_env_file=None, oauth_registration=True, oauth_openid=True)  # type: ignore[call-arg]
    features += [SocialLogin(acme), OAuthServer(resources=["/api"], settings=oauth)]
    include_auth(accounts, settings=settings, pages=True, features=features)
    by_hand, outer = APIRouter(prefix="/v1"), APIRouter(prefix="/by-hand")
    by_hand.include_router(core.router)
    by_hand.include_router(account_routes.router)
    outer.include_router(by_hand)
    accounts.include_router(outer)
    parent.mount("/mounted", accounts)
    ours = [route.path for route in accounts.routes if isinstance(route, AuthRoute)]
    ours = [path for path in ours if not path.startswith("//")]  # which a client takes for a host
    assert len(ours) > 40
    ours += ["/by-hand/v1/auth/login", "/by-hand/v1/auth/me", "/by-hand/v1/account"]
    foreign = {"Host": "evil.example"}
    async with asgi_client(accounts) as client, asgi_client(parent) as above:
        for path in {re.sub(r"{\w+}", "0", path) for path in ours}:
            for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"):
                answers = [
                    await server.request(method, prefix + path + end, headers=foreign)
                    for server, prefix in ((client, ""), (above, "/mounted"))
                    for end in ("", "/", "//")
                ]
                assert len({(each.status_code, each.headers.get("allow")) for each in answers}) == 1, path
                assert not any("evil" in each.text + str(each.headers) for each in answers), path
                assert answers[0].status_code not in (307, 500), path


async def test_a_refused_method_names_those_of_the_app_that_was_asked(settings: AuthSettings) -> None:
    """Not those of another app of the process; with those that the app itself adds to the path."""
    plain, richer, by_hand = FastAPI(), FastAPI(), FastAPI()
    more = AuthRouter(prefix="/account")

    @more.put("")
    async def more_than_the_contract() -> None: ...

    for app in (richer, plain):
        include_auth(app, settings=settings)
    more.add_to(richer.router)
    richer.options("/account")(more_than_the_contract)
    by_hand.include_router(account_routes.router)
    allowed = []
    for app in (plain, richer, by_hand):
        async with asgi_client(app) as client:
            answer = await client.post("/account")
            assert answer.status_code == 405
            allowed.append(answer.headers["allow"])
    contract = "DELETE, GET, PATCH"
    assert allowed == [contract, "DELETE, GET, OPTIONS, PATCH, PUT", contract]


async def test_a_route_of_a_feature_is_a_function_of_either_kind_also_with_a_body_of_the_package(
    settings: AuthSettings, tortoise: TortoiseContext
) -> None:
    routes = AuthRouter(prefix="/auth/echo")

    @routes.post("")
    def echo(*, body: ProfileUpdate, times: int = 2) -> str:
        return f"{body.display_name}" * times

    @routes.post("/later")
    async def later(body: ProfileUpdate) -> str:
        return f"{body.display_name}"

    def with_echo() -> FastAPI:
        app = FastAPI()
        include_auth(app, settings=settings, features=[Feature(name="echo", routers=lambda _: [routes])])
        return app

    async with asgi_client(with_echo()) as client:
        for path, echoed in (("", "AdaAda"), ("/later", "Ada")):
            body = {"display_name": "Ada", "mailed_code": True}
            assert (await client.post(f"/auth/echo{path}", json=body)).json() == echoed
    routes.post("/partly")(partial(echo, times=3))
    with pytest.raises(TypeError, match=r"endpoint is .*partial.*: write a function"):
        with_echo()


def test_every_route_documents_its_errors_with_the_bodies_it_sends(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    assert len(paths) > 20
    for path, methods in paths.items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    schema = answer["content"]["application/json"]["schema"]
                    names = {ref["$ref"].rsplit("/", 1)[1] for ref in schema.get("anyOf", [schema])}
                    assert names <= {"Auth-ValidationFailure", "Auth-Error", "Auth-SecondFactorNeeded"}, path
                    assert ("Auth-ValidationFailure" in names) == (status == "422"), (method, path)


def test_a_route_for_signed_in_users_documents_how_it_refuses_others_beside_its_own_codes(
    settings: AuthSettings,
) -> None:
    app = FastAPI()
    include_auth(app, settings=settings, features=[Administration()])
    secured = [
        (method, path, operation)
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
        if operation.get("security")
    ]
    assert len(secured) > 20
    for method, path, operation in secured:
        told = "".join(answer["description"] for answer in operation["responses"].values())
        for code in ("not_authenticated", "invalid_token", "refresh_raced", "csrf_refused"):
            assert f"`{code}`" in told, (method, path)
    refusals = app.openapi()["paths"]["/account"]["delete"]["responses"]["403"]["description"]
    assert "`reauthentication_required`" in refusals


@on_each_database
async def test_deleting_a_user_deletes_what_hangs_on_it(account: Account, database: Database) -> None:
    user = await User.get(email=EMAIL)
    await user.delete()
    assert await RefreshToken.all().count() == 0
    assert (await account.me()).status_code == 401


async def test_a_route_may_ask_for_a_recent_login(app: FastAPI, account: Account, clock: Clock) -> None:
    """A-74: freshness for the host app."""

    @app.get("/secrets")
    async def secrets(user: RecentUser) -> str:
        return user.email

    assert (await account.client.get("/secrets", headers=account.headers)).json() == EMAIL
    clock.advance(minutes=16)
    account.access_token = (await account.refresh()).json()["access_token"]
    refused = await account.client.get("/secrets", headers=account.headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "reauthentication_required")
    body = {"password": account.password}
    await account.client.post("/auth/reauthenticate", json=body, headers=account.headers)
    assert (await account.client.get("/secrets", headers=account.headers)).status_code == 200


async def test_there_is_no_account_by_default_and_nothing_that_hints_at_a_password(
    app: FastAPI, tortoise: TortoiseContext
) -> None:
    """A-11."""
    assert await User.all().count() == 0
    document = json.dumps(app.openapi()).lower()
    assert "hint" not in document
    assert "question" not in document


async def test_a_start_that_fails_serves_nothing(settings: AuthSettings) -> None:
    """R-51."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with TortoiseContext() as context:
            await context.init(databases.config("postgres://nobody@127.0.0.1:1/none", "postgres"))
            await context.connections.get("postgres").execute_query("SELECT 1")
            yield

    app = FastAPI(lifespan=lifespan)
    include_auth(app, settings=settings)
    with pytest.raises(OSError, match="Connect call failed"):
        async with app.router.lifespan_context(app):
            raise AssertionError("started")


def test_a_route_with_a_mistake_is_refused_when_the_app_is_made() -> None:
    """Rather than at its first request, which nobody may make before it is live."""
    router = AuthRouter()

    @router.get("/odd")
    async def odd(value: object) -> Clock:  # no model of an answer
        raise NotImplementedError

    with pytest.raises(FastAPIError):
        router.add_to(APIRouter())


def test_each_argument_of_include_auth_has_a_line_of_its_own() -> None:
    named = re.findall(r"^`(\w+)`: ", inspect.getdoc(include_auth) or "", re.MULTILINE)
    assert named == [*inspect.signature(include_auth).parameters]
