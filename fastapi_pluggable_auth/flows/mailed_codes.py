"""Codes by mail, for what waits until somebody shows that a mailbox is theirs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from ..auth import Auth, transactional
from ..errors import AuthError, ErrorCode
from ..features.feature import MailTable
from ..models import AbstractPending
from ..security.keys import SignatureError, key_set
from ..security.mailed_codes import code_for, is_code_for, waiting_for
from ..security.plaintext import Plaintext
from ..security.throttle import Quota
from .guesses import count_wrong_code
from .pending import attempt, begin, find, find_by_id, id_of, take_back
from .throttle import Key, count

LIFETIME: Final = timedelta(minutes=10)
ATTEMPTS: Final = 5
"""Codes that are looked at: of a million, for ten minutes (NIST SP 800-63B-4 section 3.1.3.2)."""

OF_A_DAY: Final = Quota(30, timedelta(hours=24))
"""Codes that are looked at for one address, whoever asked for its mails and however many there were. Counted
by its name: an account of its own would say that there is one."""


@transactional
async def mail_code(
    auth: Auth,
    /,
    kind: str,
    mail: MailTable,
    recipient: str,
    data: Mapping[str, Any],
    *,
    user_id: UUID | None = None,
    lifetime: timedelta = LIFETIME,
    **context: Any,
) -> str:
    """Mails a code to this address and gives the challenge that it answers: the client keeps that, and shows
    both. A mail that would come too late is not sent."""
    challenge = await begin(auth, kind, data, user_id=user_id, lifetime=lifetime)
    await auth.outbox.add(
        mail,
        recipient,
        user_id=user_id,
        expires_at=auth.clock() + lifetime,
        waiting=id_of(kind, challenge),
        **context,
    )
    return challenge


async def check_code(
    auth: Auth, kind: str, challenge: Plaintext, code: Plaintext
) -> tuple[AbstractPending, Any]:
    """What waits for this code, which is right; `take` spends it. Raises `AuthError`: MAILED_CODE_REFUSED for
    a wrong code, MAILED_CODE_EXPIRED with the fifth and where nothing waits any more, THROTTLED where too
    many were looked at for the address."""
    found = await find(auth, kind, challenge)
    if found is None:
        raise AuthError(ErrorCode.MAILED_CODE_EXPIRED)
    pending, data = found
    await check_guess(auth, pending, data["email"], code)
    return pending, data


async def check_guess(
    auth: Auth, pending: AbstractPending, email: str | None, code: Plaintext, *, again: bool = False
) -> None:
    """The same for what waits, of a mail to this address, or of none. A right code is good `again` where
    nothing spends it here: then it was no guess. Raises as `check_code`."""
    tried = await attempt(auth, pending, ATTEMPTS)
    if not tried:
        raise AuthError(ErrorCode.MAILED_CODE_EXPIRED)
    if email is not None:
        await count(auth, Key.named(auth, "mailed codes", email), OF_A_DAY)
    if not is_code_for(key_set(auth.settings), pending.id, code.take()):
        if email is not None:
            await count_wrong_code(auth, email)
        last = tried == ATTEMPTS
        raise AuthError(ErrorCode.MAILED_CODE_EXPIRED if last else ErrorCode.MAILED_CODE_REFUSED)
    if again:
        await take_back(auth, pending, tried)


async def find_by_link(auth: Auth, kind: str, token: Plaintext) -> tuple[AbstractPending, Any] | None:
    """What waits for a link of such a mail; None where nothing does any more. Changes nothing."""
    try:
        waiting = waiting_for(key_set(auth.settings), token.look())
    except SignatureError:
        return None
    return await find_by_id(auth, kind, waiting)


def code_of(auth: Auth, pending: AbstractPending) -> str:
    """The code that the mail has, for the one who has opened its link."""
    return code_for(key_set(auth.settings), pending.id)
