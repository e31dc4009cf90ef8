"""Bodies of the routes for signing in by mail."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ...schemas import Body, DeviceValue, Email, Flag, MailedCode, Schema, Text


class EmailSignInRequest(Body):
    """The address to mail a code and a link to."""

    email: Email


class EmailSignInBegun(Schema):
    """What the code of the mail answers, whether or not there is one."""

    challenge: str


class EmailSignInCode(Body):
    """The code of the mail, with the challenge of the client that asked for it; `device` and `remember` are
    like those of a login."""

    challenge: Annotated[Text, Field(max_length=128, repr=False, examples=["the-challenge"])]
    code: Annotated[MailedCode, Field(repr=False)]
    device: DeviceValue | None = Field(default=None, repr=False)
    remember: Flag = True


class EmailSignInLink(Body):
    """For the link of the mail; as in a login."""

    device: DeviceValue | None = Field(default=None, repr=False)
    remember: Flag = True
