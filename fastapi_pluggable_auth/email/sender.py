"""Mails from templates: render, then hand over to the provider."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import jinja2

from ..config import AuthSettings
from ..config import settings as default_settings
from .provider import EmailProvider, provider_for

TEMPLATES: Final = Path(__file__).parent / "templates"

TEMPLATE_NAME: Final = re.compile(r"[\w-]+(\.[\w-]+)*")
"""A bare file name: no folder, no way up, no control character."""


class TemplateError(LookupError):
    """A template is missing or broken, or names a variable that was not given."""


@dataclass(frozen=True)
class RenderedMail:
    """A mail as its reader sees it, without a recipient."""

    subject: str
    body: str
    html: str | None


class Mailer:
    """Renders templates and sends them. Without a `provider`, by the one that the settings name just then."""

    def __init__(self, settings: AuthSettings, provider: EmailProvider | None = None) -> None:
        self.settings = settings
        self.provider = provider

    def render(self, template_name: str, **context: object) -> RenderedMail:
        """Fill `<name>.subject.txt`, `<name>.txt` and, if there is one, `<name>.html`.

        Raises `TemplateError`, and `ValueError` if the name is not a bare one.
        """
        return self._render(template_name, None, context)

    async def send(
        self, to: str, template_name: str, *, subject: str | None = None, **context: object
    ) -> None:
        """Render and send to one address; `subject` replaces the template's.

        Raises as `render` and as `EmailProvider.send`; nothing is sent then.
        """
        mail = self._render(template_name, subject, context)
        # Made anew, because the settings may change; the providers of `provider_for` hold nothing.
        provider = self.provider or provider_for(self.settings)
        await provider.send(to, mail.subject, mail.body, mail.html)

    async def close(self) -> None:
        """Close the provider that was passed in."""
        if self.provider is not None:
            await self.provider.close()

    def _render(self, template_name: str, subject: str | None, context: dict[str, object]) -> RenderedMail:
        name = template_name.removesuffix(".txt").removesuffix(".html")
        if not TEMPLATE_NAME.fullmatch(name):
            raise ValueError(f"{template_name!r} is not the bare name of a template.")
        environment = _environment(self.settings.template_dir)
        values = {
            "app_name": self.settings.totp_issuer,
            "public_base_url": self.settings.public_base_url,
            **context,
        }
        try:
            if subject is None:
                rendered = environment.get_template(f"{name}.subject.txt").render(values)
                # A line break or control character in a value must neither add a header nor stop the mail.
                subject = re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", rendered).strip()
            values.setdefault("subject", subject)
            body = environment.get_template(f"{name}.txt").render(values)
            page = _optional(environment, f"{name}.html")
            return RenderedMail(subject, body, None if page is None else page.render(values))
        except jinja2.TemplateNotFound as error:
            raise TemplateError(f"There is no mail template {error.name!r}.") from error
        except jinja2.TemplateError as error:
            raise TemplateError(f"Mail template {name!r}: {error.message}") from error


async def send_email_async(to: str, subject: str, template_name: str, **ctx: object) -> None:
    """Send one of the app's own mails, on the default settings. Raises as `Mailer.send`."""
    await Mailer(default_settings).send(to, template_name, subject=subject, **ctx)


@lru_cache(maxsize=16)
def _environment(template_dir: Path | None) -> jinja2.Environment:
    """The templates of the library, behind those of the app."""
    folders = [TEMPLATES] if template_dir is None else [template_dir, TEMPLATES]
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.FileSystemLoader(folder) for folder in folders]),
        autoescape=jinja2.select_autoescape(("html",), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _optional(environment: jinja2.Environment, name: str) -> jinja2.Template | None:
    """The template, or None if there is no such file; a broken one still raises."""
    try:
        return environment.get_template(name)
    except jinja2.TemplateNotFound:
        return None
