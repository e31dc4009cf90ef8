"""`Auth`: the services of one app, built once and shared by its flows and routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial, wraps
from itertools import chain
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, get_origin
from weakref import WeakValueDictionary

from tortoise.context import TortoiseContext

from .afterwards import Afterwards
from .arguments import (
    name_of,
    require_all,
    require_bool,
    require_callable,
    require_clock,
    require_handler,
    require_instance,
    require_limiter,
    require_roles,
    require_subclass,
)
from .autonomous import AutonomousTransactions
from .config import AuthSettings
from .database import current_context, deadline_paused, in_one_transaction, with_deadline
from .email.base import EmailProvider
from .email.composer import Composer
from .email.dispatcher import Dispatcher, SendEmail
from .email.kinds import mails_of
from .email.outbox import Outbox
from .email.sender import Mailer
from .email.tokens import LinkSigner, require_distinct_links
from .errors import AuthError, ErrorCode
from .events import SecurityEvent, SecurityLog, origin
from .failures import Failure, failure_of, log_failure
from .features.feature import Feature, Features
from .hooks import Event, Hooks, is_same
from .measurements import HashingRefused, Measurement, Measurements, PasswordHashed
from .models import AbstractUser, Tables, User, shipped, tables_for
from .models.user import U, U_co
from .poolers import PoolerWatch
from .queries import Queries
from .readiness import LIMIT, Readiness, TablesWatch
from .security.clock import Clock, utc_now
from .security.encryption import SecretBox
from .security.guessing import PasswordMeter
from .security.hashing import PasswordHasher
from .security.jwt import TokenSigner
from .security.names import name_set
from .security.proxies import counted_network
from .security.rate_limits import RateLimiter

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Heard = Event | SecurityEvent | Measurement
E = TypeVar("E", bound=Heard)
A = TypeVar("A", bound="Auth[Any]")


class Auth(Generic[U_co]):
    """Everything that belongs to one app: settings, clock, tables, hooks, tokens, password hashing and mail.

    `include_auth` makes one and keeps it on `app.state`; a script makes its own to call the flows. Another
    `clock` or `limiter`, and other settings, take effect at once. To type checkers it is `Auth[Member]` where
    users are of the class `Member`, and plain `Auth` is that of any app.
    """

    tables: Tables[U_co]

    def __init__(
        self: Auth[U],
        settings: AuthSettings,
        *,
        user_model: type[U] = User,  # type: ignore[assignment]  # where no other is named
        clock: Clock = utc_now,
        email_provider: EmailProvider | None = None,
        send_email: SendEmail | None = None,
        require_two_factor: Callable[[U], bool] | None = None,
        trust_device: Callable[[U], bool] | None = None,
        limiter: Any = None,
        pages: bool = False,
        roles: Mapping[str, str | Iterable[str]] | None = None,
        features: Collection[Feature] = (),
        profile_columns: Iterable[str] = (),
        bodies: Mapping[type[Any], type[Any]] | None = None,
    ) -> None:
        require_instance("settings", settings, AuthSettings, "write settings=AuthSettings(...).")
        require_subclass("user_model", user_model, AbstractUser)
        require_clock(clock)
        if email_provider is not None:
            require_instance("email_provider", email_provider, EmailProvider, "pass one, made by its class.")
        require_bool("pages", pages)
        require_all("features", features, Feature, "write features=[Administration(), ...].")
        require_limiter(limiter)
        require_callable("send_email", send_email, "async def send_email(mail_id: UUID) -> None")
        require_callable("require_two_factor", require_two_factor, "lambda user: user.is_superuser")
        require_callable("trust_device", trust_device, "lambda user: not user.is_superuser")
        require_roles(roles or {})
        self.settings = settings
        self.features = _with_those_of_every_app(settings, features)
        self.pages = pages
        self.roles = _checked_roles(roles or {})
        self.profile_columns = frozenset(profile_columns)
        self.bodies = bodies or {}
        """What stands in for the bodies of the package."""
        self.clock = clock
        self.tables = tables_for(user_model, *self.features)
        self.expired = _all(shipped.EXPIRED, (feature.expired for feature in self.features))
        self.access_ended = _all(shipped.ACCESS_ENDED, (feature.access_ended for feature in self.features))
        self.autonomous = AutonomousTransactions(self.tables.user)
        self.afterwards = Afterwards(self.tables.user, self.autonomous)
        self.unwritten: dict[str, Any] = {}
        """Counters that wait for the end of a transaction of the host."""
        self.turns: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()
        """Who counts on which counter now."""
        self.queries = Queries(self.tables)
        self.pooler = PoolerWatch(self.tables.user)
        self.tables_watch = TablesWatch(self.tables)
        self.events = SecurityLog(self._now)
        self.hooks = Hooks(settings, self.features.errors)
        self.measurements = Measurements()
        self.heard: list[tuple[type[Heard], Callable[[Any], Any]]] = []
        self._services: dict[Callable[[Auth[Any]], Any], Any] = {}
        for feature in self.features:
            for event, handler in feature.hooks:
                self._hear(event, partial(handler, self))
        self.signer = TokenSigner(settings, self._now)
        require_distinct_links(self.features)
        self.links = LinkSigner(settings, self._now)
        self.totp_box = SecretBox(settings)
        report = self.measurements.report
        self.hasher = PasswordHasher(
            settings,
            deadline_paused,
            _network,
            ran=lambda waited, took: report(PasswordHashed, waited, took),
            refused=lambda: report(HashingRefused),
        )
        self.meter = PasswordMeter(deadline_paused, _network)
        self.limiter = RateLimiter(settings, limiter, self.features.rates)
        mails = mails_of(self.features)
        self.mailer = Mailer(settings, email_provider, self.features.folders)
        self.outbox = Outbox(settings, self.tables, self._now, mails, self.measurements, pages=pages)
        composer = Composer(settings, self.tables, self.mailer, self.links, mails, self._now)
        self.dispatcher = Dispatcher(settings, self.outbox, composer, self.mailer, send_email)
        self._require_two_factor: Callable[[Any], bool] | None = require_two_factor
        self.trust_device: Callable[[Any], bool] | None = trust_device
        """Which users may have devices that are trusted; all, where the app does not say."""
        self.tortoise_context: TortoiseContext | None = None

    def on(self, event: Callable[..., E]) -> Callable[[Callable[[E], T]], Callable[[E], T]]:
        """Calls the decorated function, async or not, with each event of this class, or of a class below it:
        those of `hooks`, `SecurityEvent`, and those of `measurements`, for functions that are not async.
        Handlers run one after the other, in the order of their decorators. The event's class says when, and
        what happens where one raises. Raises `TypeError` for any other class, and for a function that does
        not take an event."""
        heard: Any = get_origin(event) or event
        if not (isinstance(heard, type) and issubclass(heard, Heard)):
            name = getattr(heard, "__name__", repr(heard))
            raise TypeError(
                f"{name} is not an event: name one above the function, as in `@auth.on(SignedUp)`, with "
                f"`from fastapi_pluggable_auth.hooks import SignedUp`."
            )

        def add(handler: Callable[[E], T]) -> Callable[[E], T]:
            require_handler(handler, heard.__name__, wait=not issubclass(heard, Measurement))
            self._warn_if_heard(heard, handler)
            told = partial(self.hooks.tell, handler) if issubclass(heard, SecurityEvent) else handler
            self._hear(heard, told)
            return handler

        return add

    def _warn_if_heard(self, event: type[Heard], handler: Callable[[Any], Any]) -> None:
        """Names a handler that would be called twice with one event."""
        for known, other in self.heard:
            if is_same(handler, other) and (issubclass(event, known) or issubclass(known, event)):
                logger.warning(
                    "%s was added to %s before: it is called once for each time. Import its module "
                    "once, and by one name.",
                    name_of(handler),
                    event.__name__ if event is known else f"{known.__name__}, which is {event.__name__} too",
                )
                break
        self.heard.append((event, handler))

    def _hear(self, event: type[Heard], handler: Callable[[Any], Any]) -> None:
        if issubclass(event, SecurityEvent):
            self.events.listeners.append(handler)
        elif issubclass(event, Measurement):
            self.measurements.add(event, handler)
        else:
            self.hooks.add(event, handler)

    def service(self, made_by: Callable[[Auth[Any]], T]) -> T:
        """What a feature keeps for this app alone, such as a client of a service: made of the app's `Auth`
        when it is asked for first, as in `auth.service(Prices)`."""
        if made_by not in self._services:
            self._services[made_by] = made_by(self)
        found: T = self._services[made_by]
        return found

    async def with_deadline(self, work: Coroutine[Any, Any, T], limit: timedelta = timedelta.max) -> T:
        """Runs work that needs the database, within the time that a request gives it or a shorter limit, and
        never behind a pooler that mixes up prepared statements. Raises `AuthError`."""
        if not self.pooler.settled and current_context() is not None:
            work = self.pooler.before(work)
        return await with_deadline(work, min(self.settings.database_timeout, limit))

    async def ready(self) -> Readiness:
        """Whether the app can serve its users now: its database answers, takes writes and has the tables, and
        no pooler mixes up statements. Takes three seconds at most, whatever the database does; raises
        nothing for it. For a route of the app: `JSONResponse({"reason": ready.reason}, ready.status)`."""
        try:
            await self.with_deadline(self.tables_watch.look(), LIMIT)
        except AuthError as refusal:
            return Readiness.of(refusal)
        return Readiness()

    def _now(self) -> datetime:
        """The time for the services, which would else keep the clock that they were made with."""
        return self.clock()

    @property
    def uses_cookies(self) -> bool:
        """Whether browsers get their tokens in cookies."""
        return self.pages or self.settings.cookies

    @property
    def has_usernames(self) -> bool:
        """Whether users log in by a username as well."""
        return "username" in self.tables.user._meta.fields_map

    def lacks_two_factor(self, user: AbstractUser) -> bool:
        """Whether this user has to set up two-factor before anything else (ASVS 6.3.3)."""
        return not user.has_second_factor and self.requires_two_factor(user)

    def requires_two_factor(self, user: AbstractUser) -> bool:
        """Whether the app lets this user do nothing without two-factor."""
        asked = self._require_two_factor
        return self.settings.require_two_factor or (asked is not None and asked(user))

    def permissions_of(self, user: AbstractUser) -> frozenset[str]:
        """What the user may do: the own permissions, and those of the roles. A superuser may do everything
        and need not have any."""
        if not (self.roles and user.roles):
            return user.permissions
        return user.permissions.union(*(self.roles.get(role, frozenset()) for role in user.roles))

    async def provider_token(self, user: AbstractUser, provider: str) -> str:
        """An access token of the user at a provider of social login whose tokens the app keeps, renewed where
        it ends. Raises `AuthError`: PROVIDER_TOKEN_NEEDED, PROVIDER_UNAVAILABLE; `LookupError` where the app
        has no such provider, and `ValueError` where its tokens are not kept."""
        from .features.social_login.tokens import provider_token  # which only apps with social login import

        return await provider_token(self, user, provider)

    async def close(self) -> None:
        """Does what waits for an answer to go out, and ends the threads and the connections for mail,
        limits and autonomous transactions; a later use opens them again."""
        await self.afterwards.close()
        await self.autonomous.close()
        self.hasher.close()
        self.meter.close()
        await self.limiter.close()
        await self.mailer.close()


def _network() -> str:
    """Whose turn it is, of those that wait for a thread."""
    return counted_network(origin.get()().address)


def _with_those_of_every_app(settings: AuthSettings, features: Collection[Feature]) -> Features:
    """The features of an app, with those that it has without naming them, for scripts as well."""
    from .features.always import always_on  # here, as their flows call those of the kernel

    given = tuple(features)
    return Features((*(feature for feature in always_on(settings) if feature not in given), *given))


def _all(shipped: tuple[T, ...], brought: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    """Each once: a shipped feature that is on brings what every app has."""
    return tuple(dict.fromkeys(chain(shipped, *brought)))


def _checked_roles(roles: Mapping[str, str | Iterable[str]]) -> dict[str, frozenset[str]]:
    name_set(roles)
    return {role: name_set(permissions) for role, permissions in roles.items()}


def transactional(
    flow: Callable[Concatenate[A, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[A, P], Coroutine[Any, Any, T]]:
    """Runs a flow in one transaction on the database that holds the accounts; whatever it raises rolls back.
    In one that the host app has open, it stands and falls with that one: for what belongs to a change.

    Where the database ends it to break a deadlock, it runs again, a bounded number of times. Raises
    `AuthError(VALIDATION_ERROR)` for a value that does not fit its column, and `IntegrityError` for what the
    database refuses otherwise.
    """

    @wraps(flow)
    async def run(auth: A, /, *args: P.args, **kwargs: P.kwargs) -> T:
        name = auth.tables.user._meta.default_connection
        try:
            return await in_one_transaction(name, lambda: flow(auth, *args, **kwargs))
        except Exception as error:
            if failure_of(error) is Failure.UNFIT:
                log_failure(error)
                raise AuthError(ErrorCode.VALIDATION_ERROR) from error
            raise

    return run


def autonomous(
    flow: Callable[Concatenate[A, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[A, P], Coroutine[Any, Any, T]]:
    """Like `transactional`, for what must outlive a refusal: guesses that are counted, ends that a refusal
    brings, rotation, audit rows. It stays whatever becomes of a transaction that the host app has open.

    The flow may run twice and keeps the rules of `AutonomousTransactions`: a second run with the same
    arguments changes nothing, and a falsy result says that it found no row to write on.
    """

    @wraps(flow)
    async def run(auth: A, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await auth.autonomous.run(lambda: flow(auth, *args, **kwargs))

    return run
