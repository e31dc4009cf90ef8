"""A provider of OpenID Connect for tests: a real server on this machine, that signs in whom a test names."""

from __future__ import annotations

import base64
import dataclasses
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from email.message import Message
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from ...auth import Auth
from .id_tokens import new_key, public_half, signed_by
from .providers import Provider
from .remote import Remote
from .states import s256

CLIENT_ID: Final = "the-app-under-test"
CLIENT_SECRET: Final = "secret-of-the-app-under-test"  # noqa: S105


class IdentityProvider:
    """What `identity_provider` gives: `issuer` is for `Oidc("name", issuer=...)`. Anyone who comes is signed
    in as the last `user`, until a test makes it `fail`."""

    def __init__(self) -> None:
        self.issuer = ""
        self.key = new_key()
        self.claims: dict[str, Any] = {}
        self.error: str | None = None
        self.extra: dict[str, Any] = {}
        """Claims of the next tokens beside or in place of those that are right."""
        self.clock: Callable[[], float] = time.time
        self.secret: str | None = None
        """Where it is set, the token endpoint wants it of every client."""
        self.published: dict[str, Any] = {}
        """What its document says in the place of what is right."""
        self.keys: list[dict[str, Any]] | None = None
        """Keys that it publishes in the place of its own."""
        self.raw: Callable[[BaseHTTPRequestHandler], None] | None = None
        """Answers for the token endpoint, for what no right one says."""
        self.expires_in: int | None = 3600
        """Seconds that its access tokens are good for, as it says; None where it says nothing."""
        self.refresh_tokens: set[str] = set()
        """Those that are good: each once, and none after `clear()`."""
        self._codes: dict[str, dict[str, str]] = {}

    def user(
        self, email: str | None = "kim@example.com", *, email_verified: bool = True, **claims: Any
    ) -> dict[str, Any]:
        """Who signs in next. A `sub` of their own tells two users apart."""
        self.error = None
        said = {} if email is None else {"email": email, "email_verified": email_verified}
        self.claims = {"sub": f"sub-of-{email}", **said, **claims}
        return self.claims

    def fail(self, error: str = "access_denied") -> None:
        """Whoever comes next is sent back with this error."""
        self.error = error

    def id_token(self, nonce: str | None, client_id: str = CLIENT_ID, issuer: str | None = None) -> str:
        """A token for the user, as the token endpoint and native apps give it."""
        now = int(self.clock())
        claims = {
            "iss": issuer or self.issuer,
            "aud": client_id,
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            **({} if nonce is None else {"nonce": nonce}),
            **self.claims,
            **self.extra,
        }
        return signed_by(self.key, {name: value for name, value in claims.items() if value is not None})

    def document(self, place: str = "") -> dict[str, Any]:
        """What it publishes of itself: with a `place`, a path, it is one provider among others."""
        issuer = f"{self.issuer}{place}"
        return {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "userinfo_endpoint": f"{issuer}/userinfo",
            "jwks_uri": f"{issuer}/jwks",
            "authorization_response_iss_parameter_supported": True,
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            **self.published,
        }

    def authorize(self, asked: dict[str, str], place: str = "") -> str:
        """Where the browser goes from the page of the provider."""
        asked = {**asked, "iss": f"{self.issuer}{place}"}
        back = {"state": asked["state"], "iss": asked["iss"]}
        if self.error is not None:
            back["error"] = self.error
        else:
            back["code"] = secrets.token_urlsafe(16)
            self._codes[back["code"]] = asked
        return f"{asked['redirect_uri']}?{urlencode(back)}"

    def token(self, sent: dict[str, str]) -> dict[str, Any]:
        """What it gives for a code or a refresh token, once."""
        if sent.get("grant_type") == "refresh_token":
            if sent.get("refresh_token") not in self.refresh_tokens:
                return {"error": "invalid_grant"}
            self.refresh_tokens.remove(sent["refresh_token"])
            return self._tokens()
        asked = self._codes.pop(sent.get("code", ""), None)
        if asked is None or asked["redirect_uri"] != sent.get("redirect_uri"):
            return {"error": "invalid_grant"}
        if s256(sent.get("code_verifier", "")) != asked["code_challenge"]:
            return {"error": "invalid_grant"}
        token = self.id_token(asked.get("nonce"), asked["client_id"], asked["iss"])
        return {**self._tokens(), "id_token": token}

    def _tokens(self) -> dict[str, Any]:
        self.refresh_tokens.add(refresh_token := secrets.token_urlsafe(16))
        lifetime = {} if self.expires_in is None else {"expires_in": self.expires_in}
        access_token = secrets.token_urlsafe(16)
        return {
            "access_token": access_token,
            "token_type": "Bearer",
            "refresh_token": refresh_token,
            **lifetime,
        }

    @contextmanager
    def serving(self) -> Iterator[IdentityProvider]:
        """While it answers, at a port of this machine."""
        with ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self)) as server:
            self.issuer = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


def _handler_of(provider: IdentityProvider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            place, _, name = url.path.rpartition("/")
            if name == "openid-configuration":
                self._json(provider.document(place.removesuffix("/.well-known")))
            elif name == "jwks":
                own = [public_half(provider.key)]
                self._json({"keys": own if provider.keys is None else provider.keys})
            elif name == "userinfo":
                self._json(provider.claims)
            elif name == "authorize":
                asked = _fields(url.query)
                back = provider.authorize(asked, place)
                if asked.get("response_mode") == "form_post":
                    self._answer(_posting_page(back), "text/html; charset=utf-8")
                    return
                self.send_response(303)
                self.send_header("Location", back)
                self.end_headers()
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            if provider.raw is not None:
                provider.raw(self)
                return
            sent = _fields(body)
            if provider.secret is not None and provider.secret != (
                _basic(self.headers) or sent.get("client_secret")
            ):
                self._json({"error": "invalid_client"}, 401)
                return
            answer = provider.token(sent)
            self._json(answer, 400 if "error" in answer else 200)

        def date_time_string(self, timestamp: float | None = None) -> str:
            """Of the answers, by the clock of the provider."""
            return super().date_time_string(provider.clock() if timestamp is None else timestamp)

        def _json(self, said: dict[str, Any], status: int = 200) -> None:
            self._answer(json.dumps(said), "application/json", status)

        def _answer(self, text: str, kind: str, status: int = 200) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests are quiet."""

    return Handler


@contextmanager
def standing_in(auth: Auth, clock: Callable[[], datetime]) -> Iterator[IdentityProvider]:
    """While one server stands in for every provider of the app, each at an issuer of its own, with the
    credentials of a test. Providers without OpenID Connect are asked in that way too: `user` says what their
    `claims` would fetch. Raises `LookupError` where the app has none."""
    feature = next((each for each in auth.features if each.name == "social_login"), None)
    if feature is None:
        raise LookupError("The app has no social login: include_auth(app, features=[SocialLogin(...)]).")
    former: dict[str, Provider] = auth.features.options_of("social_login")
    remote = auth.service(Remote)
    with IdentityProvider().serving() as server:
        server.clock = lambda: clock().timestamp()
        changed = {
            name: dataclasses.replace(
                each,
                issuer=f"{server.issuer}/{name}",
                issuer_of=None,
                authorization_endpoint=None,
                token_endpoint=None,
                claims=None,
                make_secret=None,
                client_id=CLIENT_ID,
                client_secret=CLIENT_SECRET,
            )
            for name, each in former.items()
        }
        server.user()
        object.__setattr__(feature, "options", changed)
        vars(remote)["_may_reach"] = lambda url: url.startswith(server.issuer)
        try:
            yield server
        finally:
            del vars(remote)["_may_reach"]
            object.__setattr__(feature, "options", former)


def _posting_page(back: str) -> str:
    """The page that posts the answer (OAuth 2.0 Form Post Response Mode), by a button without script."""
    action, _, query = back.partition("?")
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in _fields(query).items()
    )
    return (
        f'<!doctype html><html lang="en"><title>Back to the app</title>'
        f'<form method="post" action="{escape(action)}">{hidden}<button>Go back</button></form>'
        f"<script>document.forms[0].submit()</script>"
    )


def _basic(headers: Message) -> str | None:
    """The secret of a client (RFC 6749 section 2.3.1)."""
    scheme, _, pair = headers.get("Authorization", "").partition(" ")
    if scheme != "Basic":
        return None
    return unquote(base64.b64decode(pair).decode().partition(":")[2])


def _fields(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text).items()}
