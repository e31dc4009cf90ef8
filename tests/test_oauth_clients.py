"""OAuth clients that the operator registers, and how a client shows at the token endpoint who it is (RFC 6749
section 2.3)."""

from __future__ import annotations

import base64
import re
from datetime import timedelta
from urllib.parse import quote_plus

import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.errors import AuthError
from fastapi_pluggable_auth.features import Feature
from fastapi_pluggable_auth.features.oauth_server.clients import (
    NewClient,
    authenticate_client,
    create_client,
    delete_client,
    find_client,
    is_trusted,
    list_clients,
    note_use,
    rotate_secret,
)
from fastapi_pluggable_auth.features.oauth_server.feature import OAuthServer
from fastapi_pluggable_auth.features.oauth_server.models import OAuthClient, OAuthGrant
from fastapi_pluggable_auth.features.oauth_server.names import OAuthError
from fastapi_pluggable_auth.features.oauth_server.protocol import ProtocolError
from fastapi_pluggable_auth.security.plaintext import Plaintext

from .conftest import Account, Clock, on_each_database

DIALECTS = ("sqlite",)

CALLBACK = "https://app.example.com/callback"


@pytest.fixture
def features() -> list[Feature]:
    return [OAuthServer(resources=["/mcp"], scopes={"notes:read": "Read your notes"})]


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, features: list[Feature]) -> FastAPI:
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, features=features, pages=True)
    return app


@pytest.fixture
async def secretive(auth: Auth, tortoise: object) -> NewClient:
    """A client with a secret."""
    return await create_client(auth, "Reports", [CALLBACK], confidential=True)


def basic(client_id: str, secret: str) -> str:
    return f"Basic {base64.b64encode(f'{quote_plus(client_id)}:{quote_plus(secret)}'.encode()).decode()}"


async def refusal(
    auth: Auth, *headers: str, client_id: str | None = None, secret: str | None = None
) -> object:
    with pytest.raises(AuthError) as raised:
        await authenticate_client(auth, headers, client_id, None if secret is None else Plaintext(secret))
    return raised.value.code


async def test_a_client_shows_its_secret_in_the_header_or_in_the_form(
    auth: Auth, secretive: NewClient
) -> None:
    client, secret = secretive.client, str(secretive.secret)
    for headers, client_id, in_form in (
        ([basic(client.client_id, secret)], None, None),
        ([basic(client.client_id, secret)], client.client_id, None),
        ([basic(client.client_id, secret).replace("Basic", "basic ")], None, None),
        ([], client.client_id, secret),
    ):
        sent = None if in_form is None else Plaintext(in_form)
        assert await authenticate_client(auth, headers, client_id, sent) == client
    (kept,) = await list_clients(auth)
    assert secret not in str(vars(kept))


async def test_a_client_with_a_secret_is_nobody_without_it(auth: Auth, secretive: NewClient) -> None:
    client_id, secret = secretive.client.client_id, str(secretive.secret)
    for headers, named, in_form in (
        ((), client_id, None),
        ((), client_id, ""),
        ((), client_id, secret[:-1]),
        ((), client_id.upper(), secret),
        ((), client_id + " ", secret),
        ((), None, secret),
        ((basic(client_id, ""),), None, None),
        ((basic(client_id, "x"),), None, None),
        ((basic("", secret),), None, None),
        (("Basic",), None, None),
        (("Basic !",), None, None),
        (("Basic " + base64.b64encode(b"\xff:\xff").decode(),), None, None),
        (("Basic " + base64.b64encode(client_id.encode()).decode(),), None, None),
        ((f"Bearer {secret}",), client_id, None),
    ):
        code = await refusal(auth, *headers, client_id=named, secret=in_form)
        assert code is ProtocolError.INVALID_CLIENT, (headers, named, in_form)
    (kept,) = await list_clients(auth)
    assert kept.last_used_at is None


async def test_a_client_shows_it_in_one_way_only(auth: Auth, secretive: NewClient) -> None:
    """RFC 6749 section 2.3: no more than one method in a request."""
    client_id, secret = secretive.client.client_id, str(secretive.secret)
    header = basic(client_id, secret)
    assert await refusal(auth, header, header) is ProtocolError.INVALID_REQUEST
    assert await refusal(auth, header, secret=secret) is ProtocolError.INVALID_REQUEST
    assert await refusal(auth, header, client_id="c_other") is ProtocolError.INVALID_REQUEST


async def test_a_public_client_has_its_id_alone(auth: Auth, tortoise: object) -> None:
    made = await create_client(auth, "CLI", ["http://127.0.0.1/callback"])
    client_id = made.client.client_id
    assert made.secret is None
    assert await authenticate_client(auth, [], client_id, None) == made.client
    assert await authenticate_client(auth, [basic(client_id, "")], None, None) == made.client
    assert await refusal(auth, client_id=client_id, secret="x") is ProtocolError.INVALID_CLIENT
    assert await refusal(auth, client_id="c_unknown") is ProtocolError.INVALID_CLIENT
    assert await refusal(auth, client_id="é") is ProtocolError.INVALID_CLIENT


async def test_its_use_is_written_once_a_minute(auth: Auth, tortoise: object, clock: Clock) -> None:
    client_id = (await create_client(auth, "CLI", [CALLBACK])).client.client_id
    written = []
    for seconds in (0, 50, 11):
        clock.advance(seconds=seconds)
        await note_use(auth, await authenticate_client(auth, [], client_id, None))
        written += [each.last_used_at for each in await list_clients(auth)]
    assert written[0] is not None
    assert written[2] is not None
    assert written[0] == written[1] <= written[2] - timedelta(minutes=1)


async def test_a_new_secret_ends_the_old_one_at_once(auth: Auth, secretive: NewClient) -> None:
    client_id = secretive.client.client_id
    rotated = await rotate_secret(auth, client_id)
    assert await refusal(auth, client_id=client_id, secret=secretive.secret) is ProtocolError.INVALID_CLIENT
    sent = Plaintext(str(rotated.secret))
    assert await authenticate_client(auth, [], client_id, sent) == secretive.client
    public = await create_client(auth, "CLI", [CALLBACK])
    for other, code in (
        (public.client.client_id, OAuthError.OAUTH_CLIENT_REFUSED),
        ("c_unknown", OAuthError.OAUTH_CLIENT_NOT_FOUND),
    ):
        with pytest.raises(AuthError) as raised:
            await rotate_secret(auth, other)
        assert raised.value.code is code


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"name": " \n"}, "needs a name"),
        ({"redirect_uris": []}, "it has no redirect URI"),
        (
            {"redirect_uris": [CALLBACK, "http://app.example.com/"]},
            "'http://app.example.com/' is http, which",
        ),
        ({"redirect_uris": [f"{CALLBACK}/{n:0200}" for n in range(20)]}, "too many, or too long"),
        ({"scopes": ["notes:read", "notes:write"]}, "no scope notes:write: it has notes:read"),
        ({"client_id": "mine"}, "is an https address with a path"),
        ({"client_id": "https://app.example.com/id", "confidential": True}, "is public"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_is_wrong_with_a_new_client_is_said(
    options: dict[str, object], why: str, auth: Auth, tortoise: object
) -> None:
    chosen = {"name": "Reports", "redirect_uris": [CALLBACK], **options}
    with pytest.raises(AuthError) as raised:
        await create_client(auth, **chosen)  # type: ignore[arg-type]
    assert raised.value.code is OAuthError.OAUTH_CLIENT_REFUSED
    assert why in raised.value.detail
    assert await list_clients(auth) == []


async def test_a_client_that_the_operator_registers_by_its_address_is_never_fetched(
    auth: Auth, tortoise: object
) -> None:
    """Some hosts give their documents to no server (github.com/anthropics/claude-code/issues/84263)."""
    address = "https://claude.ai/oauth/claude-code-client-metadata"
    made = await create_client(auth, "Claude Code", ["http://localhost/callback"], client_id=address)
    assert await find_client(auth, address) == made.client
    assert is_trusted(auth, made.client)
    with pytest.raises(AuthError, match="delete it first"):
        await create_client(auth, "Claude Code", [CALLBACK], client_id=address)


@on_each_database
async def test_with_a_client_goes_all_that_users_have_allowed_it(
    auth: Auth, account: Account, secretive: NewClient, clock: Clock
) -> None:
    other = await create_client(auth, "CLI", [CALLBACK])
    user = await auth.tables.user.all().first()
    for each in (secretive.client, other.client):
        await auth.tables.of(OAuthGrant).create(
            user=user,
            client=each,
            scopes={"notes:read"},
            resources={"http://localhost:8000/mcp"},
            expires_at=clock() + timedelta(days=30),
            authorized_at=clock(),
        )
    await delete_client(auth, secretive.client.client_id)
    assert [each.client_id for each in await auth.tables.of(OAuthGrant).all()] == [other.client.id]
    assert await list_clients(auth) == [other.client]
    with pytest.raises(AuthError) as raised:
        await delete_client(auth, secretive.client.client_id)
    assert raised.value.code is OAuthError.OAUTH_CLIENT_NOT_FOUND


async def test_a_client_that_is_disabled_is_not_found(auth: Auth, secretive: NewClient, clock: Clock) -> None:
    assert await find_client(auth, secretive.client.client_id) == secretive.client
    await auth.tables.of(OAuthClient).all().update(disabled_at=clock())
    assert await find_client(auth, secretive.client.client_id) is None


async def test_ids_and_secrets_are_random_and_a_secret_has_a_prefix_that_scanners_find(
    secretive: NewClient,
) -> None:
    assert re.fullmatch(r"c_[\w-]{22}", secretive.client.client_id)
    assert re.fullmatch(r"ocs_[\w-]{43}", str(secretive.secret))
