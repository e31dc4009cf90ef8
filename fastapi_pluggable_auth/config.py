"""Every setting of the library, read from the environment or a `.env` file."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, IPvAnyNetwork, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

DEFAULT_SECRET: Final = "CHANGE_ME"  # noqa: S105
"""The placeholder that `jwt_secret` starts with; nothing is ever signed with it."""

MINIMUM_SECRET_BYTES: Final = 32
"""RFC 7518 section 3.2: an HS256 key is at least as long as its hash."""

Duration = Annotated[
    timedelta,
    BeforeValidator(lambda value: float(value) if _is_number(value) else value),
    Field(ge=timedelta(0), le=timedelta(days=36_525)),
]
"""Seconds (also as text, which is all that an environment variable can be), ISO 8601, or `HH:MM:SS`. Up to a
century: dates end with the year 9999."""

LANGUAGE: Final = r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"
"""A language tag (RFC 5646), such as `en` or `pt-BR`, roughly."""

T = TypeVar("T")
CommaSeparated = Annotated[
    list[T],
    NoDecode,
    BeforeValidator(lambda value: _parts(value) if isinstance(value, str) else value),
]
"""A list; in the environment its items are separated by commas."""

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def _domain(text: str) -> str:
    domain = text.strip().strip(".").lower()
    if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)*", domain):
        raise ValueError("not a domain")
    return domain


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _is_number(value: object) -> bool:
    return isinstance(value, str) and value.replace(".", "", 1).isdecimal()


def is_local(url: str) -> bool:
    """Whether an address is one of this machine only."""
    return urlsplit(url).hostname in LOOPBACK_HOSTS


DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def origin_of(url: str) -> str:
    """Scheme, host and port as a browser spells them in `Origin` (RFC 6454 section 6.2)."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, DEFAULT_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _origin(text: str) -> str:
    if urlsplit(text).scheme not in DEFAULT_PORTS:
        raise ValueError(f"{text}: not an origin such as https://app.example.com")
    return _any_origin(text)


def _any_origin(text: str) -> str:
    """Also of another scheme, by which an app serves pages to itself. `null` is none: any page sends that, in
    a frame that it sandboxes."""
    parts = urlsplit(text)
    if not parts.scheme or not parts.hostname or parts.username is not None or "*" in text:
        raise ValueError(f"{text}: not an origin such as https://app.example.com or capacitor://localhost")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{text}: an origin has no path")
    return origin_of(text)


RECOMMENDED_RATES: Final = {
    "signup": "20/hour",
    "login": "30/minute",
    "reauthenticate": "30/minute",
    "refresh": "120/minute",
    "verify": "60/hour",
    "resend": "20/hour",
    "forgot_password": "20/hour",
    "reset_password": "60/hour",
    "change_password": "30/minute",
    "update_account": "60/hour",
    "two_factor": "30/minute",
}
"""Per client address; generous, as many people may share one. Guessing is slowed down per account beside."""


def _text(key: str) -> str:
    """Bytes that are not UTF-8 come from the environment as what no secret can be made of."""
    if any("\ud800" <= each <= "\udfff" for each in key):
        raise ValueError("not UTF-8; make one: openssl rand -base64 48")
    return key


Secret = Annotated[str, AfterValidator(_text)]
"""Text with UTF-8 bytes, of which keys are made."""


OneLine = Annotated[
    str, BeforeValidator(lambda value: value.rstrip("\r\n") if isinstance(value, str) else value)
]
"""Text without the line break that ends the file it comes from."""


def _with_token(url: str) -> str:
    if url and "{token}" not in url:
        raise ValueError("write {token} where the page of the link takes its token")
    return url


LinkPage = Annotated[str, AfterValidator(_with_token)]
"""The address of a page for mailed links."""


def _long_enough(key: str) -> str:
    if len(key.encode()) < MINIMUM_SECRET_BYTES:
        raise ValueError(f"shorter than {MINIMUM_SECRET_BYTES} bytes; make one: openssl rand -base64 48")
    return key


def _rates(value: object) -> object:
    """`recommended`, or pairs of route and rate by commas."""
    if not isinstance(value, str):
        return value
    rates: dict[str, str] = {}
    for part in _parts(value):
        name, _, rate = part.partition("=")
        rates |= RECOMMENDED_RATES if part == "recommended" else {name.strip(): rate.strip()}
    if unknown := rates.keys() - RECOMMENDED_RATES.keys():
        raise ValueError(f"{', '.join(sorted(unknown))}: no route has such a limit")
    return rates


HIDDEN: Final = "(hidden)"
"""What errors show in the place of a secret."""


def _zone_name(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError(f"{name}: not a time zone such as Europe/Berlin") from None
    return name


ZoneName = Annotated[str, AfterValidator(_zone_name)]
"""A time zone of the IANA database."""


class AuthSettings(BaseSettings):
    """The settings. An attribute may be changed at run time; it takes effect on the next request.

    Durations are read as seconds (`900`), ISO 8601 (`PT15M`) or `HH:MM:SS`. Unknown variables are ignored.
    Raises `ValidationError`, which names what is wrong and shows no secret, and `ValueError` for a file that
    is not UTF-8.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        validate_assignment=True,
    )

    def __init__(self, *args: Any, **values: Any) -> None:
        told: ValueError
        try:
            super().__init__(*args, **values)
        except ValidationError as error:
            told = _without_secrets(type(self), error)
        except UnicodeDecodeError:  # which holds the whole file
            told = ValueError("The .env file is not UTF-8.")
        else:
            return
        # An error tracker keeps the variables of this frame; the other error goes with its handler.
        values.clear()
        raise told

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            told = _without_secrets(type(self), error)
        else:
            return
        del value
        raise told

    # Tokens and sessions
    jwt_secret: Secret = Field(
        default=DEFAULT_SECRET,
        repr=False,
        description="HMAC key that signs every token; 32 random bytes or more.",
    )
    jwt_algorithm: Literal[
        "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512"
    ] = Field(default="HS256", description="Signature algorithm.")
    jwt_private_key: str | None = Field(
        default=None,
        repr=False,
        description="For RS and ES algorithms: the private key, as PEM or the path of a PEM file.",
    )
    jwt_previous_keys: CommaSeparated[Secret] = Field(
        default=[],
        repr=False,
        description="Earlier secrets or (public) keys, by commas, whose tokens are still good.",
    )
    jwt_issuer: str | None = Field(
        default=None, description="`iss` of every token; `PUBLIC_BASE_URL` when empty."
    )
    jwt_audience: str | None = Field(default=None, description="`aud` of every token; the issuer when empty.")
    access_token_expires: Duration = Field(
        default=timedelta(minutes=15), description="Lifetime of an access token."
    )
    refresh_token_expires: Duration = Field(
        default=timedelta(days=7),
        description="Lifetime of a refresh token: how long a session may stay idle.",
    )
    session_max_age: Duration = Field(
        default=timedelta(days=30), description="Absolute lifetime of a session; a refresh never extends it."
    )
    refresh_reuse_leeway: Duration = Field(
        default=timedelta(seconds=10),
        description="How long a spent refresh token that comes back counts as a race between tabs.",
    )
    refresh_idempotent: bool = Field(
        default=False,
        description="Answer a retry with a pair instead of 401: the same one, or after the leeway another.",
    )
    max_sessions: int = Field(
        default=100,
        ge=0,
        description="Sessions that a user may have; a login beyond ends the oldest. 0: no limit.",
    )
    single_session: bool = Field(default=False, description="A refresh ends every other session of the user.")
    personal_token_expires: Duration = Field(
        default=timedelta(days=90),
        description="Lifetime of a personal access token whose owner asks for none.",
    )
    personal_token_max_age: Duration = Field(
        default=timedelta(days=365),
        description="The longest lifetime of such a token. 0: no limit, and tokens without end.",
    )
    max_personal_tokens: int = Field(
        default=50, ge=1, description="Personal access tokens that a user may have at a time."
    )
    reauth_ttl: Duration = Field(
        default=timedelta(minutes=15), description="How recent a login must be for sensitive changes."
    )

    # Browsers
    cookies: bool = Field(
        default=False, description="Give browsers their tokens in cookies instead of in the body."
    )
    trusted_origins: CommaSeparated[Annotated[str, AfterValidator(_origin)]] = Field(
        default=[],
        description="Other origins of the same site, by commas, whose pages may use the cookies.",
    )
    token_origins: CommaSeparated[Annotated[str, AfterValidator(_any_origin)]] = Field(
        default=[],
        description="Origins of apps in a web view, by commas, to which `COOKIES` still gives tokens.",
    )
    clear_site_data: bool = Field(
        default=False,
        description="Have browsers delete all that the site has stored in them when a user signs out.",
    )
    sign_in_url: str | None = Field(
        default=None,
        description="Your own sign-in page, for `current_user_or_redirect` and mails; the built-in one when"
        " empty.",
    )
    sign_up_url: str | None = Field(
        default=None, description="Your own sign-up page, for mails; the built-in one when empty."
    )
    forgot_password_url: str | None = Field(
        default=None,
        description="Your own page to ask for a new password, for mails; the built-in one when empty.",
    )
    security_url: str | None = Field(
        default=None,
        description="Your own page for password, two-factor and sessions, for mails; the built-in one when"
        " empty.",
    )

    # Accounts
    require_verified_email: bool = Field(
        default=True, description="Refuse a login until the address is verified."
    )
    prevent_enumeration: bool = Field(
        default=False,
        description="Answer a signup for a taken address like any other and mail its owner instead.",
    )
    verify_by_get: bool = Field(
        default=True,
        description="Let a program verify an address by GET; a scanner that asks like one does so, too.",
    )
    verify_token_ttl: Duration = Field(
        default=timedelta(hours=24), description="Lifetime of verification and e-mail change links."
    )
    reset_token_ttl: Duration = Field(
        default=timedelta(hours=1), description="Lifetime of password reset links."
    )
    totp_issuer: str = Field(
        default="MyApp", min_length=1, description="Name of the app in authenticators, mails and pages."
    )

    totp_encryption_key: Annotated[Secret, AfterValidator(_long_enough)] | None = Field(
        default=None,
        repr=False,
        description="Encrypts two-factor secrets in the database; 32 random bytes or more, as text.",
    )
    totp_previous_keys: CommaSeparated[Secret] = Field(
        default=[], repr=False, description="Earlier such keys, by commas, that still decrypt."
    )
    require_two_factor: bool = Field(
        default=False, description="Allow users without two-factor nothing but setting it up."
    )
    notify_new_device: bool = Field(
        default=False, description="Mail the owner when a browser signs in that the account has not seen."
    )

    # Administration
    audit_log: bool = Field(
        default=False,
        description="Keep security events in the database; users read theirs at `/account/activity`.",
    )
    audit_retention: Duration = Field(
        default=timedelta(days=90), description="How long such events are kept."
    )
    impersonation_max_age: Duration = Field(
        default=timedelta(hours=1),
        description="How long an administrator may act as a user; no refresh extends it.",
    )

    # Guessing and mail bombing
    throttle_free_attempts: int = Field(
        default=5,
        ge=1,
        description="Wrong passwords or codes for an account, from one network or known device, before each"
        " next one has to wait.",
    )
    throttle_daily_limit: int = Field(
        default=100,
        ge=1,
        description="Wrong passwords for an account in 24 hours, on devices that it does not know, before"
        " only a mailed link helps.",
    )
    throttle_first_pause: Duration = Field(
        default=timedelta(seconds=1), description="The first such pause; each one is twice as long."
    )
    throttle_longest_pause: Duration = Field(
        default=timedelta(minutes=15), description="The longest pause: nobody is locked out for good."
    )
    throttle_forget_after: Duration = Field(
        default=timedelta(hours=24), description="Quiet time after which wrong attempts are forgotten."
    )
    mail_limit: int = Field(
        default=3, ge=1, description="Mails of one kind that requests may send to an address per period."
    )
    mail_limit_period: Duration = Field(default=timedelta(hours=1), description="The period of that limit.")

    rate_limits: Annotated[dict[str, str], NoDecode, BeforeValidator(_rates)] = Field(
        default={},
        description="Requests per client: `recommended`, or such as `login=30/minute,signup=20/hour`.",
    )
    rate_limit_storage: str = Field(
        default="memory://",
        repr=False,
        description="Where these are counted: in each worker's memory, or for all in `redis://host:6379`.",
    )
    trusted_proxies: CommaSeparated[IPvAnyNetwork] = Field(
        default=[], description="Addresses and networks, by commas, whose `X-Forwarded-For` is believed."
    )

    # Passwords
    password_scheme: Literal["bcrypt", "argon2"] = Field(
        default="bcrypt", description="Hash for new passwords; argon2 needs the `argon2` extra."
    )
    bcrypt_rounds: int = Field(default=12, ge=4, le=31, description="Cost of bcrypt: 2 to this power.")
    hashing_threads: int = Field(
        default=0, ge=0, description="Threads that hash passwords; 0 is one per core."
    )
    hashing_queue_size: int = Field(
        default=64, ge=1, description="Hashes that may wait for a thread before requests get 503."
    )

    email_special_domains: CommaSeparated[Annotated[str, AfterValidator(_domain)]] = Field(
        default=[],
        description="Domains, by commas, whose addresses are taken though the internet does not know them"
        " (RFC 6761), with all below them: `test`, `local`, `internal`, `localhost`.",
    )

    password_context_words: CommaSeparated[str] = Field(
        default=[],
        description="Words, by commas, that no password may consist of, beside app name and address.",
    )
    check_breaches: bool = Field(
        default=False,
        description="Refuse passwords from known breaches; five hex digits of a hash leave the app.",
    )
    breach_url: str = Field(
        default="https://api.pwnedpasswords.com/range",
        description="The range service that is asked for breaches.",
    )

    # Database
    database_timeout: Duration = Field(
        default=timedelta(seconds=5),
        description="How long a request waits for the database before it gets 503.",
    )

    upgrade_zone: ZoneName | None = Field(
        default=None,
        description="For `tortoise migrate`: the time zone of moments that were stored without one; UTC when"
        " empty.",
    )

    # Hooks
    hook_timeout: Duration = Field(
        default=timedelta(seconds=10), description="How long a hook may take before or after its flow."
    )

    # Addresses
    public_base_url: str = Field(
        default="http://localhost:8000",
        description="Where users reach the app; every mailed link starts with it.",
    )
    allow_http: bool = Field(
        default=False,
        description="Start although `PUBLIC_BASE_URL` is public and not https. For development only.",
    )
    route_prefix: str = Field(
        default="",
        pattern=r"^(/[^/\s{}%?#\\]+)*$",  # which every path and every link has as it is
        description="Path in front of `/auth` and `/account`, such as `/api`.",
    )
    verify_url: LinkPage | None = Field(
        default=None, description="Front-end page for verification links, with `{token}` in it."
    )
    reset_url: LinkPage | None = Field(
        default=None, description="Front-end page for password reset links, with `{token}` in it."
    )
    email_change_url: LinkPage | None = Field(
        default=None, description="Front-end page for e-mail change links, with `{token}` in it."
    )

    # Mail
    email_provider: Literal["smtp", "sendgrid", "console", "file", "memory"] = Field(
        default="smtp",
        description="How mail leaves: SMTP or SendGrid's API; `console`, `file` or `memory` for development.",
    )
    email_from: str = Field(
        default="no-reply@example.com", description="Sender; `Name <address>` is allowed."
    )
    email_reply_to: str | None = Field(
        default=None, description="Where replies go; `Name <address>` is allowed. Empty: to the sender."
    )
    email_envelope_from: str | None = Field(
        default=None,
        description="Address that undeliverable mails come back to, by SMTP; the sender's when empty.",
    )
    email_file_dir: Path = Field(
        default=Path("mails"), description="Folder for the `.eml` files of `EMAIL_PROVIDER=file`."
    )
    dev_mailbox: bool = Field(
        default=False,
        description="Show the mails of `EMAIL_PROVIDER=memory` at `/dev/mailbox`. For development only.",
    )
    email_max_age: Duration = Field(
        default=timedelta(days=3),
        description="How long a mail may wait: one that could not be delivered for so long is given up.",
    )
    mail_concurrency: int = Field(
        default=4,
        ge=1,
        description="Mails that a worker sends at a time, each on an SMTP connection of its own.",
    )
    deliver_mail: bool = Field(
        default=True,
        description="Send mail from the app; off where `fastapi-pluggable-auth mail run` does.",
    )
    default_language: str = Field(
        default="en",
        pattern=LANGUAGE,
        description="Language of mails and pages for readers whose own is unknown or has no templates.",
    )
    mail_retention: Duration = Field(
        default=timedelta(days=30),
        description="How long mails that were sent or given up stay in the database.",
    )
    template_dir: Path | None = Field(
        default=None, description="Folder whose files override the mail and page templates of the same name."
    )
    smtp_host: OneLine = Field(default="localhost", description="SMTP server.")
    smtp_helo_name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._:\[\]-]+$",
        description="Name that the app greets the SMTP server with; this machine's own when empty.",
    )
    smtp_port: int = Field(
        default=587, ge=1, le=65535, description="SMTP port: 587 STARTTLS, 465 TLS, 25 plain."
    )
    smtp_user: OneLine | None = Field(default=None, description="SMTP login; empty for none.")
    smtp_password: OneLine | None = Field(default=None, repr=False, description="Password of the SMTP login.")
    smtp_security: Literal["auto", "starttls", "tls", "plain"] = Field(
        default="auto",
        description="Transport security; `auto` follows the port, STARTTLS for a login on any other.",
    )
    smtp_ca_file: Path | None = Field(
        default=None, description="Certificate authority (PEM) of the mail server; the system's when empty."
    )
    smtp_timeout: float = Field(
        default=10, gt=0, le=60, description="Seconds that one SMTP or HTTPS step may take, 60 at most."
    )
    sendgrid_api_key: OneLine | None = Field(default=None, repr=False, description="SendGrid API key.")
    sendgrid_from_email: str | None = Field(
        default=None, description="Sender for SendGrid; `EMAIL_FROM` when empty."
    )
    sendgrid_url: str = Field(
        default="https://api.sendgrid.com/v3/mail/send",
        description="SendGrid endpoint; the EU region has its own.",
    )

    @property
    def is_local(self) -> bool:
        """Whether users reach the app on this machine only, which relaxes the start-up checks."""
        return is_local(self.public_base_url)

    @property
    def is_https(self) -> bool:
        """Whether users reach the app over TLS."""
        return urlsplit(self.public_base_url).scheme == "https"

    @property
    def page_origins(self) -> frozenset[str]:
        """The origins whose pages may act for their visitors."""
        return frozenset({origin_of(self.public_base_url), *self.trusted_origins})

    def public_url(self, path: str) -> str:
        """The address of one of the app's own paths, as users see it; joined with exactly one slash."""
        return f"{self.public_base_url.rstrip('/')}{self.route_prefix}/{path.lstrip('/')}"

    @property
    def issuer(self) -> str:
        """Who signs the tokens of this deployment."""
        return self.jwt_issuer or self.public_base_url.rstrip("/")

    @property
    def audience(self) -> str:
        """For whom the tokens of this deployment are."""
        return self.jwt_audience or self.issuer

    @property
    def signs_with_secret(self) -> bool:
        """Whether only this app can check a token, as no key is public."""
        return self.jwt_algorithm.startswith("HS")

    def enumeration_problem(self) -> str | None:
        """What keeps `prevent_enumeration` from holding, in one sentence."""
        if self.prevent_enumeration and not self.require_verified_email:
            return (
                "PREVENT_ENUMERATION needs REQUIRE_VERIFIED_EMAIL: anyone who signs up with an address and "
                "can sign in at once knows that it was new."
            )
        return None

    def mailbox_problem(self) -> str | None:
        """What is wrong with the development mailbox, in one sentence."""
        if self.dev_mailbox and not self.is_local:
            return "DEV_MAILBOX shows every mail to everybody: it needs a PUBLIC_BASE_URL on this machine."
        return None

    def base_url_problem(self) -> str | None:
        """What is wrong with the public base URL, in one sentence."""
        url = urlsplit(self.public_base_url)
        # A single label and `.test` (RFC 6761) are no public names: containers and tests have them.
        public = "." in (url.hostname or "") and not str(url.hostname).endswith(".test")
        if url.scheme == "https" or (url.scheme == "http" and (self.is_local or not public)):
            return None
        return "PUBLIC_BASE_URL is not https: tokens and mailed links travel in the clear."


def _without_secrets(settings: type[AuthSettings], error: ValidationError) -> ValidationError:
    """The same error, with nothing of the fields that are kept out of the representation."""
    fields = settings.model_fields
    told: list[Any] = []
    for each in error.errors(include_url=False):
        field = fields.get(str(each["loc"][0])) if each["loc"] else None
        shown = {name: value for name, value in each.items() if name in ("loc", "type", "ctx", "input")}
        if field is None or not field.repr:
            shown["input"] = HIDDEN
        told.append(shown)
    return ValidationError.from_exception_data(error.title, told)


settings = AuthSettings()
"""The default instance, used wherever no other settings are passed."""
