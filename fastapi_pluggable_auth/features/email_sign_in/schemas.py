"""Bodies of the routes for signing in by mail."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from ...schemas import Body, Email, Entering, Flag, MailedCode, OptionalCode, Schema, Text


class EmailSignInRequest(Body):
    """The address to mail a code and a link to."""

    email: Email


class EmailSignInBegun(Schema):
    """What the code of the mail answers, whether or not there is one."""

    challenge: str


class EmailSignInCode(Entering):
    """The code of the mail, with the challenge of the client that asked for it; `second_code` answers for a
    second factor, `device`, `trust_device` and `remember` are like those of a login."""

    answer_code: ClassVar[str] = "second_code"

    challenge: Annotated[Text, Field(max_length=128, repr=False, examples=["the-challenge"])]
    code: Annotated[MailedCode, Field(repr=False)]
    second_code: OptionalCode = None
    remember: Flag = True


class EmailSignInLink(Entering):
    """For the link of the mail; as in a login, `code` answers for a second factor."""

    remember: Flag = True
