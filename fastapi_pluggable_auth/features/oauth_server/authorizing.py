"""The authorization request of a client, and the decision of the user (RFC 6749 section 4.1, RFC 7636)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from ...auth import Auth
from ...errors import AuthError
from ...flows.authentication import Authentication, refuse_impersonation
from ...flows.pending import begin, find, take
from ...models import AbstractPending, exact, matching
from ...security.plaintext import Plaintext
from ...security.redirects import MAXIMUM_LENGTH
from .allowing import Code, DeniedError, allow
from .clients import client_host, find_client, is_trusted, require_grant_type, scopes_asked
from .models import (
    AUTHORIZATION_CODE,
    CODE,
    AbstractOAuthClient,
    OAuthClient,
    OAuthGrant,
    digest_of,
)
from .names import OAuthError
from .openid import OPENID, bound_sign_in, hint_in
from .protocol import ProtocolError
from .redirects import is_local, matches, shown_host
from .resources import all_resources, issuer_of, resources_asked
from .tokens import new_secret

CODE_LIFETIME: Final = timedelta(seconds=60)
REQUEST_LIFETIME: Final = timedelta(minutes=10)
"""For the user to decide."""

_KIND: Final = "oauth_request"
_CHALLENGE: Final = re.compile("[A-Za-z0-9_-]{43}")
"""RFC 7636 section 4.2: SHA-256 in base64url."""
_SECONDS: Final = re.compile("[0-9]{1,9}")
_LISTS: Final = frozenset({"resource"})
"""Parameters that may be there several times (RFC 8707 section 2)."""


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """What a client asks for, after it was checked; `resources` are absolute addresses. `max_age` is how old
    the login of the user may be, and `hinted` the id of the user whom the client knows already."""

    client: AbstractOAuthClient
    redirect_uri: str
    scopes: frozenset[str]
    resources: frozenset[str]
    state: str | None = field(repr=False)
    code_challenge: str = field(repr=False)
    prompt: frozenset[str] = frozenset()
    nonce: str | None = field(default=None, repr=False)
    max_age: timedelta | None = None
    hinted: str | None = None


@dataclass(frozen=True, slots=True)
class Consent:
    """What the consent page shows. `value` finds the request again: the form posts it as `request`. `local`
    is whether the answer goes to a program on the user's machine, which any program there could be."""

    value: str = field(repr=False)
    request: AuthorizationRequest
    redirect_host: str
    local: bool


class RedirectedError(Exception):
    """A refusal that the client gets, by the redirect to `location`. One that is not `silent` comes after the
    user has signed in, and the browser goes there by itself only where the client is `trusted`: nobody leads
    others elsewhere by a link to the app (RFC 9700 section 4.11.2)."""

    def __init__(self, location: str, *, silent: bool = False, trusted: bool = False) -> None:
        super().__init__()
        self.location = location
        self.silent = silent
        self.trusted = trusted


async def read_request(auth: Auth, parameters: Sequence[tuple[str, str]]) -> AuthorizationRequest:
    """What the parameters of a request ask for. Raises `AuthError(OAUTH_REQUEST_REFUSED)` for a client or
    redirect URI that is not known and for one without PKCE S256, which are never redirected, and
    `RedirectedError` for everything else."""
    given = {name: value for name, value in parameters if value}
    times = Counter(name for name, _ in parameters)
    client = await _client(auth, given, times)
    redirect_uri = _redirect_uri(client, given, times)
    pkce = given.get("code_challenge_method") == "S256" and times["code_challenge"] == 1
    if not (pkce and _CHALLENGE.fullmatch(given.get("code_challenge", ""))):
        raise _refused("it lacks PKCE: send code_challenge, and code_challenge_method=S256")
    if sum(len(name) + len(value) for name, value in parameters) > MAXIMUM_LENGTH:
        raise _refused("it is too long")
    state = given.get("state") if times["state"] == 1 else None
    try:
        prompt = frozenset(given.get("prompt", "").split())
        repeated = any(times[name] > 1 for name in times if name not in _LISTS)
        if repeated or "response_type" not in given or ("none" in prompt and len(prompt) > 1):
            raise AuthError(ProtocolError.INVALID_REQUEST)
        require_grant_type(client, AUTHORIZATION_CODE)
        if given["response_type"] != "code":
            raise AuthError(ProtocolError.UNSUPPORTED_RESPONSE_TYPE)
        if given.get("response_mode", "query") != "query" or {"request", "request_uri"} & given.keys():
            raise AuthError(ProtocolError.INVALID_REQUEST)
        asked = [value for name, value in parameters if name == "resource"]
        return AuthorizationRequest(
            client=client,
            redirect_uri=redirect_uri,
            scopes=scopes_asked(auth, client, given.get("scope", "")),
            resources=resources_asked(auth, asked, all_resources(auth)),
            state=state,
            code_challenge=given["code_challenge"],
            prompt=prompt,
            nonce=given.get("nonce"),
            max_age=_max_age(given),
            hinted=_hinted(auth, given),
        )
    except AuthError as error:
        silent = "none" in given.get("prompt", "").split()
        raise _to_client(auth, client, redirect_uri, state, error, silent=silent) from error


def refusal_of(
    auth: Auth, request: AuthorizationRequest, error: ProtocolError, *, silent: bool = False
) -> RedirectedError:
    """What the client of a request is refused with."""
    return _to_client(
        auth, request.client, request.redirect_uri, request.state, AuthError(error), silent=silent
    )


async def remembered(auth: Auth, authentication: Authentication, request: AuthorizationRequest) -> str | None:
    """Where the browser goes with a code at once, as the user has allowed all of it before, and the client is
    trusted; None where the user has to be asked. Raises `RedirectedError`: CONSENT_REQUIRED with
    `prompt=none`."""
    authorized_at = await _remembered_since(auth, authentication, request)
    if authorized_at is not None:
        return await _allow(auth, authentication, request, authorized_at)
    if "none" in request.prompt:
        raise refusal_of(auth, request, ProtocolError.CONSENT_REQUIRED, silent=True)
    return None


async def ask(auth: Auth, authentication: Authentication, request: AuthorizationRequest) -> Consent:
    """Keeps the request until the user has decided, in this session. Raises
    `AuthError(IMPERSONATION_FORBIDDEN)`."""
    refuse_impersonation(authentication)
    data = {
        "session": str(authentication.session_id),
        "client": str(request.client.id),
        "redirect_uri": request.redirect_uri,
        "scopes": sorted(request.scopes),
        "resources": sorted(request.resources),
        "state": request.state,
        "code_challenge": request.code_challenge,
        "nonce": request.nonce,
    }
    user_id = authentication.user.id
    value = await begin(auth, _KIND, data, user_id=user_id, lifetime=REQUEST_LIFETIME)
    return Consent(
        value=value,
        request=request,
        redirect_host=shown_host(request.redirect_uri),
        local=is_local(request.redirect_uri),
    )


async def decide(auth: Auth, authentication: Authentication, value: Plaintext, *, allow: bool) -> str:
    """Where the browser goes after the decision, with a code or an error. Raises `AuthError`:
    OAUTH_REQUEST_EXPIRED, IMPERSONATION_FORBIDDEN."""
    refuse_impersonation(authentication)
    found = await find(auth, _KIND, value)
    if found is None:
        raise AuthError(OAuthError.OAUTH_REQUEST_EXPIRED)
    pending, data = found
    same = data["session"] == str(authentication.session_id)
    client = await exact(auth.tables.of(OAuthClient).all(), id=UUID(data["client"]))
    if pending.user_id != authentication.user.id or not same or client is None or client.disabled_at:
        raise AuthError(OAuthError.OAUTH_REQUEST_EXPIRED)
    request = AuthorizationRequest(
        client=client,
        redirect_uri=data["redirect_uri"],
        scopes=frozenset(data["scopes"]),
        resources=frozenset(data["resources"]),
        state=data["state"],
        code_challenge=data["code_challenge"],
        nonce=data.get("nonce"),
    )
    if not allow:
        if not await take(auth, pending):
            raise AuthError(OAuthError.OAUTH_REQUEST_EXPIRED)
        return refusal_of(auth, request, ProtocolError.ACCESS_DENIED).location
    try:
        return await _allow(auth, authentication, request, pending)
    except RedirectedError as error:
        return error.location


async def _client(auth: Auth, given: Mapping[str, str], times: Counter[str]) -> AbstractOAuthClient:
    if times["client_id"] != 1 or "client_id" not in given:
        raise _refused("it lacks a client_id, or has several")
    client = await find_client(auth, given["client_id"])
    if client is None:
        raise _refused("its client_id is not known")
    return client


def _redirect_uri(client: AbstractOAuthClient, given: Mapping[str, str], times: Counter[str]) -> str:
    """That of the request or, where a client has one only, that. Raises `AuthError`."""
    registered = client.redirect_uris
    if not times["redirect_uri"] and len(registered) == 1:
        return next(iter(registered))
    asked = given.get("redirect_uri", "")
    documented = client.client_id.startswith("https:")
    if times["redirect_uri"] != 1 or not matches(registered, asked, localhost=documented):
        raise _refused("its redirect_uri is not one that the client has registered")
    return asked


def _max_age(given: Mapping[str, str]) -> timedelta | None:
    """Raises `AuthError(ProtocolError.INVALID_REQUEST)` for what is no number of seconds."""
    said = given.get("max_age")
    if said is None:
        return None
    if not _SECONDS.fullmatch(said):
        raise AuthError(ProtocolError.INVALID_REQUEST)
    return timedelta(seconds=int(said))


def _hinted(auth: Auth, given: Mapping[str, str]) -> str | None:
    """The user of the ID token that the client shows (OpenID Connect Core section 3.1.2.1). Raises
    `AuthError(ProtocolError.INVALID_REQUEST)` for what is none of this server."""
    if "id_token_hint" not in given:
        return None
    hint = hint_in(auth, given["id_token_hint"])
    if hint is None:
        raise AuthError(ProtocolError.INVALID_REQUEST)
    return hint.user_id


def _refused(why: str) -> AuthError:
    return AuthError(OAuthError.OAUTH_REQUEST_REFUSED, detail=f"The request of the application: {why}.")


def _to_client(
    auth: Auth,
    client: AbstractOAuthClient,
    redirect_uri: str,
    state: str | None,
    error: AuthError,
    *,
    silent: bool = False,
) -> RedirectedError:
    said = {"error": error.code.code, "error_description": error.code.detail}
    trusted = is_trusted(auth, client)
    return RedirectedError(_answer(auth, redirect_uri, state, said), silent=silent, trusted=trusted)


def _answer(auth: Auth, redirect_uri: str, state: str | None, said: Mapping[str, str]) -> str:
    """The redirect URI with the answer, which says who gives it (RFC 9207)."""
    carried = {} if state is None else {"state": state}
    query = urlencode({**said, **carried, "iss": issuer_of(auth.settings)})
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{query}"


async def _remembered_since(
    auth: Auth, authentication: Authentication, request: AuthorizationRequest
) -> datetime | None:
    """When the user has last allowed all of it, on the page; None where that is not remembered."""
    if {"consent", "select_account"} & request.prompt or is_local(request.redirect_uri):
        return None
    if not is_trusted(auth, request.client) or authentication.impersonated_by is not None:
        return None
    same = {"user_id": authentication.user.id, "client_id": request.client.id}
    grants = await auth.tables.of(OAuthGrant).filter(
        **same, last_used_at__not_isnull=True, expires_at__gt=auth.clock()
    )
    allowed = (
        grant.authorized_at
        for grant in matching(grants, **same)
        if request.scopes <= grant.scopes and request.resources <= grant.resources
    )
    return max(allowed, default=None)


async def _allow(
    auth: Auth,
    authentication: Authentication,
    request: AuthorizationRequest,
    basis: AbstractPending | datetime,
) -> str:
    """Where the browser goes with a code, by a decision that waits, or by an earlier one of that time."""
    secret, client = Plaintext(new_secret(CODE)), request.client
    bound = {"redirect_uri": request.redirect_uri, "code_challenge": request.code_challenge}
    if OPENID in request.scopes:
        bound |= bound_sign_in(authentication, request.nonce)
    code = Code(CODE, digest_of(secret.look()), auth.clock() + CODE_LIFETIME, bound)
    decision = basis if isinstance(basis, datetime) else partial(take, auth, basis)
    host = client_host(client) or shown_host(request.redirect_uri)
    try:
        asked = (request.scopes, request.resources)
        await allow(auth, authentication, client, asked, code, decision, host)
    except DeniedError as error:
        raise refusal_of(auth, request, ProtocolError.ACCESS_DENIED) from error
    return _answer(auth, request.redirect_uri, request.state, {"code": secret.take()})
