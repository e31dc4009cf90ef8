"""`mail`: what an operator does with mails."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

from tortoise.expressions import Q

from ..auth import Auth
from ..email.preview import write_previews
from ..email.provider import MailError
from ..email.sender import Mailer
from ..email.template_folders import TemplateError, available_languages
from ..features.feature import Features
from ..features.shipped import SHIPPED
from ..models import AbstractMail, MailState
from ..words.languages import nearest
from .database import add_database, with_auth
from .faults import UsageError, read_settings
from .modules import add_app, auth_of_app
from .options import add_command, positive
from .output import add_json, plain

COLUMNS: Final = (
    *("id", "kind", "state", "recipient", "user_id", "attempts", "created_at", "next_attempt_at"),
    "last_error",
)
"""What is shown, of what mails have."""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Fills in the parser of the command."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    show = add_command(commands, "list", "show mails that wait or were given up, the oldest first")
    show.add_argument("--state", choices=[state.value for state in MailState], help="only these")
    show.add_argument(
        "--limit", type=positive, default=100, metavar="N", help="at most so many (default: 100)"
    )
    add_json(show)
    show.set_defaults(run=lambda options: with_auth(options, partial(_list, options)))

    retry = add_command(commands, "retry", "try mails again that wait or were given up, at once")
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("ids", nargs="*", type=UUID, default=[], metavar="ID", help="id of a mail")
    which.add_argument("--dead", action="store_true", help="all that were given up")
    which.add_argument("--all", action="store_true", help="all that wait or were given up")
    retry.set_defaults(run=lambda options: with_auth(options, partial(_retry, options)))

    run = add_command(commands, "run", "send mails until stopped, for apps with AUTH_DELIVER_MAIL=false")
    run.set_defaults(run=lambda options: with_auth(options, _run, signs=True, patient=True))

    for command in (show, retry, run):
        add_database(command)

    test = add_command(commands, "test", "send a test mail by the provider in the settings")
    test.add_argument("address", metavar="ADDRESS", help="where it goes")
    test.add_argument("--language", metavar="LANGUAGE", help="one that mails may be in, such as de")
    test.set_defaults(run=_test)

    preview = add_command(commands, "preview", "write every mail, in every language, to files")
    preview.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("mail-preview"),
        metavar="FOLDER",
        help="where to (default: mail-preview)",
    )
    preview.add_argument("--pages", action="store_true", help="the app has the built-in pages")
    preview.set_defaults(run=_preview)
    for command in (test, preview):
        add_app(command)


async def _list(options: argparse.Namespace, auth: Auth) -> int:
    states = [options.state] if options.state else [*MailState]
    if not options.state:
        states.remove(MailState.SENT)
    mails = auth.tables.mail.filter(state__in=states)
    for mail in await mails.order_by("created_at").limit(options.limit):
        if options.json:
            print(json.dumps({name: plain(getattr(mail, name)) for name in COLUMNS}))
        else:
            print(_line(mail))
    print(f"{await mails.count()} mails", file=sys.stderr)
    return 0


def _line(mail: AbstractMail) -> str:
    when = "" if mail.next_attempt_at is None else f"  next {mail.next_attempt_at:%Y-%m-%d %H:%M:%S} UTC"
    fields = f"{mail.id}  {mail.state:<11}  {mail.kind:<22}  {mail.recipient}  {mail.attempts} attempts{when}"
    return f"{fields}  {mail.last_error}".rstrip()


async def _retry(options: argparse.Namespace, auth: Auth) -> int:
    chosen = Q(id__in=options.ids) if options.ids else Q()
    count = await auth.outbox.retry(Q(state=MailState.DEAD) if options.dead else chosen)
    print(f"{count} mails are due now")
    return 0 if count or not options.ids else 1


async def _run(auth: Auth) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    auth.dispatcher.start()
    print("Sending mails. Press Ctrl-C to stop.", flush=True)
    await stop.wait()
    await auth.dispatcher.stop()
    return 0


def _test(options: argparse.Namespace) -> int:
    auth = auth_of_app(options.app)
    mailer = Mailer(read_settings()) if auth is None else auth.mailer
    languages = available_languages(mailer.settings)
    if options.language is not None and nearest(options.language, languages) is None:
        raise UsageError(f"No mail is in {options.language!r}: pass one of {', '.join(sorted(languages))}.")
    return asyncio.run(_send_test(mailer, options.address, options.language))


async def _send_test(mailer: Mailer, address: str, language: str | None) -> int:
    try:
        await mailer.send(address, "test", language=language)
    except (MailError, TemplateError, ValueError) as error:
        print(f"Not sent: {error}", file=sys.stderr)
        return 1
    finally:
        await mailer.close()
    print(f"Sent to {address} by {mailer.settings.email_provider}")
    return 0


def _preview(options: argparse.Namespace) -> int:
    auth, folder = auth_of_app(options.app), options.folder
    if auth is None:
        settings, features, pages = read_settings(), Features(SHIPPED), options.pages
    else:
        settings, features, pages = auth.settings, auth.features, auth.pages or options.pages
    try:
        missing = write_previews(settings, folder, features, pages=pages)
    except TemplateError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"The mails cannot be written to {folder}: {error.strerror or error}.", file=sys.stderr)
        return 1
    for language, names in missing.items():
        for name in names:
            print(f"{language}: {name} is missing, its mail is sent in another language", file=sys.stderr)
    print(folder / "index.html")
    return 1 if any(missing.values()) else 0
