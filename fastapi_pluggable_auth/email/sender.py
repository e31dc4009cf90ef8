"""Mails from templates, handed to the provider."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from .. import config
from ..config import AuthSettings
from ..rounds import Rounds
from ..words.languages import preferred
from ..words.texts import NO_FEATURES, Folders
from .provider import EmailProvider, provider_for
from .rendering import names_code, render
from .template_folders import RenderedMail, TemplateError, available_languages

logger = logging.getLogger(__name__)

__all__ = ["Mailer", "RenderedMail", "TemplateError", "send_email_async"]


class Mailer:
    """Renders templates, also those in the folders of `features`, and sends them: by the provider that was
    passed in, or the one in the settings."""

    def __init__(
        self,
        settings: AuthSettings,
        provider: EmailProvider | None = None,
        features: Folders = NO_FEATURES,
    ) -> None:
        self.settings = settings
        self._features = features
        self.given_provider = provider
        self._made: dict[str, EmailProvider] = {}
        self._rests = Rounds("Closing idle connections for mail", logger)

    @property
    def provider(self) -> EmailProvider:
        """The provider of the moment. Raises `ValueError` where the settings of the provider are not
        complete."""
        if self.given_provider is not None:
            return self.given_provider
        name = self.settings.email_provider
        if name not in self._made:
            self._made[name] = provider_for(self.settings)
        return self._made[name]

    def render(self, template_name: str, *, language: str | None = None, **context: object) -> RenderedMail:
        """The mail of a template, in this language where it has it. Raises as `rendering.render`."""
        return self._render(template_name, context, None, language)

    async def send(
        self,
        to: str,
        template_name: str,
        *,
        subject: str | None = None,
        language: str | None = None,
        **context: object,
    ) -> None:
        """Render and send to one address; `subject` replaces the template's.

        Raises as `rendering.render` and as `EmailProvider.send`; nothing is sent then.
        """
        await self.submit(to, self._render(template_name, context, subject, language))

    async def submit(self, to: str, mail: RenderedMail) -> None:
        """Send a mail to one address. Raises as `EmailProvider.send`."""
        await self.provider.send(to, mail.subject, mail.body, mail.html)

    def shows_code(self, template_name: str) -> bool:
        """Whether a mail has a place for the code beside its link: a template of the app may have none."""
        return names_code(self.settings, template_name, self._features)

    def language_for(self, accept_language: str) -> str | None:
        """The best language that has templates, for a header `Accept-Language`; None where there is none."""
        return preferred(accept_language, available_languages(self.settings, self._features))

    def _render(
        self, name: str, context: Mapping[str, object], subject: str | None, language: str | None
    ) -> RenderedMail:
        chosen = {"subject": subject, "language": language}
        return render(self.settings, name, context, **chosen, features=self._features)

    async def rest(self) -> None:
        """No mail is due for a while: let the providers hang up. Never raises."""
        for provider in self._providers():
            with self._rests.one():
                await provider.rest()

    async def close(self) -> None:
        """Close the providers."""
        for provider in self._providers():
            await provider.close()

    def _providers(self) -> list[EmailProvider]:
        return [*self._made.values(), *([] if self.given_provider is None else [self.given_provider])]


async def send_email_async(to: str, subject: str, template_name: str, **ctx: object) -> None:
    """Send one of the app's own mails, on the default settings; `language` in the context chooses one, and
    `email` is the recipient unless it is given. Raises as `Mailer.send`."""
    mailer = Mailer(config.settings)
    try:
        await mailer.send(to, template_name, subject=subject, **{"email": to, **ctx})  # type: ignore[arg-type]
    finally:
        await mailer.close()
