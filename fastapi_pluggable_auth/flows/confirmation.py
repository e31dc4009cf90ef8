"""Showing once more who one is by a mailed code, for users without a password and a second factor."""

from __future__ import annotations

from functools import partial
from typing import Final

from ..auth import Auth
from ..email.kinds import MailKind
from ..errors import AuthError, ErrorCode
from ..events import EventKind
from ..models import AbstractUser
from ..security.hashing import is_usable
from ..security.plaintext import Plaintext
from .authentication import Authentication, observed, refuse_impersonation
from .gate import Proof, renew
from .guesses import counted_guess
from .login import MAIL
from .mailed_codes import check_guess, mail_code
from .pending import find, take
from .throttle import may_mail

KIND: Final = "confirmation"


def confirms_by_mail(user: AbstractUser) -> bool:
    """Whether a mailed code confirms that it is this user: who has a password or a second factor shows that,
    and an address is the user's once it is verified."""
    return user.is_verified and not is_usable(user.hashed_password) and not user.has_second_factor


async def mail_confirmation(auth: Auth, authentication: Authentication) -> str:
    """Mails a code to the user, and gives the challenge that it answers in this session. Raises `AuthError`:
    CONFIRM_OTHERWISE, THROTTLED, IMPERSONATION_FORBIDDEN."""
    user = _who_confirms(authentication)
    if not await may_mail(auth, MailKind.CONFIRMATION, user.id):
        raise AuthError(ErrorCode.THROTTLED)
    said = {"email": user.email, "session": str(authentication.session_id)}
    return await mail_code(auth, KIND, MailKind.CONFIRMATION, user.email, said, user_id=user.id)


async def confirm_by_mail(
    auth: Auth, authentication: Authentication, challenge: Plaintext, code: Plaintext
) -> None:
    """Makes the session's login recent again, with the code of a mail that was asked for in it. Raises
    `AuthError`: MAILED_CODE_REFUSED, MAILED_CODE_EXPIRED, CONFIRM_OTHERWISE, THROTTLED,
    REAUTHENTICATION_FAILED where something has changed meanwhile, IMPERSONATION_FORBIDDEN."""
    async with observed(auth, EventKind.REAUTHENTICATION, authentication) as observation:
        user = _who_confirms(authentication)
        found = await find(auth, KIND, challenge)
        if found is None or found[1]["session"] != str(authentication.session_id):
            raise AuthError(ErrorCode.MAILED_CODE_EXPIRED)
        pending, said = found
        # Counted in the session, not for the address: nobody outside of it is in the way of its user.
        async with counted_guess(auth, user, session_id=authentication.session_id):
            await check_guess(auth, pending, None, code)
        proof = Proof(
            user=user,
            factors=(MAIL,),
            unchanged={"email": said["email"]},
            spends=partial(take, pending=pending),
        )
        observation.factors = await renew(auth, authentication, proof, None)


def _who_confirms(authentication: Authentication) -> AbstractUser:
    refuse_impersonation(authentication)
    if authentication.session_id is None or not confirms_by_mail(authentication.user):
        raise AuthError(ErrorCode.CONFIRM_OTHERWISE)
    return authentication.user
