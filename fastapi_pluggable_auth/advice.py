"""What is to be set before others use an app: `check` says all of it, the start names it in one line."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from .auth import Auth
from .config import AuthSettings
from .database import credentials_of, current_context
from .email.local import ConsoleProvider, FileProvider, MemoryProvider

logger = logging.getLogger(__name__)

KEY_LINE: Final = 'echo "{name}=$(openssl rand -base64 48)" >> .env'
"""Run, not copied: a `.env` file takes `$(...)` as it is written."""

_PLACEHOLDER_DOMAIN: Final = "@example.com"


@dataclass(frozen=True, slots=True)
class Advice:
    """`name` is a setting, or what else it is about, `why` a sentence, and `line` what to set or to run.
    With what is `unsafe`, `check` fails."""

    name: str
    why: str
    line: str
    unsafe: bool = False


def advices(auth: Auth[Any]) -> list[Advice]:
    """What is to be set for this app, by its settings and the options of its database; nothing is connected
    to. Where a default may be meant, a setting with that very value says so. None for an app that only this
    machine reaches."""
    if auth.settings.is_local:
        return []
    found = (
        *_on_mail(auth),
        *_on_settings(auth.settings),
        *_on_proxies(auth.settings),
        *_on_workers(auth),
        *_on_the_database(auth),
    )
    return [*found]


def warn(auth: Auth[Any]) -> None:
    """Logs one line that names all of it, if there is any."""
    if names := ", ".join(dict.fromkeys(advice.name for advice in advices(auth))):
        logger.warning(
            "Before others use the app, set %s: `fastapi-pluggable-auth check` says how and why.", names
        )


def keeps_mails(auth: Auth[Any]) -> bool:
    """Whether the mails of this app go nowhere, as in development."""
    if (given := auth.mailer.given_provider) is not None:
        return isinstance(given, ConsoleProvider | FileProvider | MemoryProvider)
    return auth.settings.email_provider in ("console", "file", "memory")


def _on_mail(auth: Auth[Any]) -> Iterator[Advice]:
    settings, given = auth.settings, auth.mailer.given_provider
    if given is not None:
        if keeps_mails(auth):
            why = f"The {type(given).__name__} that include_auth was given sends no mail."
            yield Advice("email_provider", why, "include_auth(app, email_provider=...)", unsafe=True)
        return
    provider = settings.email_provider
    if keeps_mails(auth):
        why = f"AUTH_EMAIL_PROVIDER={provider} sends no mail."
        yield Advice("AUTH_EMAIL_PROVIDER", why, "AUTH_EMAIL_PROVIDER=smtp", unsafe=True)
    elif provider == "smtp" and "smtp_host" not in settings.model_fields_set:
        why = "Mails go to a mail server on this machine, unless another one is named."
        yield Advice("AUTH_SMTP_HOST", why, "AUTH_SMTP_HOST=<your mail server>")
    sender = (provider == "sendgrid" and settings.sendgrid_from_email) or settings.email_from
    if sender.rstrip("> ").endswith(_PLACEHOLDER_DOMAIN):
        domain = urlsplit(settings.public_base_url).hostname
        line = f"AUTH_EMAIL_FROM={settings.app_name} <no-reply@{domain}>"
        yield Advice("AUTH_EMAIL_FROM", "AUTH_EMAIL_FROM still is the placeholder.", line, unsafe=True)


def _on_settings(settings: AuthSettings) -> Iterator[Advice]:
    chosen = settings.model_fields_set
    if settings.totp_encryption_key is None:
        name = "AUTH_TOTP_ENCRYPTION_KEY"
        why = "Two-factor secrets are not encrypted: anyone who reads the database can make codes."
        yield Advice(name, why, KEY_LINE.format(name=name))
    if "app_name" not in chosen:
        why = f"Mails, pages and authenticators call the app {settings.app_name}."
        yield Advice("AUTH_APP_NAME", why, "AUTH_APP_NAME=<its name>")
    if settings.verify_by_get and "verify_by_get" not in chosen:
        why = (
            "set it to false, unless a program of yours opens verification links by GET (then to true): a"
            " scanner that does not look like a browser does so, too, and verifies a stranger's signup."
        )
        yield Advice("AUTH_VERIFY_BY_GET", why, "AUTH_VERIFY_BY_GET=false")


def _on_proxies(settings: AuthSettings) -> Iterator[Advice]:
    """uvicorn and gunicorn may have been told."""
    told = _variable("FORWARDED_ALLOW_IPS") or _variable("UVICORN_FORWARDED_ALLOW_IPS")
    if settings.is_https and not (settings.trusted_proxies or told):
        why = (
            "Behind a proxy on another machine all clients are one, in limits, events and lists of devices."
            " Set FORWARDED_ALLOW_IPS instead to have uvicorn see to it, or 127.0.0.1 without such a proxy."
        )
        yield Advice("AUTH_TRUSTED_PROXIES", why, "AUTH_TRUSTED_PROXIES=<address of the proxy>")


def _on_workers(auth: Auth[Any]) -> Iterator[Advice]:
    settings = auth.settings
    if auth.limiter.is_per_worker and "rate_limit_storage" not in settings.model_fields_set:
        why = "Each worker counts requests for itself. Set memory:// if there is one worker only."
        yield Advice("AUTH_RATE_LIMIT_STORAGE", why, "AUTH_RATE_LIMIT_STORAGE=redis://<host>:6379")
    workers = _variable("UVICORN_WORKERS") or _variable("WEB_CONCURRENCY")
    if workers.isdecimal() and int(workers) > 1 and "hashing_threads" not in settings.model_fields_set:
        why = f"Each of {workers} workers hashes passwords on as many threads as there are cores."
        line = f"AUTH_HASHING_THREADS={max(1, (os.cpu_count() or 1) // int(workers))}"
        yield Advice("AUTH_HASHING_THREADS", why, line)


def _on_the_database(auth: Auth[Any]) -> Iterator[Advice]:
    context, meta = current_context(), auth.tables.user._meta
    if context is None or meta.app is None or meta.db.capabilities.dialect != "postgres":
        return
    if "command_timeout" not in credentials_of(context.connections, str(meta.default_connection)):
        why = "Without command_timeout, asyncpg waits for ever on a connection that has gone silent."
        yield Advice("DATABASE_URL", why, "DATABASE_URL=postgres://...?command_timeout=5")


def _variable(name: str) -> str:
    """One that the server of the app reads, and no setting."""
    return os.environ.get(name, "")
