"""What a feature is: one frozen value that holds everything that it brings to an app."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, StrEnum
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Literal, Protocol, Self, TypeAlias, TypeVar, get_args

from fastapi import APIRouter
from pydantic import BaseModel
from tortoise import Model

from ..config import RECOMMENDED_RATES, AuthSettings, Settings
from ..errors import ErrorCode, ErrorTable
from ..events import EventKind, EventTable, Observation, SecurityEvent
from ..hooks import Event
from ..models import AbstractMail, AbstractUser, AccessEnded, Expired
from ..models.mail import MAXIMUM_KIND_LENGTH
from ..security.plaintext import Plaintext
from ..words.texts import Folders

T = TypeVar("T")
S = TypeVar("S", bound=Settings)

Place = Literal["sign_in", "code", "confirm_password", "sign_up", "verify", "security", "navigation"]
"""A page, or what all pages of an account have in common, where features put something of theirs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Credential:
    """Tokens of a feature in the header `Authorization: Bearer` (RFC 6750). Only `require(scope=...)` takes
    them. `matches` tells one by its form; `authenticate` gives the `Authentication` of one, with scopes, for
    an `Auth`, and raises `AuthError(INVALID_TOKEN)`. `allows` says whether such a one is good at a path of
    the app; without it, all are everywhere."""

    matches: Callable[[str], bool]
    authenticate: Callable[[Any, str], Coroutine[Any, Any, Any]]
    allows: Callable[[Any, Any, str], bool] = lambda auth, authentication, path: True


Detour: TypeAlias = Callable[[Any, Any], Awaitable["str | None"]]
"""What comes first after a sign-in by the pages, of an `Auth` and the `Authentication` of the user: a notice
for the security page (a key of the words `notices`), or None."""

Export: TypeAlias = Callable[[Any, Any], "Awaitable[object] | AsyncIterator[object]"]
"""Makes a part of the data that a user exports, of an `Auth` and the `Authentication` of the user: a value or
the entries of a list that may be long. No secret is in it, and no transaction is open between two entries."""

WaysIn: TypeAlias = Callable[[Any, AbstractUser], Awaitable[int]]
"""How many ways to sign in a user has with a feature, of an `Auth` and the user."""

EXPORTED: Final = ("exported_at", "profile", "account", "sessions", "devices", "mails")
"""The parts that every app has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A template for a place in the pages. It finds `values`: a mapping or, on the pages `security` and
    `confirm_password`, what is made of an `Auth` and the `Authentication` of the user. Only where those of
    `security` have an `image`, a PNG in base64, the page shows one; where a `may_go_on` of them is True and
    none is False, it has a link to where the user was going. Where those of `confirm_password` have something
    in `confirms`, the user can confirm there without a password. But for the places `sign_in` and `sign_up`,
    `shown` says for which users of an `Auth` it is there. On the page `sign_in`, browsers may also fill in
    the name with what `autofill` says (HTML section 4.10.18.7, such as `webauthn`). Raises `ValueError` for a
    place that there is not, and for values, `shown` or `autofill` elsewhere.
    """

    place: Place
    template: str
    values: Callable[[Any, Any], Awaitable[Mapping[str, Any]]] | Mapping[str, Any] | None = None
    shown: Callable[[Any, Any], bool] | None = None
    autofill: str = ""

    def __post_init__(self) -> None:
        if self.place not in get_args(Place):
            raise ValueError(f"{self.place!r} is not a place in the pages: {', '.join(get_args(Place))}.")
        if callable(self.values) and self.place not in ("security", "confirm_password"):
            raise ValueError(f"The template {self.template} gets no user in the place {self.place!r}.")
        if self.shown is not None and self.place in ("sign_in", "sign_up"):
            raise ValueError(f"The template {self.template} is there for all in the place {self.place!r}.")
        if self.autofill and self.place != "sign_in":
            raise ValueError(f"Nothing is filled in for {self.template} in the place {self.place!r}.")

    def is_for(self, auth: Any, user: AbstractUser | None) -> bool:
        """Whether the pages of this user have it."""
        return self.shown is None or (user is not None and self.shown(auth, user))

    async def values_for(self, auth: Any, authentication: Any) -> Mapping[str, Any]:
        """What its template finds on the page of this user."""
        if callable(self.values):
            return await self.values(auth, authentication)
        return self.values or {}


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkSpec:
    """What a one-time link is.

    `path` is the address of its route, with `{token}` in it. `lifetime` says how long it works. `state` names
    what must not have changed since it was made: any use of the link has to change that. `front_end` is the
    page of a front-end that takes the place of the route, where the app has one.
    """

    path: str
    lifetime: Callable[[AuthSettings], timedelta]
    state: Callable[[AbstractUser], tuple[str, ...]]
    front_end: Callable[[AuthSettings], str | None] = lambda settings: None


class LinkTable(StrEnum):
    """A table of one-time links: each is the name of its purpose and a `LinkSpec`. The base of the kernel's
    and of those of features; no token of one purpose is good for another."""

    spec: LinkSpec

    def __new__(cls, name: str, spec: LinkSpec) -> Self:
        """Makes a member, whose value is the name."""
        link = str.__new__(cls, name)
        link._value_ = name
        link.spec = spec
        return link


class Reader(Enum):
    """Who a mail goes to."""

    OWNER = "owner"
    """The user, while the account is active."""
    ADDRESS = "address"
    """The address, whatever becomes of the account."""
    STRANGER = "stranger"
    """The address, while no account has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MailSpec:
    """What a mail is; its words are a section of its name, or templates.

    `link` is made when it is sent, and given to the templates as `url`, with its `lifetime`; and so is the
    `code` for what waits (`flows.mailed_codes`), as `code`, and a link to the `code_page`, a path with
    `{token}` in it, where there is one: both, or one of them. Beside a `link`, `code` and `code_lifetime` are
    empty unless a client asked for a code, and where it is too late for that. `page` is where the reader
    acts, `page_url` in the templates: a page below `/account`, and a section of it, as in
    `profile#change-password`. `still_applies` tells whether the account is still in the state that the mail
    speaks of: else it is not sent. `sample` is what the flow adds to the mail, for previews.
    """

    reader: Reader = Reader.OWNER
    link: LinkTable | None = None
    code: bool = False
    code_page: str = ""
    page: str = ""
    still_applies: Callable[[AbstractMail, AbstractUser], bool] = lambda mail, user: True
    sample: Mapping[str, Any] = field(default_factory=dict)


class MailTable(StrEnum):
    """A table of mails: each is a name and a `MailSpec`. The base of the kernel's and of those of features.
    Raises `ValueError` for a name of more than 32 characters."""

    spec: MailSpec

    def __new__(cls, name: str, spec: MailSpec) -> Self:
        """Makes a member, whose value is the name."""
        if len(name) > MAXIMUM_KIND_LENGTH:  # of its column in the outbox
            raise ValueError(f"{name!r} has more than {MAXIMUM_KIND_LENGTH} characters.")
        mail = str.__new__(cls, name)
        mail._value_ = name
        mail.spec = spec
        return mail


class CountsCodes(Protocol):
    """A try at a second factor, which is counted before the answer is looked at."""

    async def count_code(self, *, unguessable: bool = False) -> None:
        """Counts an answer after the right first factor. One that is `unguessable`, and has a form that no
        other has, is looked at also where too many others were wrong. Raises `AuthError`: THROTTLED,
        CODES_LOCKED."""


class FirstWayIn(Protocol):
    """What an account is signed up with in place of a password. It was found good; nothing is written yet."""

    @property
    def columns(self) -> Mapping[str, Any]:
        """Columns of the new account, such as its id."""

    async def store(self, auth: Any, user: AbstractUser) -> None:
        """Writes it, inside the transaction that has stored the account. Raises `AuthError`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SignUp:
    """Another way to sign up: a `field` of the body of a signup that takes the place of the password, with
    the type of what it holds. `factor` names it in sessions and tokens, and in the `second_factors` of the
    account. `check` gives what an account is made with, of an `Auth`, the address, the
    value of the field and that of the browser's cookie, and raises `AuthError`."""

    field: str
    type: Any
    factor: str
    check: Callable[[Any, str, Any, str | None], Awaitable[FirstWayIn]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What answers for a second factor in place of a code: the `type` of what its field holds, which the
    factor gets as JSON. `options` is what a client needs to make one, of an `Auth` and a user who has shown
    the first factor: for JSON, None where that user has nothing to answer with."""

    type: Any
    options: Callable[[Any, AbstractUser], Awaitable[Mapping[str, Any] | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What a way of signing in has written once a sign-in is complete, be it by a second factor in another
    request. `write` does it inside the transaction that stores the session, after the account is locked, of
    an `Auth`, the user and what the proof carries (JSON); False where that is not good any more. `report` is
    called after the commit."""

    write: Callable[[Any, AbstractUser, Mapping[str, Any]], Awaitable[bool]]
    report: Callable[[Any, AbstractUser, Mapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What somebody wants who may be anybody: the `action`, the `answer` that came with the request, None
    where there was none, and the `address` of the client."""

    action: str
    answer: Plaintext | None
    address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Guard:
    """What is asked first of those who may be anybody: at a `signup`, at a `login`, for a mail
    (`forgot_password`, `resend`), and where a feature asks it for an action of its own.

    `field` is what the bodies have for the answer, with the `type` of what it holds; `form_field` what the
    forms have. `check` looks at what is `Asked`, of an `Auth`, before anything is hashed, stored or mailed,
    and raises `AuthError` with one of the `errors`. A login is asked after as many wrong guesses at the
    account as `login_after` says. The forms have the `template`, which finds `values`, made of an `Auth` and
    the action; `sources` is what their pages may load from elsewhere, by directives of a content security
    policy.
    """

    field: str
    type: Any
    form_field: str
    check: Callable[[Any, Asked], Awaitable[None]]
    errors: tuple[ErrorTable, ...]
    login_after: int
    template: str
    values: Callable[[Any, str], Mapping[str, Any]]
    sources: Mapping[str, Iterable[str]]


class RightAnswer(Protocol):
    """An answer for a second factor that was right. Nothing is written yet."""

    @property
    def factor(self) -> str:
        """Its name in events and in `amr` (RFC 8176, or one of our own)."""

    @property
    def unchanged(self) -> Mapping[str, object]:
        """Columns of the account that must still have these values when it is stored, so that no answer is
        good twice."""

    @property
    def changes(self) -> Mapping[str, Any]:
        """Columns of the account that it writes."""

    async def spend(self, auth: Any, user: AbstractUser) -> bool:
        """Writes the rest, inside the transaction that has written the columns; False where another request
        was faster."""

    async def report(self, auth: Any, observation: Observation) -> None:
        """Emits the events of what was written, after the commit."""


class SecondFactor(Protocol):
    """Something that a user may have to show beside the first factor."""

    async def enrolled(self, auth: Any, user: AbstractUser) -> bool:
        """Whether the user has to show it. Asked at every login: the account had better say so by itself."""

    def state(self, user: AbstractUser) -> Mapping[str, object]:
        """The columns of the account that say so, and that must not change until the session is stored."""

    async def check(
        self, auth: Any, user: AbstractUser, answer: Plaintext, guess: CountsCodes
    ) -> RightAnswer | None:
        """What follows from a right answer, None for a wrong one. Counts it first, takes it, and raises
        `AuthError` where none can be looked at."""

    @property
    def removed(self) -> Mapping[str, object]:
        """The columns of an account that has none of it, and has not begun to set it up: written where the
        owner of a mailbox takes over an account, while its rows die by `access_ended`."""

    async def report_removal(self, auth: Any, user: AbstractUser) -> None:
        """Reports that this user had it, and that it was taken away so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """What an app can have beside accounts. The kernel asks these fields; a feature changes nothing else, and
    importing its module does nothing.

    `name` is in snake_case. `requires` names other features that it needs. `settings` is a class of its own,
    which is read when the app is built, or an instance of it that the app gives;
    `auth.features.settings_of(NoteSettings)` is the app's. `errors` are the codes that its
    flows and routes refuse with, `events` the kinds of security events that it tells. `hooks` are its own
    handlers: each is called with the `Auth` and an event of its class, or with each `SecurityEvent`, before
    those of the app. Classes of hooks need no entry: a feature fires its own, and `auth.on` takes them.

    `mails` and `links` are those that its flows send and read.

    `tables` are concrete models, each after those that it refers to; `auth.tables.of(Note)` is the app's.
    Those of a host are under its own label, with its own migrations.
    `expired` says which rows the purge deletes, `access_ended` which die when access ends, `export` what of
    them users get with their data (`GET /account/export`), by the names of its parts.

    `rates` are names for `rate_limited(...)`, with what is recommended. `credentials` are its own tokens,
    and `scopes` what these may be made for, each with a sentence for users. `factors` are what a login may
    ask for beside the password; `answers` are fields of its body that answer for one in place of a code, and
    `answering` are bodies of its own routes that take a second factor. `completion` is what is written with a
    session that its way of signing in has led to. `phishing_resistant` names those that
    a look-alike site cannot pass on. `sign_up` is another way to sign up, and `ways_in` counts the ways in
    that a user has here, of which the last one stays. `guard` is what is asked first of those who may be
    anybody, and `guarded` are bodies of its own routes in which that is asked. `options` are what the app has
    chosen, for its own routes: `auth.features.options_of(name)`.
    `challenge` is what a program that is refused learns from `WWW-Authenticate` (RFC 6750 section 3): its
    parameters, of an `Auth`, a path of the app and the scopes that the route asks for.
    `routers` makes the routes for an `Auth`, `slots` are its parts of other pages, and `detour` leads to the
    security page after a sign-in. `templates` is the folder of its templates; `scripts` are files there that
    the script of the pages has as well, together in a scope of their own. `words` is the folder of its words:
    `<language>.toml`, with those of its mails (`mails.<name>.subject`, `.text` ...) and the sentences of its
    errors. A mail may be templates instead, in folders by language (`<language>/<name>.txt`).
    """

    name: str
    requires: tuple[str, ...] = ()
    settings: type[Settings] | Settings | None = None
    errors: type[ErrorTable] | None = None
    events: type[EventTable] | None = None
    hooks: tuple[tuple[type[Event | SecurityEvent], Callable[[Any, Any], object]], ...] = ()
    mails: type[MailTable] | None = None
    links: type[LinkTable] | None = None
    tables: tuple[type[Model], ...] = ()
    expired: tuple[Expired, ...] = ()
    access_ended: tuple[AccessEnded, ...] = ()
    export: Mapping[str, Export] = field(default_factory=dict)
    rates: Mapping[str, str] = field(default_factory=dict)
    credentials: tuple[Credential, ...] = ()
    challenge: Callable[[Any, str, frozenset[str]], Mapping[str, str]] | None = None
    scopes: Mapping[str, str] = field(default_factory=dict)
    factors: tuple[SecondFactor, ...] = ()
    answers: Mapping[str, Answer] = field(default_factory=dict)
    answering: tuple[type[BaseModel], ...] = ()
    completion: Completion | None = None
    phishing_resistant: frozenset[str] = frozenset()
    sign_up: SignUp | None = None
    ways_in: WaysIn | None = None
    guard: Guard | None = None
    guarded: tuple[type[BaseModel], ...] = ()
    options: object = None
    routers: Callable[[Any], Iterable[APIRouter]] | None = None
    slots: tuple[Slot, ...] = ()
    templates: Path | None = None
    words: Path | None = None
    scripts: tuple[str, ...] = ()
    detour: Detour | None = None


class Features:
    """The features of one app.

    Raises `ValueError` where two have one name, or bring something of one name, where one requires another
    that the app does not have, and where one lacks the template of its slot.
    """

    def __init__(self, features: Iterable[Feature] = ()) -> None:
        self._all = tuple(features)
        names = self.merged("name", lambda feature: [feature.name])
        for feature in self._all:
            for name in feature.requires:
                if name not in names:
                    raise ValueError(f"The feature {feature.name} requires {name}: add that one as well.")
        self.settings = tuple(_read(feature.settings) for feature in self._all if feature.settings)
        """Those that features have of their own."""
        self.merged("setting", _names_of_settings, kernel=(*AuthSettings.model_fields, *AuthSettings.OLDER))
        self.errors: Mapping[str, ErrorTable] = self.merged(
            "error code", lambda feature: feature.errors or (), kernel=ErrorCode, key=lambda code: code.code
        )
        """Every code of the app, by its name on the wire."""
        self.events: Mapping[str, EventTable] = self.merged(
            "security event", lambda feature: feature.events or (), kernel=EventKind
        )
        """Every kind of security event of the app, by its name on the wire."""
        rates = self.merged(
            "rate limit",
            lambda feature: feature.rates.items(),
            kernel=RECOMMENDED_RATES.items(),
            key=itemgetter(0),
        )
        self.rates: Mapping[str, str] = dict(rates.values())
        """What is recommended for each name."""
        self.merged("part of the export", lambda feature: feature.export, kernel=EXPORTED)
        self.exports = {name: part for feature in self._all for name, part in feature.export.items()}
        """What users get with their data, by the names of its parts."""
        self.scopes = frozenset(scope for feature in self._all for scope in feature.scopes)
        """Every scope of the app; tokens of several features may have one of a name."""
        self.factors = tuple(factor for feature in self._all for factor in feature.factors)
        """What a login may ask for beside the first factor; one right answer is enough."""
        answers = self.merged("answer", lambda feature: feature.answers.items(), key=itemgetter(0))
        self.answers: Mapping[str, Answer] = dict(answers.values())
        """What answers for a second factor in place of a code, by the name of its field."""
        self.answering = tuple(body for feature in self._all for body in feature.answering)
        """The bodies of features that take a second factor."""
        self.completions = {each.name: each.completion for each in self._all if each.completion is not None}
        """What is written with a session, by the name of the feature."""
        self.phishing_resistant = frozenset(
            name for feature in self._all for name in feature.phishing_resistant
        )
        """The factors that a look-alike site cannot pass on."""
        self.sign_ups = self.merged(
            "field of a signup",
            lambda feature: (feature.sign_up,) if feature.sign_up else (),
            key=lambda way: way.field,
        )
        """The ways to sign up beside a password, by the field of the body."""
        self.guards = tuple(feature.guard for feature in self._all if feature.guard)
        """What is asked first of those who may be anybody."""
        self.guarded = tuple(body for feature in self._all for body in feature.guarded)
        """The bodies of features in which that is asked."""
        self.merged(
            "field of a guard", lambda feature: (feature.guard.field,) if feature.guard is not None else ()
        )
        self.ways_in = tuple(feature.ways_in for feature in self._all if feature.ways_in)
        """Each counts the ways in of a user."""
        self.folders = Folders(
            templates=tuple(feature.templates for feature in self._all if feature.templates),
            words=tuple(feature.words for feature in self._all if feature.words),
        )
        self.scripts = tuple(feature.scripts for feature in self._all if feature.scripts)
        """The files that each adds to the script of the pages."""
        self.detours = tuple(feature.detour for feature in self._all if feature.detour)
        """Each may lead elsewhere after a sign-in."""
        self.merged("template", _pages_of)  # of two, a slot would show that of the other feature
        for feature in self._all:
            for slot in feature.slots:
                if slot.template not in _pages_of(feature):
                    raise ValueError(f"The feature {feature.name} has no template {slot.template}.")
            if feature.guard is not None and feature.guard.template not in _pages_of(feature):
                raise ValueError(f"The feature {feature.name} has no template {feature.guard.template}.")
            for script in feature.scripts:
                if feature.templates is None or not (feature.templates / script).is_file():
                    raise ValueError(f"The feature {feature.name} has no script {script}.")

    def __iter__(self) -> Iterator[Feature]:
        return iter(self._all)

    def __contains__(self, name: object) -> bool:
        """Whether the app has a feature of this name."""
        return any(feature.name == name for feature in self._all)

    def settings_of(self, kind: type[S]) -> S:
        """The settings of this class that a feature of the app has. Raises `LookupError` where none has."""
        found = next((each for each in self.settings if isinstance(each, kind)), None)
        if found is None:
            raise LookupError(f"No feature of this app has the settings {kind.__name__}.")
        return found

    def options_of(self, name: str) -> Any:
        """What the app has chosen for the feature of this name. Raises `LookupError` where it has none."""
        for feature in self._all:
            if feature.name == name:
                return feature.options
        raise LookupError(f"The app does not have the feature {name}.")

    def scopes_of(self, name: str) -> Mapping[str, str]:
        """Those of the feature of this name: none where the app does not have it."""
        return next((feature.scopes for feature in self._all if feature.name == name), {})

    def credential_of(self, token: str) -> Credential | None:
        """What takes a token of this form, None where that is the kernel's business."""
        found = (each for feature in self._all for each in feature.credentials if each.matches(token))
        return next(found, None)

    def challenge(self, auth: Any, path: str, scopes: frozenset[str]) -> dict[str, str]:
        """What a program learns that is refused at a path of the app, whose route asks for these scopes."""
        said = (each.challenge(auth, path, scopes) for each in self._all if each.challenge is not None)
        return {name: value for parameters in said for name, value in parameters.items()}

    def slots_in(self, place: str) -> tuple[Slot, ...]:
        """What the features put into a place of the pages."""
        return tuple(slot for feature in self._all for slot in feature.slots if slot.place == place)

    def merged(
        self,
        what: str,
        brought: Callable[[Feature], Iterable[T]],
        *,
        kernel: Iterable[T] = (),
        key: Callable[[T], str] = str,
    ) -> dict[str, T]:
        """What the kernel has and the features bring, by key. `what` is the word for one of these in the
        error: raises `ValueError` where two have the same key."""
        found: dict[str, T] = {}
        owners: dict[str, str] = {}
        for owner, values in [
            ("the library", kernel),
            *((f"the feature {feature.name}", brought(feature)) for feature in self._all),
        ]:
            for value in values:
                name = key(value)
                if name in found:
                    raise ValueError(f"The {what} {name!r} is that of {owners[name]} and of {owner}.")
                found[name], owners[name] = value, owner
        return found


def _read(settings: type[Settings] | Settings) -> Settings:
    return settings() if isinstance(settings, type) else settings


def _names_of_settings(feature: Feature) -> Iterable[str]:
    kind = feature.settings if isinstance(feature.settings, type) else type(feature.settings)
    return (*kind.model_fields, *kind.OLDER) if issubclass(kind, Settings) else ()


def _pages_of(feature: Feature) -> list[str]:
    """The names of its templates for pages."""
    folder = feature.templates
    if folder is None:
        return []
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.html"))
