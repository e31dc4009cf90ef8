"""Bodies of the routes for social login."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, Strict

from ...schemas import Answering, Body, DeviceValue, Flag, Schema, Text

CodeChallenge = Annotated[
    str,
    Strict(),
    Field(pattern=r"^[A-Za-z0-9_-]{43}$", examples=["E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"]),
]
"""The S256 challenge of a verifier (RFC 7636 section 4.2)."""


class SocialStart(Body):
    """A sign-in at a provider that is to begin. With a `code_challenge` the client takes its tokens by
    `exchange`; `next` is a path of the app to go on to."""

    next: Annotated[Text, Field(max_length=2048, examples=["/notes"])] | None = None
    code_challenge: CodeChallenge | None = None
    remember: Flag = True


class SocialBegun(Schema):
    """Where the browser is to go."""

    url: str


class SocialExchange(Answering):
    """A one-time code of the callback, with the verifier of the challenge that it was begun with; `code`
    answers for a second factor."""

    social_code: Annotated[Text, Field(max_length=128, repr=False, examples=["the-code-of-the-callback"])]
    code_verifier: Annotated[
        str, Strict(), Field(pattern=r"^[A-Za-z0-9._~-]{43,128}$", repr=False, examples=["v" * 43])
    ]
    device: DeviceValue | None = Field(default=None, repr=False)


class SocialToken(Body):
    """A token that a provider has given a native app, for a nonce of ours."""

    id_token: Annotated[Text, Field(max_length=16384, repr=False, examples=["the-id-token"])]
    nonce: Annotated[Text, Field(max_length=1024, examples=["the-nonce"])]
    device: DeviceValue | None = Field(default=None, repr=False)


class SocialNonce(Schema):
    """A nonce for a native app, good for ten minutes and one token."""

    nonce: str


class ProviderOut(Schema):
    """A provider, and where a browser begins."""

    name: str
    label: str
    start: str


class IdentityUpdate(Body):
    """With `keep`, an identity that was held when all access ended signs in again."""

    keep: Flag = False


class IdentityOut(Schema):
    """An identity of the user. Times are UTC. One that is `held` does not sign in until it is kept."""

    id: UUID
    provider: str
    email: str | None
    held: bool
    created_at: datetime
    last_used_at: datetime | None
