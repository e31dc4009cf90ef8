"""What follows on the verification of an address by the page of its link."""

from __future__ import annotations

from fastapi import Request, Response

from ...auth import Auth
from ...email.tokens import Purpose
from ...errors import AuthError
from ...flows.email import Verified
from ...flows.login import enter_after_signup
from ...http.cookies import device_of, is_from_trusted_page
from ...http.mail_note import keep_note, note_of
from ...security.jwt import Transport
from .links import done_page
from .rendering import see_other
from .sign_in import current_visitor, go_on, show_answer, show_sign_in


async def after_verification(auth: Auth, request: Request, verified: Verified) -> Response:
    """Signs in the browser in which the password was chosen, by a form that no other site can post, and leads
    on to where its user wanted to go; any other is led to sign in. Nobody takes the place of a `visitor`
    who is signed in as somebody else."""
    user, note = verified.user, note_of(request, auth, verified.user.email)
    next = None if note is None else note.next
    if (visitor := await current_visitor(auth, request)) is not None:
        same = visitor.user.id == user.id
        return await go_on(auth, request, visitor, next) if same else done_page(auth, request, Purpose.VERIFY)
    chosen_here = note is not None and note.signed_up and verified.untouched
    if chosen_here and is_from_trusted_page(request):
        try:
            answer = await enter_after_signup(auth, user, device_of(request), transport=Transport.COOKIE)
        except AuthError as error:
            return show_sign_in(auth, request, next, user.email, error)
        return await show_answer(auth, request, answer, next)
    keep_note(request, auth, user.email, next=next)
    return see_other(auth, request, "sign-in", notice="verified", next=next)
