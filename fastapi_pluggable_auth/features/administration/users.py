"""Accounts in the hands of scripts and administrators."""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, Self
from uuid import UUID

from tortoise.exceptions import IntegrityError, OperationalError, ValidationError
from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from ...auth import Auth, transactional
from ...database import in_one_transaction
from ...email.kinds import MailKind
from ...errors import AuthError, ErrorCode
from ...events import EventKind
from ...failures import Failure, failure_of
from ...flows import authorization
from ...flows.account import erase
from ...flows.columns import column_values, conflicts_refused, require_all, require_free
from ...flows.ends import End, end_access
from ...flows.guesses import forget_codes, forget_guesses
from ...flows.login import account_named
from ...flows.password import require_good_password
from ...flows.throttle import may_mail
from ...hooks import AccountDeleted, LoggedOut, SignedUp, SigningUp, TwoFactorDisabled
from ...models import EMAIL_LENGTH, AbstractUser, every, exact
from ...models.user import U
from ...security.addresses import normalise_email
from ...security.hashing import is_usable, unusable_hash
from ...security.passwords import is_storable
from ...security.plaintext import Plaintext
from ...security.text import without_blanks_around
from ...security.usernames import fold_username
from ..two_factor.flows import TwoFactorEventKind, switch_off

NOBODY_INVITED: Final = (
    "Nobody is invited while the setting SIGNUP is `closed`: set it to `invited` or `open`."
)

SHORTEST_PART: Final = 3
"""Letters by which the indexes of PostgreSQL find parts of addresses and names."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page of users ends; the next one starts after it, even when others sign up in between."""

    created_at: datetime
    id: UUID

    def __str__(self) -> str:
        """Text for a URL or a command line."""
        return f"{(self.created_at - _EPOCH) // _MICROSECOND}-{self.id.hex}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of the text. Raises `ValueError`."""
        microseconds, _, digits = text.rpartition("-")
        try:
            return cls(_EPOCH + int(microseconds) * _MICROSECOND, UUID(digits))
        except OverflowError as error:
            raise ValueError("not a cursor") from error


@dataclass(frozen=True, slots=True)
class Page(Generic[U]):
    """Users, and where the next ones start; None after the last."""

    users: list[U]
    after: Cursor | None


async def find_user(auth: Auth[U], name: UUID | str) -> U:
    """The account of this id, address or username. Raises `AuthError(USER_NOT_FOUND)`."""
    user_id = name if isinstance(name, UUID) else _id_in(name)
    if user_id is not None:
        user = await exact(auth.tables.user.all(), id=user_id)
    else:
        text = without_blanks_around(str(name))
        user = await account_named(auth, _spelling(auth, text)) if text.isprintable() else None
    if user is None:
        raise AuthError(ErrorCode.USER_NOT_FOUND)
    return user


async def list_users(
    auth: Auth[U],
    *,
    search: str = "",
    active: bool | None = None,
    verified: bool | None = None,
    role: str | None = None,
    after: Cursor | None = None,
    limit: int = 50,
) -> Page[U]:
    """A page of accounts, the newest first. `search` is a part of the address or username, in any case; one
    or two letters are their beginning. `role` is one that they have; `after` is the cursor of the page
    before."""
    given = search + (role or "")
    if len(given) > EMAIL_LENGTH or not given.isprintable():  # as no address and no name is
        return Page([], None)
    users = wanted_users(auth, search=search, active=active, verified=verified, role=role, after=after)
    found = await _planned(auth, users.limit(limit + 1))
    page = found[:limit]
    more = bool(page) and len(found) > limit
    # SQLite finds a role in any case.
    shown = page if role is None else [user for user in page if role in user.roles]
    return Page(shown, Cursor(page[-1].created_at, page[-1].id) if more else None)


def wanted_users(
    auth: Auth[U],
    *,
    search: str = "",
    active: bool | None = None,
    verified: bool | None = None,
    role: str | None = None,
    after: Cursor | None = None,
) -> QuerySet[U]:
    """The query of `list_users`."""
    wanted = _has("email", unicodedata.normalize("NFC", search).lower())
    if auth.has_usernames:
        wanted |= _has("username", fold_username(search))
    users = auth.tables.user.filter(wanted) if search else auth.tables.user.all()
    if active is not None:
        users = users.filter(is_active=active)
    if verified is not None:
        users = users.filter(is_verified=verified)
    if role is not None:
        users = users.filter(roles__contains=f" {role} ")
    if after is not None:
        # As it is stored: SQLite compares text.
        created_at = auth.tables.user._meta.fields_map["created_at"].to_python_value(after.created_at)
        earlier = Q(created_at__lt=created_at) | Q(created_at=created_at, id__lt=after.id)
        users = users.filter(earlier, created_at__lte=created_at)  # of which an index finds the first one
    return users.order_by("-created_at", "-id")


def _has(column: str, text: str) -> Q:
    """Those with a text in this column. Of a domain three letters go to the index, which reads a list for
    each three: all that are in `@example.com` take ten times as long, and tell few accounts apart. It knows
    nothing of `icontains`."""
    name, at, domain = text.partition("@")
    if len(text) < SHORTEST_PART:
        return Q(**{f"{column}__startswith": text})
    if len(name) < SHORTEST_PART or len(domain) <= SHORTEST_PART:
        return Q(**{f"{column}__contains": text})
    return Q(**{f"{column}__contains": name + at + domain[:SHORTEST_PART], f"{column}__icontains": text})


async def _planned(auth: Auth[U], users: QuerySet[U]) -> list[U]:
    """The users. PostgreSQL plans the statement for what is asked now: whether to look through all users or
    into an index depends on how many are found, and one that came five times is planned once for all."""
    if auth.tables.user._meta.db.capabilities.dialect != "postgres":
        return await users
    connection = auth.tables.user._meta.default_connection

    async def plan() -> list[U]:
        await auth.tables.user._meta.db.execute_script("SET LOCAL plan_cache_mode = force_custom_plan")
        return await users

    try:
        return await in_one_transaction(connection, plan)
    except OperationalError as error:
        if failure_of(error) is not Failure.UNSUPPORTED:
            raise
        return await users  # other engines with the protocol of PostgreSQL


async def create_user(
    auth: Auth[U],
    email: str,
    password: str | Plaintext | None = None,
    *,
    verified: bool = False,
    mail: bool = False,
    columns: Mapping[str, Any] | None = None,
) -> U:
    """Creates an account. Without a password nobody can log in until the owner sets one by a reset mail.

    `mail` sends what the owner needs: a link to set a password where there is none, else one to verify the
    address where that is not done. Of the columns, those count that the user has. Raises `AuthError`:
    VALIDATION_ERROR, PASSWORD_REFUSALS, EMAIL_TAKEN, USERNAME_TAKEN, VALUE_REFUSED, OVERLOADED.
    """
    password = None if password is None else Plaintext.of(password)
    kind = _first_mail(password, verified) if mail else None
    return await _create(auth, email, password, verified=verified, kind=kind, columns=columns)


async def _create(
    auth: Auth[U],
    email: str,
    password: Plaintext | None = None,
    *,
    verified: bool = False,
    kind: MailKind | None,
    columns: Mapping[str, Any] | None,
    roles: frozenset[str] = frozenset(),
) -> U:
    """Creates an account and, where a kind is given, queues its first mail."""
    async with auth.events.observe(EventKind.ACCOUNT_CREATION) as observation:
        email = _address(auth, email)
        values = column_values(auth, columns or {})
        require_all(auth, values)
        if password is not None:
            if not is_storable(password.look()):
                raise AuthError(ErrorCode.VALIDATION_ERROR)
            await require_good_password(auth, password, email, values.get("username"))
        await require_free(auth, values)
        if await every(auth.tables.user).filter(email=email).exists():
            raise AuthError(ErrorCode.EMAIL_TAKEN)
        hashed = unusable_hash() if password is None else await auth.hasher.hash(password)
        language = auth.settings.default_language
        own = {"email": email, "hashed_password": hashed, "is_verified": verified, "roles": roles}
        user = auth.tables.user(**{"language": language, **values, **own})
        try:
            async with conflicts_refused(auth, values):
                await _insert(auth, user, kind)
        except IntegrityError as error:
            taken = await every(auth.tables.user).filter(email=email).exists()
            raise AuthError(ErrorCode.EMAIL_TAKEN if taken else ErrorCode.VALUE_REFUSED) from error
        except ValidationError as error:  # a column that must not be empty
            raise AuthError(ErrorCode.VALIDATION_ERROR) from error
        observation.user_id = user.id
    stored_user = await exact(every(auth.tables.user), id=user.id) or user
    await auth.hooks.fire(SignedUp, stored_user)
    return stored_user


async def invite_user(
    auth: Auth[U],
    email: str,
    *,
    roles: str | Iterable[str] = (),
    columns: Mapping[str, Any] | None = None,
    check: Callable[[AbstractUser], Awaitable[None]] | None = None,
) -> U:
    """Creates an account without a password and mails its owner a link, with which to set one and to verify
    the address. Where there is one that nobody has used yet, the mail is sent again and the roles are added,
    unless the `check` of such an account raises. Of the columns, those count that the user has.

    Raises `AuthError`: SIGNUP_CLOSED where the setting `signup` is `closed`, EMAIL_TAKEN where the account is
    in use, THROTTLED after too many mails to the address, UNKNOWN_ROLE where the app names its roles and this
    is not one, VALIDATION_ERROR, USERNAME_TAKEN, VALUE_REFUSED.
    """
    async with auth.events.observe(EventKind.ACCOUNT_INVITED) as observation:
        if auth.settings.signup == "closed":
            raise AuthError(ErrorCode.SIGNUP_CLOSED, detail=NOBODY_INVITED)
        email, names = _address(auth, email), authorization.known_roles(auth, roles)
        user = await _invited(auth, email)
        if user is not None and check is not None:
            await check(user)
        if not await may_mail(auth, MailKind.INVITE, email):
            raise AuthError(ErrorCode.THROTTLED)
        if user is None:
            user = await _create(auth, email, kind=MailKind.INVITE, columns=columns, roles=names)
            observation.user_id = user.id
            return user
        observation.user_id = user.id
        if names:
            user.roles = (await authorization.grant(auth, user.id, roles=names)).roles
        await auth.outbox.add(MailKind.INVITE, email, user_id=user.id)
    return user


async def _invited(auth: Auth[U], email: str) -> U | None:
    """The account of this address that nobody has used yet, None where there is none. Raises
    `AuthError(EMAIL_TAKEN)` for one that somebody may have used."""
    user = await exact(every(auth.tables.user), email=email)
    if user is None:
        return None
    used = user.is_verified or is_usable(user.hashed_password) or user.last_login_at is not None
    if used or not user.is_active:
        raise AuthError(ErrorCode.EMAIL_TAKEN)
    return user


async def disable_user(auth: Auth, user_id: UUID) -> None:
    """Refuses every login, and ends all sessions and personal access tokens at once. Doing so again changes
    nothing. Raises `AuthError(USER_NOT_FOUND)`."""
    async with auth.events.observe(EventKind.ACCOUNT_DISABLED, user_id=user_id):
        await _change(auth, user_id, End.DISABLED, is_active=False)


async def enable_user(auth: Auth, user_id: UUID) -> None:
    """Allows logins again; no earlier session comes back. Raises `AuthError(USER_NOT_FOUND)`."""
    async with auth.events.observe(EventKind.ACCOUNT_ENABLED, user_id=user_id):
        await _change(auth, user_id, is_active=True)


async def delete_user(auth: Auth, user_id: UUID) -> None:
    """Deletes an account and all that hangs on it, and tells its owner by mail. Raises `AuthError`:
    USER_NOT_FOUND, ACCOUNT_IN_USE."""
    async with auth.events.observe(EventKind.ACCOUNT_DELETION, user_id=user_id):
        user = await find_user(auth, user_id)
        if not await erase(auth, user):
            raise AuthError(ErrorCode.USER_NOT_FOUND)
    await auth.hooks.fire(AccountDeleted, user.id, user.email)


async def reset_two_factor(auth: Auth, user_id: UUID) -> None:
    """Switches two-factor off for an owner who has lost device and recovery codes: ends all sessions and
    tells the owner. Changes nothing where there is none. Raises `AuthError(USER_NOT_FOUND)`."""
    async with auth.events.observe(TwoFactorEventKind.TWO_FACTOR_DISABLED, user_id=user_id):
        user = await find_user(auth, user_id)
        switched_off = await switch_off(auth, user)
    if switched_off:
        await forget_codes(auth, user_id)
        await auth.hooks.fire(TwoFactorDisabled, user)


async def unlock_user(auth: Auth, user_id: UUID) -> None:
    """Forgets wrong passwords and codes, so that the owner can sign in again after too many of them. Raises
    `AuthError(USER_NOT_FOUND)`."""
    async with auth.events.observe(EventKind.ACCOUNT_UNLOCKED, user_id=user_id):
        await find_user(auth, user_id)
        await forget_guesses(auth, user_id)


async def end_sessions(auth: Auth, user_id: UUID) -> None:
    """Ends all sessions and personal access tokens of a user. Raises `AuthError(USER_NOT_FOUND)`."""
    async with auth.events.observe(EventKind.LOGOUT, user_id=user_id):
        await find_user(auth, user_id)
        await _end(auth, user_id)
    await auth.hooks.fire(LoggedOut, user_id)


async def require_password_reset(auth: Auth, user_id: UUID) -> None:
    """Ends every session and personal access token of a user whose password may be known to others, and
    refuses logins until it is reset by mail (ASVS 6.2.10). Raises `AuthError(USER_NOT_FOUND)`."""
    async with auth.events.observe(EventKind.PASSWORD_RESET_REQUIRED, user_id=user_id):
        await _change(auth, user_id, End.ADMINISTRATOR, password_reset_required=True)


def _id_in(name: str) -> UUID | None:
    """An id is spelled in one way, so that few usernames look like one."""
    try:
        user_id = UUID(name)
    except ValueError:
        return None
    return user_id if str(user_id) == name.lower() else None


def _spelling(auth: Auth, name: str) -> str:
    """As an account is looked up, also one whose address no signup would take."""
    if "@" not in name:
        return fold_username(name)
    try:
        return normalise_email(name, auth.settings.email_special_domains)
    except ValueError:
        return name.lower()


def _address(auth: Auth, email: str) -> str:
    try:
        return normalise_email(email, auth.settings.email_special_domains)
    except ValueError as error:
        raise AuthError(ErrorCode.VALIDATION_ERROR, field="email") from error


def _first_mail(password: Plaintext | None, verified: bool) -> MailKind | None:
    """What the owner of a new account has to do, if anything."""
    if password is None:
        return MailKind.RESET
    return None if verified else MailKind.VERIFY


@transactional
async def _insert(auth: Auth, user: AbstractUser, kind: MailKind | None) -> None:
    await user.save(force_create=True)
    if kind is not None:
        await auth.outbox.add(kind, user.email, user_id=user.id)
    await auth.hooks.fire(SigningUp, copy(user))  # as in a signup


@transactional
async def _change(auth: Auth, user_id: UUID, end: End | None = None, /, **changes: object) -> None:
    """The account comes first, as in a login, which holds it while it starts its session: of the two, the
    later one sees what the earlier one did."""
    account = auth.tables.user.filter(id=user_id)
    if not await account.update(**changes) and not await account.exists():
        raise AuthError(ErrorCode.USER_NOT_FOUND)
    if end is not None:
        await end_access(auth, user_id, end)


@transactional
async def _end(auth: Auth, user_id: UUID) -> None:
    await end_access(auth, user_id, End.ADMINISTRATOR)
