"""What a provider is: a way for mails to leave."""

from __future__ import annotations

from abc import ABC, abstractmethod


class MailError(Exception):
    """The mail was not accepted. `permanent` says that trying again is pointless: it was refused for good."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class EmailProvider(ABC):
    """A way for mails to leave. Several mails may be under way at a time."""

    @abstractmethod
    async def send(self, to: str, subject: str, body: str, html: str | None = None) -> None:
        """Hand over one mail to one recipient.

        Raises `MailError` if it was not accepted. Raises `ValueError`, before anything is sent, if `to` is
        not one bare address or `subject` is not one line.
        """

    async def check(self) -> None:  # noqa: B027 (not every provider can tell)
        """Raise `MailError` if mails could not leave now; sends none."""

    async def rest(self) -> None:  # noqa: B027 (most providers hold nothing)
        """Let go of what only keeps others waiting: no mail was due for some seconds."""

    async def close(self) -> None:  # noqa: B027 (most providers hold nothing)
        """Release what the provider holds."""


def printable(text: str, secret: str | None) -> str:
    """The start of a server's answer on one line, without the secret."""
    line = " ".join(text.split())
    return (line.replace(secret, "***") if secret else line)[:200]
