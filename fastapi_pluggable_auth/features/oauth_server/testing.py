"""A client of the OAuth server, for tests: a program that users let in, over the routes of the app."""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Collection
from hashlib import sha256
from html import unescape
from secrets import token_urlsafe
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

from ...auth import Auth
from ...errors import AuthError
from ...models import AbstractUser
from .clients import create_client
from .models import (
    ACCESS,
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    DEVICE_CODE,
    OAuthGrant,
    OAuthToken,
    digest_of,
)
from .openid import all_scopes_of
from .protocol import ProtocolError
from .resources import resources_of, scopes_of
from .settings import OAuthSettings
from .tokens import new_secret

CALLBACK: Final = "https://client.example.com/callback"
"""Where answers go."""

Decision: TypeAlias = Callable[[AbstractUser, str, str, str | None], Awaitable[httpx.Response]]
"""What the browser of a user gets who goes to the page with this query, or types this code of a device, and
decides so where it is asked."""

_LEADS_TO: Final = re.compile('class="button" href="([^"]*)"')


class OAuthClient(httpx.AsyncClient):
    """A program that users let in. Requests carry the access token that it got last: `tokens` is that answer.
    It registers itself, as a public client, with the first user unless `register` did."""

    def __init__(
        self, auth: Auth, transport: httpx.AsyncBaseTransport, base_url: str, decided: Decision
    ) -> None:
        super().__init__(transport=transport, base_url=base_url)
        self.client_id = ""
        self.client_secret: str | None = None
        self.tokens: dict[str, Any] = {}
        self._services, self._decided = auth, decided
        self._verifier = ""

    async def register(
        self,
        name: str = "Client",
        scopes: Collection[str] | None = None,
        *,
        confidential: bool = False,
        client_credentials: bool = False,
    ) -> str:
        """Registers it as the operator does, for codes and device codes; gives its id. With
        `client_credentials` it has a secret, and may act for itself as well. Raises `AuthError` where that is
        refused."""
        itself = [CLIENT_CREDENTIALS] if client_credentials else []
        made = await create_client(
            self._services,
            name,
            [CALLBACK],
            scopes,
            confidential=confidential or client_credentials,
            grant_types=[AUTHORIZATION_CODE, DEVICE_CODE, *itself],
        )
        self.client_id, self.client_secret = made.client.client_id, made.secret
        return self.client_id

    async def authorize(
        self, user: AbstractUser, *scopes: str, resource: str | None = None, allow: bool = True
    ) -> dict[str, str]:
        """Sends this user, who signs in, to the page that asks, and posts the decision there. Gives what the
        browser brings back: a `code`, or an `error`. Without `scopes` and the path of a `resource`, it asks
        for all. A `resource` may be the address of another service as well. Raises `LookupError` where no
        page asks."""
        if not self.client_id:
            await self.register()
        self._verifier = token_urlsafe(48)
        digest = sha256(self._verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "prompt": "consent",
            "scope": " ".join(scopes),
        }
        if resource is not None:
            asked["resource"] = resources_of(self._services).get(resource, resource)
        page = await self._decided(user, urlencode(asked), "allow" if allow else "deny", None)
        found = _LEADS_TO.search(page.text)
        if found is None:
            raise LookupError(f"{page.url} leads nowhere; its status is {page.status_code}.")
        return dict(parse_qsl(urlsplit(unescape(found[1])).query))

    async def connect(self, user: AbstractUser, *scopes: str, resource: str | None = None) -> dict[str, Any]:
        """Goes all the way, as `authorize`, and gets tokens for the code. Raises `AuthError` where the app
        refuses."""
        answer = await self.authorize(user, *scopes, resource=resource)
        if "error" in answer:
            raise AuthError(ProtocolError[answer["error"].upper()])
        return await self.ask(
            grant_type="authorization_code", code=answer["code"], code_verifier=self._verifier
        )

    async def client_credentials(self, *scopes: str, resource: str | None = None) -> dict[str, Any]:
        """Gets a token for itself, by the secret that `register(client_credentials=True)` gave it; without
        `scopes` and a `resource` for all of the app. Raises `AuthError` where the app refuses."""
        asked = {} if resource is None else {"resource": resources_of(self._services).get(resource, resource)}
        return await self.ask(grant_type="client_credentials", scope=" ".join(scopes), **asked)

    async def begin_device(self, *scopes: str, resource: str | None = None) -> dict[str, Any]:
        """Asks for the codes of a device without a browser: `device_code`, `user_code`. Raises `AuthError`
        where the app refuses."""
        if not self.client_id:
            await self.register()
        asked = {"scope": " ".join(scopes)}
        if resource is not None:
            asked["resource"] = resources_of(self._services).get(resource, resource)
        begun: dict[str, Any] = (await self._posted("device_authorization", **asked)).json()
        return begun

    async def connect_device(
        self, user: AbstractUser, *scopes: str, resource: str | None = None, allow: bool = True
    ) -> dict[str, Any]:
        """Goes all the way of a device without a browser: this user, who signs in, types its code on the
        page, and decides. Gives the tokens. Raises `AuthError` where the app refuses."""
        begun = await self.begin_device(*scopes, resource=resource)
        await self._decided(user, "", "allow" if allow else "deny", begun["user_code"])
        return await self.poll(begun["device_code"])

    async def poll(self, device_code: str) -> dict[str, Any]:
        """Asks for tokens by a device code. Raises `AuthError`: AUTHORIZATION_PENDING where the user has not
        decided, and others where the app refuses."""
        return await self.ask(grant_type=DEVICE_CODE, device_code=device_code)

    async def refresh(self) -> dict[str, Any]:
        """Spends its refresh token for new tokens. Raises `AuthError` where the app refuses."""
        return await self.ask(grant_type="refresh_token", refresh_token=self.tokens["refresh_token"])

    async def revoke(self) -> None:
        """Gives all back that the user has allowed. Raises `AuthError` where the app refuses."""
        await self._posted("revoke", token=self.tokens["refresh_token"])

    async def ask(self, **form: str) -> dict[str, Any]:
        """Asks for tokens, which later requests carry. Raises `AuthError` where the app refuses."""
        answer = await self._posted("token", **form)
        self.tokens = answer.json()
        self.headers["Authorization"] = f"Bearer {self.tokens['access_token']}"
        return self.tokens

    async def _posted(self, place: str, **form: str) -> httpx.Response:
        shown = {"client_id": self.client_id}
        if self.client_secret is not None:
            shown["client_secret"] = self.client_secret
        address = self._services.settings.public_url(f"oauth/{place}")
        request = self.build_request("POST", urlsplit(address).path, data={**shown, **form})
        request.headers.pop("Authorization", None)  # where a client may have its secret
        answer = await self.send(request)
        if answer.is_error and "error" in answer.json():
            raise AuthError(ProtocolError[answer.json()["error"].upper()])
        return answer.raise_for_status()


async def give_token(auth: Auth, user: AbstractUser, scopes: Collection[str], resource: str | None) -> str:
    """An access token of this user, without a page or a route; without `scopes` and the path of a `resource`
    for all. Raises `LookupError` for those that the app does not have."""
    known, places = scopes_of(auth), resources_of(auth)
    if unknown := {*scopes} - {*all_scopes_of(auth)}:
        has = ", ".join(all_scopes_of(auth))
        raise LookupError(f"The app has no scope {', '.join(sorted(unknown))}; it has {has}.")
    if resource not in (None, *places):
        raise LookupError(f"The app has no resource {resource}; it has {', '.join(places)}.")
    made = await create_client(auth, "Client", [CALLBACK])
    now, token = auth.clock(), new_secret(ACCESS)
    row: dict[str, Any] = {
        "user_id": user.id,
        "scopes": frozenset(scopes or known),
        "resources": frozenset(places.values() if resource is None else [places[resource]]),
        "expires_at": now + auth.features.settings_of(OAuthSettings).oauth_access_token_expires,
        "created_at": now,
    }
    grant = await auth.tables.of(OAuthGrant).create(**row, client_id=made.client.id, authorized_at=now)
    await auth.tables.of(OAuthToken).create(
        **row, grant_id=grant.id, kind=ACCESS, digest=digest_of(token), parent=digest_of(token)
    )
    return token
