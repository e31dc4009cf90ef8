"""The mail of a row in the outbox: in which language, with which link. The link is made here, not before."""

from __future__ import annotations

from ..config import AuthSettings
from ..models import AbstractMail, AbstractUser, Tables, exact
from .addresses import link_url, page_url
from .kinds import LINK_PATHS, PAGES, TO_FORMER_ADDRESS, MailKind, still_meant
from .sender import Mailer, RenderedMail
from .tokens import LinkSigner, Purpose, link_state


class Composer:
    """Turns rows into mails."""

    def __init__(self, settings: AuthSettings, tables: Tables, mailer: Mailer, links: LinkSigner) -> None:
        self._settings = settings
        self._tables = tables
        self._mailer = mailer
        self._links = links

    async def compose(self, mail: AbstractMail) -> RenderedMail | None:
        """The mail as it is to be sent now; None where it makes no sense any more. Raises `TemplateError`."""
        kind = MailKind(mail.kind)
        if kind in TO_FORMER_ADDRESS:
            return self._mailer.render(mail.kind, email=mail.recipient, **mail.context)
        user = await self._owner_of(mail)
        context = dict(mail.context)
        pages = context.pop("pages", False)
        if kind in PAGES:
            context["page_url"] = page_url(self._settings, kind, pages=pages)
        if kind is MailKind.SIGNUP_CLASH:
            return self._mailer.render(mail.kind, email=mail.recipient, **context) if user is None else None
        if user is None or not still_meant(mail, user):
            return None
        if kind in LINK_PATHS:
            purpose = Purpose(kind.value)
            token = self._links.generate(purpose, user.id, link_state(purpose, user))
            context["url"] = link_url(self._settings, kind, token)
            context["lifetime"] = self._links.lifetime(purpose)
        return self._mailer.render(mail.kind, language=user.language, email=mail.recipient, **context)

    async def _owner_of(self, mail: AbstractMail) -> AbstractUser | None:
        active = self._tables.user.all()
        if mail.user_id is not None:
            return await exact(active, id=mail.user_id, is_active=True)
        return await exact(active, email=mail.recipient, is_active=True)
