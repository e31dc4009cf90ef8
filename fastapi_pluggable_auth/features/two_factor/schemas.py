"""Bodies of the routes for two-factor."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, Strict

from ...schemas import Body, Schema, code_without_blanks

Code = Annotated[
    str,
    Strict(),
    Field(pattern="^[0-9]{6}$", examples=["123456"], repr=False),
    BeforeValidator(code_without_blanks),
]


class CodeRequest(Body):
    """A code from the authenticator app."""

    code: Code


class TwoFactorEnrolment(Schema):
    """What an authenticator app needs: an `otpauth` address, and its QR code as a PNG in base64."""

    otpauth_uri: str
    qr_base64: str


class RecoveryCodes(Schema):
    """New recovery codes: shown once, each works once."""

    codes: list[str]


class RecoveryCodesLeft(Schema):
    """How many recovery codes are unused."""

    remaining: int
