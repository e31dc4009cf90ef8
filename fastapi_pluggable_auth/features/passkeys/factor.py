"""Passkeys beside a password, as a `SecondFactor` of the gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import ValidationError

from ...auth import Auth
from ...models import AbstractUser
from ...security.plaintext import Plaintext
from ..feature import CountsCodes
from .credentials import Assertion
from .names import FACTOR, SECOND_FACTOR_ONLY

if TYPE_CHECKING:
    from .flows import Shown


class PasskeyFactor:
    """A login asks for one where two-factor is on: the user has an authenticator app as well, or a passkey
    that does not sign in by itself; and where the app requires two-factor."""

    removed: ClassVar[Mapping[str, object]] = {}
    """Nothing: the account says so by the rows, which a claim deletes."""

    async def enrolled(self, auth: Auth, user: AbstractUser) -> bool:
        """Whether a login asks for it."""
        if FACTOR not in user.second_factors:
            return False
        is_on = user.two_factor_active or SECOND_FACTOR_ONLY in user.second_factors
        return is_on or auth.requires_two_factor(user)

    def state(self, user: AbstractUser) -> dict[str, object]:
        """Which passkeys there are."""
        return {"second_factors": user.second_factors}

    async def check(
        self, auth: Auth, user: AbstractUser, answer: Plaintext, guess: CountsCodes
    ) -> Shown | None:
        """What follows from a credential in JSON. Raises `AuthError`: THROTTLED, PASSKEY_EXPIRED,
        PASSKEY_REFUSED, PASSKEY_UNKNOWN."""
        if not answer.look().startswith("{"):
            return None
        from .flows import check_second_factor  # here, as scripts know of this without fido2

        await guess.count_code(unguessable=True)
        try:
            credential = Assertion.model_validate_json(answer.take())
        except ValidationError:
            return None
        return await check_second_factor(auth, user, credential)

    async def report_removal(self, auth: Auth, user: AbstractUser) -> None:
        """A claim tells its owner itself."""
