"""The pages behind mailed links. A GET changes nothing, so that programs that open links spend none."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import GetPydanticSchema
from pydantic_core.core_schema import no_info_after_validator_function

from ...auth import Auth
from ...email.tokens import Purpose, link_state
from ...errors import AuthError, ErrorCode
from ...features.feature import LinkTable
from ...flows.email import owner_of
from ...flows.mailbox import is_claimable, signed_up_with
from ...http.browsers import wants_page
from ...http.cookies import signup_binding
from ...http.mail_note import mail_note
from ...schemas import Message
from ...security.hashing import is_usable
from ...security.plaintext import Plaintext
from .forms import Rejected, problem_with
from .rendering import render_page

LinkToken = Annotated[
    Plaintext,
    GetPydanticSchema(lambda _, handler: no_info_after_validator_function(Plaintext, handler(str))),
    Path(examples=["the-token-of-the-mailed-link"]),
]
"""The token in the path of a mailed link."""


async def show_link(
    auth: Auth, request: Request, purpose: LinkTable, token: Plaintext, answer: str
) -> Message | Response:
    """What a GET of a link answers, and changes nothing: the page, or for programs and scripts this sentence.
    Raises `AuthError(INVALID_LINK)`."""
    if wants_page(request):
        return await link_page(auth, request, purpose, token)
    await owner_of(auth, purpose, token)
    return Message(detail=answer)


async def probe_link(auth: Auth, purpose: LinkTable, token: Plaintext) -> Response:
    """What a HEAD of a link answers: 200 while it works, else 404."""
    try:
        await owner_of(auth, purpose, token)
    except AuthError as error:
        if error.code is not ErrorCode.INVALID_LINK:
            raise
        return Response(status_code=404)
    return Response()


async def link_page(
    auth: Auth,
    request: Request,
    purpose: LinkTable,
    token: str | Plaintext,
    error: Rejected | None = None,
) -> HTMLResponse:
    """The form of a link that still works, with what was wrong with the last try, or the page of a dead one.

    To verify, the browser that signed up needs a click; any other asks for the password. A reader who does
    not know it did not sign up: the form leads on to a new one, which claims the account."""
    try:
        if isinstance(error, AuthError) and error.code is ErrorCode.INVALID_LINK:
            raise error
        user = await owner_of(auth, purpose, token)
    except AuthError as dead:
        if dead.code is not ErrorCode.INVALID_LINK:
            raise
        next = _wanted(auth, request)
        return render_page(auth, request, "dead_link", dead.code.status, purpose=purpose, next=next)
    shown = Plaintext.of(token).look()
    path = f"{request.url.path.partition(shown)[0]}{shown}"  # without what forms add
    reset, here, slots = None, False, []
    if purpose is Purpose.VERIFY:
        new = auth.links.generate(Purpose.RESET, user.id, link_state(Purpose.RESET, user))
        reset = f"{path.rpartition('/verify/')[0]}/reset-password/{new}"
        here = signed_up_with(user, signup_binding(request, auth))
        slots = [slot for slot in auth.features.slots_in("verify") if slot.is_for(auth, user)]
    of_change = purpose in (Purpose.EMAIL_CHANGE, Purpose.STOP_EMAIL_CHANGE)
    return render_page(
        auth,
        request,
        purpose,
        problem=problem_with(error),
        email=user.pending_email if of_change else user.email,
        action=path if of_change else f"{path}/form",
        reset=reset,
        here=here,
        slots=slots,
        token=shown,
        has_password=is_usable(user.hashed_password),
        claims=is_claimable(auth, user),
    )


def done_page(auth: Auth, request: Request, purpose: LinkTable) -> HTMLResponse:
    """What the link was for is done."""
    next = _wanted(auth, request)
    return render_page(auth, request, "done", title=f"{purpose}.done", purpose=purpose, next=next)


def _wanted(auth: Auth, request: Request) -> str | None:
    """Where the user of this browser wanted to go before the mail."""
    note = mail_note(request, auth)
    return None if note is None else note.next
