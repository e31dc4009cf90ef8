"""The mail of a row in the outbox: in which language, with which link. The link is made here, not before."""

from __future__ import annotations

from collections.abc import Mapping

from ..config import AuthSettings
from ..features.feature import MailTable, Reader
from ..models import AbstractMail, AbstractPending, AbstractUser, Tables, exact
from ..security.clock import Clock
from ..security.keys import key_set
from ..security.mailed_codes import code_for, link_token
from .addresses import link_url, page_url
from .sender import Mailer, RenderedMail
from .tokens import LinkSigner, link_state


class Composer:
    """Turns rows into mails."""

    def __init__(
        self,
        settings: AuthSettings,
        tables: Tables,
        mailer: Mailer,
        links: LinkSigner,
        mails: Mapping[str, MailTable],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._tables = tables
        self._mailer = mailer
        self._links = links
        self._mails = mails
        self._clock = clock

    async def compose(self, mail: AbstractMail) -> RenderedMail | None:
        """The mail as it is to be sent now; None where it no longer applies. Raises `TemplateError`."""
        kind = self._mails[mail.kind]
        spec, context = kind.spec, dict(mail.context)
        if spec.code or spec.code_page:
            waiting = await self._waiting(context.pop("waiting", ""))
            if waiting is None and spec.link is None:
                return None
            context |= self._of_code(kind, mail, waiting)
        if spec.reader is Reader.ADDRESS:
            return self._mailer.render(kind, email=mail.recipient, **context)
        user = await self._owner_of(mail)
        pages = context.pop("pages", False)
        if spec.page:
            context["page_url"] = page_url(self._settings, kind, pages=pages)
        if spec.reader is Reader.STRANGER:
            return self._mailer.render(kind, email=mail.recipient, **context) if user is None else None
        if user is None or not spec.still_applies(mail, user):
            return None
        if spec.link is not None:
            token = self._links.generate(spec.link, user.id, link_state(spec.link, user))
            context["url"] = link_url(self._settings, kind, token)
            context["lifetime"] = self._links.lifetime(spec.link)
        return self._mailer.render(kind, language=user.language, email=mail.recipient, **context)

    def _of_code(
        self, kind: MailTable, mail: AbstractMail, waiting: AbstractPending | None
    ) -> dict[str, object]:
        """The code, and how long it is good; nothing of both in a mail that has its link alone."""
        spec = kind.spec
        if waiting is None:
            return {"code": "", "code_lifetime": ""}
        keys, left = key_set(self._settings), waiting.expires_at - mail.created_at
        if spec.link is not None:
            return {"code": code_for(keys, waiting.id), "code_lifetime": left}
        said: dict[str, object] = {"lifetime": left}
        if spec.code:
            said["code"] = code_for(keys, waiting.id)
        if spec.code_page:
            path = spec.code_page.replace("{token}", link_token(keys, waiting.id))
            said["url"] = self._settings.public_url(path)
        return said

    async def _waiting(self, waiting: str) -> AbstractPending | None:
        """What the code is for; None where it is spent, or too late."""
        found = await exact(self._tables.pending.all(), id=waiting)
        if found is None or found.spent_at is not None or self._clock() >= found.expires_at:
            return None
        return found

    async def _owner_of(self, mail: AbstractMail) -> AbstractUser | None:
        active = self._tables.user.all()
        if mail.user_id is not None:
            return await exact(active, id=mail.user_id, is_active=True)
        return await exact(active, email=mail.recipient, is_active=True)
