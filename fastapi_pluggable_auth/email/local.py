"""Mail that stays here: on the console, in files, in memory. For development and tests."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final, TextIO
from uuid import uuid4

from .. import config
from ..config import AuthSettings
from .base import EmailProvider, MailError
from .message import address_of, build_message, one_line

MAILS_KEPT: Final = 1000
"""An app that runs for months on `EMAIL_PROVIDER=memory` must not fill the memory."""


class ConsoleProvider(EmailProvider):
    """Prints every mail, for development. `stream` defaults to the standard output of the moment."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream

    async def send(self, to: str, subject: str, body: str, html: str | None = None) -> None:
        """Print the text of the mail. Raises `ValueError` as `EmailProvider.send`."""
        ruler = "-" * 78
        stream = self.stream or sys.stdout
        head = f"To: {address_of(to)}\nSubject: {one_line('subject', subject)}"
        stream.write(f"{ruler}\n{head}\n\n{body.strip()}\n{ruler}\n")
        stream.flush()


class FileProvider(EmailProvider):
    """Writes every mail as a file, `<time>-<id>.eml`, into the folder `email_file_dir`, for mail programs to
    open. Only the owner of the process may read it: mails hold links that sign in."""

    def __init__(self, settings: AuthSettings | None = None) -> None:
        self.settings = config.settings if settings is None else settings

    async def send(self, to: str, subject: str, body: str, html: str | None = None) -> None:
        """Write the mail, whole or not at all. Raises as `EmailProvider.send`."""
        message = bytes(build_message(self.settings, to, subject, body, html))
        try:
            await asyncio.to_thread(_write, self.settings.email_file_dir, message)
        except OSError as error:
            raise MailError(f"The mail was not written: {error}", permanent=False) from error


@dataclass(frozen=True, slots=True)
class KeptMail:
    """A mail as it was handed over; mails are numbered from 1."""

    to: str
    subject: str
    body: str
    html: str | None
    number: int
    kept_at: datetime

    @property
    def link(self) -> str:
        """The first link in the text. Raises `ValueError` where there is none."""
        found = re.search(r"https?://\S+", self.body)
        if found is None:
            raise ValueError("There is no link in the mail.")
        return found[0]


class MemoryProvider(EmailProvider):
    """Keeps the last 1000 mails in `mails`, the oldest first, for tests of host apps."""

    def __init__(self) -> None:
        self.mails: deque[KeptMail] = deque(maxlen=MAILS_KEPT)
        self._numbers = count(1)

    async def send(self, to: str, subject: str, body: str, html: str | None = None) -> None:
        """Keep the mail. Raises `ValueError` as `EmailProvider.send`."""
        to, subject = address_of(to), one_line("subject", subject)
        self.mails.append(KeptMail(to, subject, body, html, next(self._numbers), datetime.now(UTC)))


def _write(folder: Path, message: bytes) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{uuid4().hex[:8]}.eml"
    unfinished = file.with_suffix(".part")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as new:
        new.write(message)
    unfinished.rename(file)
