"""What a second factor is: the protocol between the gate and the features that bring one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..auth import Auth
from ..events import Observation
from ..models import AbstractUser
from ..security.plaintext import Plaintext
from .guesses import Guess


class Accepted(Protocol):
    """An answer that was right. Nothing is written yet."""

    @property
    def factor(self) -> str:
        """Its name in events and in `amr` (RFC 8176, or one of our own)."""

    @property
    def changes(self) -> Mapping[str, Any]:
        """The columns of the account that it writes, so that no answer is good twice."""

    async def spend(self, auth: Auth, user: AbstractUser) -> bool:
        """Writes the rest, inside the transaction that has written the columns; False where another request
        was faster."""

    async def report(self, auth: Auth, observation: Observation) -> None:
        """Emits the events of what was written, after the commit."""


class SecondFactor(Protocol):
    """Something that a user may have to show beside the first factor."""

    async def enrolled(self, auth: Auth, user: AbstractUser) -> bool:
        """Whether the user has to show it. Asked at every login: the account had better say so by itself."""

    def state(self, user: AbstractUser) -> Mapping[str, object]:
        """The columns of the account that say so, and that must not change until the session is stored."""

    async def check(self, auth: Auth, user: AbstractUser, answer: Plaintext, guess: Guess) -> Accepted | None:
        """What follows from a right answer, None for a wrong one, which was counted first. Raises `AuthError`
        where none can be looked at. Takes the answer."""
