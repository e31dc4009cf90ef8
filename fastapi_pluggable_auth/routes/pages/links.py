"""The pages behind mailed links. A GET changes nothing, so that programs that open links spend none."""

from __future__ import annotations

from typing import Annotated

from fastapi import Request
from fastapi.responses import HTMLResponse
from pydantic import GetPydanticSchema
from pydantic_core.core_schema import no_info_after_validator_function

from ...auth import Auth
from ...email.tokens import Purpose, link_state
from ...errors import AuthError, ErrorCode
from ...flows.email import owner_of
from ...security.plaintext import Plaintext
from .forms import Rejected, problem_with

LinkToken = Annotated[
    Plaintext, GetPydanticSchema(lambda _, handler: no_info_after_validator_function(Plaintext, handler(str)))
]
"""The token in the path of a mailed link."""


async def link_page(
    auth: Auth,
    request: Request,
    purpose: Purpose,
    token: str | Plaintext,
    error: Rejected | None = None,
) -> HTMLResponse:
    """The form of a link that still works, with what was wrong with the last try, or the page of a dead one.

    Who does not know the password did not sign up: the form to verify leads on to a new one.
    """
    from .rendering import render_page  # here, as an app starts without a page

    try:
        if isinstance(error, AuthError) and error.code is ErrorCode.INVALID_LINK:
            raise error
        user = await owner_of(auth, purpose, token)
    except AuthError as dead:
        if dead.code is not ErrorCode.INVALID_LINK:
            raise
        return render_page(auth, request, "dead_link", dead.code.status, purpose=purpose)
    path = request.url.path.rstrip("/").removesuffix("/form")
    reset = None
    if purpose is Purpose.VERIFY:
        new = auth.links.generate(Purpose.RESET, user.id, link_state(Purpose.RESET, user))
        reset = f"{path.rpartition('/verify/')[0]}/reset-password/{new}"
    return render_page(
        auth,
        request,
        purpose,
        problem=problem_with(error),
        email=user.pending_email if purpose is Purpose.EMAIL_CHANGE else user.email,
        action=path if purpose is Purpose.EMAIL_CHANGE else f"{path}/form",
        reset=reset,
    )


def done_page(auth: Auth, request: Request, purpose: Purpose) -> HTMLResponse:
    """What the link was for is done."""
    from .rendering import render_page

    return render_page(auth, request, "done", title=f"{purpose}.done", purpose=purpose)
