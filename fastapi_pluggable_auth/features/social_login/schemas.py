"""Bodies of the routes for social login."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import Field, Strict

from ...schemas import Body, Email, Entering, Flag, MailedCode, OptionalCode, Schema, Text

CodeChallenge = Annotated[
    str,
    Strict(),
    Field(pattern=r"^[A-Za-z0-9_-]{43}$", examples=["E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"]),
]
"""The S256 challenge of a verifier (RFC 7636 section 4.2)."""


Verifier = Annotated[
    str,
    Strict(),
    Field(pattern=r"^[A-Za-z0-9._~-]{43,128}$", examples=["dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"]),
]
"""What the challenge was made of (section 4.1)."""


class SocialStart(Body):
    """A sign-in at a provider that is to begin. With a `code_challenge` the client takes its tokens by
    `exchange`; `next` is a path of the app to go on to."""

    next: Annotated[Text, Field(max_length=2048, examples=["/notes"])] | None = None
    code_challenge: CodeChallenge | None = None
    remember: Flag = True


class SocialBegun(Schema):
    """Where the browser is to go."""

    url: str


class SocialExchange(Entering):
    """A one-time code of the callback, with the verifier of the challenge that it was begun with; `code`
    answers for a second factor."""

    social_code: Annotated[Text, Field(max_length=128, repr=False, examples=["the-code-of-the-callback"])]
    code_verifier: Annotated[Verifier, Field(repr=False)]


class SocialAddress(Body):
    """An address for somebody whose provider gives none, or does not vouch for it."""

    social_address: Annotated[Text, Field(max_length=128, repr=False, examples=["the-token-of-the-callback"])]
    email: Email


class SocialCodeSent(Schema):
    """A code was mailed, which answers this `challenge`."""

    challenge: str


class SocialAddressCode(Entering):
    """The code of the mail, with the verifier of the challenge that the sign-in was begun with, if it was;
    `second_code` answers for a second factor."""

    answer_code: ClassVar[str] = "second_code"

    challenge: Annotated[Text, Field(max_length=128, repr=False, examples=["the-challenge"])]
    code: Annotated[MailedCode, Field(repr=False)]
    code_verifier: Verifier | None = Field(default=None, repr=False)
    second_code: OptionalCode = None


class SocialToken(Entering):
    """A token that a provider has given a native app, for a nonce of ours; `code` answers for a second
    factor."""

    id_token: Annotated[Text, Field(max_length=16384, repr=False, examples=["the-id-token"])]
    nonce: Annotated[Text, Field(max_length=1024, examples=["the-nonce"])]


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
