"""How good a password is that somebody is about to choose: what the script of the pages asks."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Request
from pydantic import Field

from ...dependencies import CurrentAuth
from ...errors import PASSWORD_REFUSALS, AuthError
from ...flows.password import rate_password
from ...http.csrf import check_request
from ...http.rates import rate_limited
from ...schemas import Body, NewPassword, Schema, Text, taken
from ...security.addresses import MAXIMUM_LENGTH as MAXIMUM_EMAIL_LENGTH
from ...security.guessing import GOOD, Rating
from ...words.texts import Words, words_for
from ..router import AuthRouter

router = AuthRouter(prefix="/account", tags=["account pages"], include_in_schema=False)

LEVELS: Final = ("very_weak", "weak", "fair", "good", "strong")
"""Words for the scores."""


class StrengthRequest(Body):
    """A password, and the address that was typed beside it."""

    password: NewPassword
    email: Annotated[Text, Field(max_length=MAXIMUM_EMAIL_LENGTH)] = ""


class Strength(Schema):
    """From 0 to 4, and what to say of it."""

    score: int
    said: str


@router.post("/password-strength", dependencies=[rate_limited("password_strength"), Depends(check_request)])
async def password_strength(auth: CurrentAuth, request: Request, body: StrengthRequest) -> Strength:
    """How hard a password is to guess, for a page of the app and in its language. Nothing is read or kept of
    any account."""
    words = words_for(auth.settings, None, request.headers.get("accept-language", ""))
    try:
        rating = await rate_password(auth, taken(body, "password"), body.email)
    except AuthError as refused:
        if refused.code not in PASSWORD_REFUSALS:
            raise
        return Strength(score=0, said=words(f"errors.{refused.code.code}"))
    return Strength(score=rating.score, said=_said(words, rating))


def _said(words: Words, rating: Rating) -> str:
    """What it is, and for one that is not good enough why, and what to do."""
    keys = [LEVELS[rating.score]]
    if rating.hint is not None:
        keys.append(rating.hint)
    if rating.score < GOOD:
        keys.append("longer")
    return " ".join(words(f"strength.{key}") for key in keys)
