"""`users`: what an operator does with accounts."""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final, TextIO
from uuid import UUID

from ..auth import Auth
from ..errors import AuthError, ErrorCode
from ..features.administration.importing import PRIVATE, ImportFileError, column_value, import_users
from ..features.administration.users import (
    Cursor,
    create_user,
    delete_user,
    disable_user,
    enable_user,
    end_sessions,
    find_user,
    invite_user,
    list_users,
    reset_two_factor,
    unlock_user,
)
from ..features.administration.vouching import set_password, verify_user
from ..features.email_sign_in.flows import mail_link
from ..features.email_sign_in.options import options_of
from ..features.passkeys import keeping as passkeys
from ..features.passkeys.names import SECOND_FACTOR_ONLY
from ..features.social_login import keeping as identities
from ..features.two_factor.flows import remaining_recovery_codes
from ..flows.account import AccountInUseError
from ..flows.authorization import grant
from ..flows.sessions import count_sessions
from ..models import AbstractUser
from ..security.hashing import is_usable
from ..security.passwords import MAXIMUM_LENGTH, MINIMUM_LENGTH
from . import rights
from .database import add_database, with_auth
from .faults import CommandError
from .options import add_command, positive
from .output import add_json, plain, print_facts, printable
from .private_files import new_private_file
from .progress import Progress
from .prompts import add_password_stdin, confirm, new_password
from .rights import add_roles, known_roles

Work = Callable[[argparse.Namespace, Auth], Awaitable[int]]

USERNAME_NEEDED: Final = "Users of this app have usernames: pass --username."


async def _reset_two_factor(auth: Auth, user_id: UUID) -> None:
    await reset_two_factor(auth, user_id)
    if SECOND_FACTOR_ONLY in (await find_user(auth, user_id)).second_factors:
        print("note: a login still asks for a passkey; `users reset-passkeys` removes all.", file=sys.stderr)


async def _reset_passkeys(auth: Auth, user_id: UUID) -> None:
    await passkeys.remove_for(auth, await find_user(auth, user_id))


async def _reset_identities(auth: Auth, user_id: UUID) -> None:
    await identities.remove_for(auth, await find_user(auth, user_id))


async def _mail_link(options: argparse.Namespace, auth: Auth) -> int:
    if options.app is None or "email_sign_in" not in auth.features:
        raise CommandError("Pass --app, such as --app main:app: an app that has EmailSignIn().")
    if not (options_of(auth).link and auth.uses_cookies):
        raise CommandError("A link signs in where the app has EmailSignIn(link=True), and pages or cookies.")
    user = await find_user(auth, options.name)
    if not await mail_link(auth, user):
        raise CommandError(f"{printable(user.email)} is disabled, or may not sign in by mail.")
    print(f"{user.id}  {user.email}  mailed")
    return 0


CHANGES: Final[dict[str, tuple[str, str, Callable[[Auth, UUID], Awaitable[None]]]]] = {
    "disable": ("refuse logins and end all sessions", "disabled", disable_user),
    "enable": ("allow logins again", "enabled", enable_user),
    "verify": ("mark the address verified, as its owner is known", "verified", verify_user),
    "unlock": ("forget wrong passwords and codes, after too many of them", "unlocked", unlock_user),
    "reset-2fa": ("switch two-factor off, end all sessions and tell the owner", "reset", _reset_two_factor),
    "reset-passkeys": ("remove all passkeys and tell the owner", "passkeys removed", _reset_passkeys),
    "reset-identities": (
        "disconnect all accounts elsewhere and tell the owner",
        "identities disconnected",
        _reset_identities,
    ),
    "logout": ("end all sessions", "logged out", end_sessions),
}
"""What they do, what is said afterwards, and the flow."""

ENDING: Final = frozenset({"disable", "verify", "reset-2fa", "reset-passkeys", "logout"})
"""Those of them that end access."""

COLUMNS: Final = (
    "id",
    "email",
    "username",
    "display_name",
    "is_active",
    "is_verified",
    "pending_email",
    "second_factors",
    "is_superuser",
    "roles",
    "permissions",
    "language",
    "password_reset_required",
    "password_changed_at",
    "last_login_at",
    "created_at",
)
"""What is shown, of what users have."""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Fills in the parser of the command."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, purpose: str, work: Work, *, ends_access: bool = False, signs: bool = False
    ) -> argparse.ArgumentParser:
        added = add_command(commands, name, purpose)
        added.set_defaults(run=partial(_run, work), ends_access=ends_access, signs=signs)
        return added

    create = command("create", "create an account", _create)
    create.add_argument("email", metavar="EMAIL", help="the address")
    _add_columns(create)
    passwords = create.add_mutually_exclusive_group()
    add_password_stdin(passwords.add_argument)
    passwords.add_argument(
        "--no-password", action="store_true", help="set none: the owner sets one by a reset mail"
    )
    create.add_argument("--verified", action="store_true", help="the address is known to be the owner's")
    create.add_argument(
        "--mail", action="store_true", help="mail a link to set the password, or to verify the address"
    )

    add_roles(create)
    create.add_argument("--superuser", action="store_true", help="has every permission")

    inviting = command("invite", "mail an invitation, or send it again", _invite)
    inviting.add_argument("email", metavar="EMAIL", help="the address")
    _add_columns(inviting)
    add_roles(inviting)

    show_all = command("list", "list accounts, the newest first", _list)
    show_all.add_argument(
        "--search",
        default="",
        metavar="TEXT",
        help="a part of the address or username, or one or two letters at the beginning",
    )
    show_all.add_argument("--disabled", dest="active", action="store_const", const=False, help="only these")
    show_all.add_argument(
        "--unverified", dest="verified", action="store_const", const=False, help="only these"
    )
    show_all.add_argument("--role", metavar="ROLE", help="only users with this role")
    how_many = show_all.add_mutually_exclusive_group()
    how_many.add_argument(
        "--limit", type=positive, default=50, metavar="N", help="at most so many (default: 50)"
    )
    how_many.add_argument("--all", action="store_true", help="all of them")
    show_all.add_argument("--after", type=_cursor, metavar="CURSOR", help="go on after the last page")
    add_json(show_all)

    importing = command("import", "import accounts from a CSV file, with their password hashes", _import)
    importing.add_argument("file", type=Path, metavar="FILE", help="CSV whose first line names the columns")
    importing.add_argument("--rejects", type=Path, metavar="FILE", help="write rows that are refused there")

    show = command("show", "show an account", _show)
    add_json(show, "as an object")
    remove = command("delete", "delete an account and all that hangs on it", _delete, ends_access=True)
    remove.add_argument("--yes", action="store_true", help="do not ask")
    changing = [
        command(name, purpose, partial(_change, done, flow), ends_access=name in ENDING)
        for name, (purpose, done, flow) in CHANGES.items()
    ]
    password = command(
        "set-password",
        "set a password, asked for or from stdin, and end all sessions",
        _set_password,
        ends_access=True,
    )
    add_password_stdin(password.add_argument)
    mailing = command(
        "mail-link", "mail a link to sign in with to the owner: it is good once", _mail_link, signs=True
    )
    for named in (show, remove, password, mailing, *changing, *rights.add_to(command)):
        named.add_argument("name", metavar="NAME", help="id, address or username")
    for added in commands.choices.values():
        add_database(added)


def _cursor(text: str) -> Cursor:
    try:
        return Cursor.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not the cursor of a page") from error


def _run(work: Work, options: argparse.Namespace) -> int:
    # Without their own handler, Python prints the events of refusals beside our sentence.
    logging.getLogger("fastapi_pluggable_auth.security").addHandler(logging.NullHandler())

    async def refusable(auth: Auth) -> int:
        try:
            return await work(options, auth)
        except AuthError as error:
            raise CommandError(str(error)) from error

    return with_auth(options, refusable, signs=options.signs, ends_access=options.ends_access)


def _add_columns(parser: argparse.ArgumentParser) -> None:
    """What a new account may have beside its address."""
    parser.add_argument("--username", metavar="USERNAME", help="where users have one")
    parser.add_argument("--display-name", metavar="NAME", help="what the user is called")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_assignment,
        dest="own",
        metavar="COLUMN=VALUE",
        help="a column of the app's own user model; may be repeated",
    )


async def _create(options: argparse.Namespace, auth: Auth) -> int:
    if auth.has_usernames and options.username is None:
        raise CommandError(USERNAME_NEEDED)
    columns, roles = _given_columns(options, auth), known_roles(auth, options.roles)
    password = (
        None
        if options.no_password
        else new_password(from_stdin=options.password_stdin, otherwise="--password-stdin or --no-password")
    )
    with _columns_explained(options, columns):
        user = await create_user(
            auth, options.email, password, verified=options.verified, mail=options.mail, columns=columns
        )
    if roles or options.superuser:
        user = await grant(auth, user.id, roles=roles, superuser=options.superuser)
    print(_line(user))
    return 0


async def _invite(options: argparse.Namespace, auth: Auth) -> int:
    columns, roles = _given_columns(options, auth), known_roles(auth, options.roles)
    with _columns_explained(options, columns):
        user = await invite_user(auth, options.email, roles=roles, columns=columns)
    print(_line(user))
    return 0


def _given_columns(options: argparse.Namespace, auth: Auth) -> dict[str, object]:
    if options.username is not None and not auth.has_usernames:
        raise CommandError("Users of this app have no usernames.")
    given = {"username": options.username, "display_name": options.display_name}
    columns = {name: value for name, value in given.items() if value is not None}
    return columns | {name: _own_value(auth, name, text) for name, text in options.own}


@contextmanager
def _columns_explained(options: argparse.Namespace, columns: Mapping[str, object]) -> Iterator[None]:
    """Wraps what makes an account with these columns; says which options are wrong."""
    try:
        yield
    except AuthError as error:
        if error.field == "email":
            raise CommandError(f"{options.email!r} is not an e-mail address.") from error
        if error.field == "username" and "username" not in columns:
            raise CommandError(USERNAME_NEEDED) from error
        if error.field and error.field not in columns:
            needed = f"Users of this app need {error.field}: pass --set {error.field}=VALUE."
            raise CommandError(needed) from error
        if error.field in dict(options.own):
            raise CommandError(f"The value of {error.field} is refused: {error.detail}") from error
        if error.code is ErrorCode.VALIDATION_ERROR:
            password = f" or the password ({MINIMUM_LENGTH} to {MAXIMUM_LENGTH} characters)"
            wrong = f"A name{password if 'password_stdin' in options else ''}"
            raise CommandError(f"{wrong} is not valid.") from error
        raise


def _assignment(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError("COLUMN=VALUE is needed")
    return name, value


def _own_value(auth: Auth, name: str, text: str) -> object:
    """What `--set` says. Columns of the package have their own options and commands."""
    shipped = AbstractUser._meta.fields_map.keys() | {"username"}
    if name not in auth.tables.user._meta.fields_db_projection.keys() - shipped:
        raise CommandError(f"Users of this app have no column {name!r} of their own.")
    try:
        return column_value(auth, name, text)
    except ValueError as error:
        raise CommandError(f"The value of {name} is not valid.") from error


async def _set_password(options: argparse.Namespace, auth: Auth) -> int:
    user = await find_user(auth, options.name)
    try:
        await set_password(auth, user.id, new_password(from_stdin=options.password_stdin))
    except AuthError as error:
        if error.code is ErrorCode.VALIDATION_ERROR:
            length = f"{MINIMUM_LENGTH} to {MAXIMUM_LENGTH} characters"
            raise CommandError(f"A password has {length}.") from error
        raise
    print(f"{user.id}  {user.email}  password set")
    return 0


async def _list(options: argparse.Namespace, auth: Auth) -> int:
    if options.role is not None:
        known_roles(auth, [options.role])
    after, count = options.after, 0
    while True:
        page = await list_users(
            auth,
            search=options.search,
            active=options.active,
            verified=options.verified,
            role=options.role,
            after=after,
            limit=1000 if options.all else options.limit,
        )
        for user in page.users:
            print(json.dumps(_columns(user)) if options.json else _line(user))
        count, after = count + len(page.users), page.after
        if after is None or not options.all:
            break
    more = "" if after is None else f", and more: --after {after}"
    print(f"{count} users{more}", file=sys.stderr)
    return 0


async def _import(options: argparse.Namespace, auth: Auth) -> int:
    with ExitStack() as opened:
        try:
            raw = opened.enter_context(options.file.open("rb"))
            # What is not UTF-8 is the fault of a row, not of the file.
            lines = io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", newline="")
            rejects = (
                None if options.rejects is None else opened.enter_context(new_private_file(options.rejects))
            )
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}.") from error
        progress = opened.enter_context(Progress(options.file.stat().st_size))
        return await _import_lines(auth, lines, raw, rejects, progress)


async def _import_lines(
    auth: Auth, lines: TextIO, raw: IO[bytes], rejects: TextIO | None, progress: Progress
) -> int:
    imported = skipped = refused = 0
    header = lines.readline()
    if rejects is not None:  # which can be corrected and imported in turn
        rejects.write(f"{PRIVATE}line,{PRIVATE}reason,{header}")
    try:
        async for batch in import_users(auth, chain([header], lines)):
            for refusal in batch.refused:
                progress.say(f"line {refusal.line}: {refusal.reason}")
                if rejects is not None:
                    csv.writer(rejects).writerow([refusal.line, refusal.reason, *refusal.cells])
            imported, skipped = imported + batch.imported, skipped + batch.skipped
            refused += len(batch.refused)
            progress.moved_to(raw.tell(), f"{imported} imported, {skipped} skipped, {refused} refused")
    except ImportFileError as error:
        raise CommandError(str(error)) from error
    print(f"{imported} imported, {skipped} skipped as their address has an account, {refused} refused")
    return 1 if refused else 0


async def _show(options: argparse.Namespace, auth: Auth) -> int:
    user = await find_user(auth, options.name)
    keys = [passkeys.shown(each) for each in await passkeys.passkeys_of(auth, user.id)]
    known = [identities.shown(each) for each in await identities.identities_of(auth, user.id)]
    facts = _columns(user) | {
        "has_password": is_usable(user.hashed_password),
        "two_factor": user.two_factor_active,
        "recovery_codes": await remaining_recovery_codes(auth, user),
        "passkeys": [{name: plain(value) for name, value in each.items()} for each in keys],
        "identities": [{name: plain(value) for name, value in each.items()} for each in known],
        "sessions": await count_sessions(auth, user.id),
    }
    if options.json:
        print(json.dumps(facts))
        return 0
    short = {"passkeys": len(keys), "identities": [each["provider"] for each in known]}
    print_facts(facts | short)
    return 0


async def _change(
    done: str, flow: Callable[[Auth, UUID], Awaitable[None]], options: argparse.Namespace, auth: Auth
) -> int:
    user = await find_user(auth, options.name)
    await flow(auth, user.id)
    print(f"{user.id}  {user.email}  {done}")
    return 0


async def _delete(options: argparse.Namespace, auth: Auth) -> int:
    user = await find_user(auth, options.name)
    if not options.yes:
        confirm(f"Delete {printable(user.email)} and all that hangs on it? [y/N] ")
    try:
        await delete_user(auth, user.id)
    except AccountInUseError as error:
        raise CommandError(
            f"Not deleted: rows of {error.table or 'a table'} refer to the account."
        ) from error
    print(f"{user.id}  {user.email}  deleted")
    return 0


def _line(user: AbstractUser) -> str:
    """Of fields that two spaces separate; the address, and a username, come last. A `2fa` is asked for after
    every password, a `key` signs in by itself."""
    active = "active" if user.is_active else "disabled"
    verified = "verified" if user.is_verified else "unverified"
    asked = user.two_factor_active or SECOND_FACTOR_ONLY in user.second_factors
    factors = "2fa" if asked else "key" if user.second_factors else "-"
    created = f"{user.created_at:%Y-%m-%dT%H:%M:%SZ}"
    username = getattr(user, "username", None)
    names = user.email if username is None else f"{user.email}  {username}"
    return f"{user.id}  {created}  {active:<8}  {verified:<10}  {factors:<3}  {printable(names)}"


def _columns(user: AbstractUser) -> dict[str, Any]:
    return {name: plain(getattr(user, name)) for name in COLUMNS if name in user._meta.fields_map}
