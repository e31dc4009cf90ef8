"""Signing in at others, and the identities of users."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode, urlsplit
from uuid import UUID, uuid4

from tortoise.exceptions import IntegrityError

from ...auth import Auth, transactional
from ...errors import AuthError, ErrorCode
from ...events import EventKind, Observation, Outcome
from ...flows.authentication import Authentication, authenticate_session, observed, require_recent_login
from ...flows.devices import Device
from ...flows.gate import FactorNeeded, Proof, SignedIn, admit, entering, factor_required, renew
from ...flows.guesses import counted_guess
from ...flows.locking import locked_account
from ...flows.login import Challenge, begin_challenge
from ...flows.mailbox import claim_mailbox, is_claimable, verified
from ...flows.notices import notify
from ...flows.pending import Unstored, begin, find, take
from ...flows.session_tokens import TokenSet
from ...flows.signup import signup
from ...hooks import EmailVerified, MailboxClaimed
from ...models import AbstractUser, exact
from ...security.addresses import normalise_email
from ...security.jwt import Transport
from ...security.plaintext import Plaintext
from ...security.text import is_single_line, is_unicode, without_blanks_around
from .app_providers import credentials_of
from .id_tokens import TokenError, check_claims, claims_in, key_id_of
from .models import Identity, digest_of
from .names import (
    FEATURE,
    BeforeSocialSignup,
    IdentityLinked,
    SocialError,
    SocialEventKind,
    SocialMail,
)
from .profile import Profile
from .providers import Provider
from .remote import Granted, Remote
from .states import State, open_nonce, s256
from .tokens import sealed

logger = logging.getLogger(__name__)

CODE: Final = "social_code"
CODE_LIFETIME: Final = timedelta(seconds=60)
REAUTHENTICATED_WITHIN: Final = 60
"""Seconds since the user has signed in at the provider."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Somebody whom a provider has named. `strong` is whether it says that a second factor was shown, and is
    trusted for that."""

    provider: Provider
    profile: Profile
    issuer: str
    strong: bool = False
    granted: Granted | None = None
    """What the app may keep."""

    @property
    def digest(self) -> str:
        """What finds the identity."""
        return digest_of(self.issuer, self.profile.subject)


async def authorization_url(auth: Auth, provider: Provider, state: State, redirect_uri: str) -> str:
    """Where the browser signs in (RFC 6749 section 4.1.1, with PKCE). Raises `AuthError`:
    PROVIDER_UNAVAILABLE, SOCIAL_REFUSED."""
    document = await auth.service(Remote).document(provider)
    endpoint = auth.service(Remote).address(provider, document, "authorization_endpoint")
    fields = {
        **provider.parameters,
        "response_type": "code",
        "client_id": _client_id(auth, provider),
        "redirect_uri": redirect_uri,
        "scope": " ".join(provider.scopes),
        "state": state.value,
        "code_challenge": s256(state.verifier),
        "code_challenge_method": "S256",
    }
    if provider.issuer is not None:
        fields["nonce"] = state.nonce
    if state.purpose == "reauthenticate":
        fields |= {"prompt": "login", "max_age": "0"}
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(fields)}"


async def arrive(
    auth: Auth,
    provider: Provider,
    state: State,
    redirect_uri: str,
    code: Plaintext,
    issuer: str | None,
    name: str | None = None,
) -> Arrived:
    """Who has come back with this code. `name` is what came with it, which the browser may say: it counts
    where the provider itself names nobody. Raises `AuthError`: SOCIAL_REFUSED, PROVIDER_UNAVAILABLE."""
    remote = auth.service(Remote)
    document = await remote.document(provider)
    announced = document.get("authorization_response_iss_parameter_supported") is True
    if announced and issuer is None:
        raise refused(provider, "the issuer is missing")  # RFC 9207
    if issuer is not None and not _may_be_from(provider, issuer):
        raise refused(provider, "another issuer has answered")
    granted = await remote.grant(provider, code, Plaintext(state.verifier), redirect_uri)
    again = REAUTHENTICATED_WITHIN if state.purpose == "reauthenticate" else None
    claims = await _claims(auth, provider, granted, state.nonce, again)
    if issuer is not None and provider.issuer_of is not None and issuer != claims["iss"]:
        raise refused(provider, "another issuer has answered")
    arrived = _arrived(provider, claims)
    named = replace(arrived.profile, name=arrived.profile.name or name)
    return replace(arrived, profile=named, granted=granted if provider.store_tokens else None)


def _may_be_from(provider: Provider, issuer: str) -> bool:
    """A provider that publishes no issuer may still name itself by its host."""
    if provider.issuer is None:
        try:
            return urlsplit(issuer).hostname == urlsplit(provider.identifies).hostname
        except ValueError:
            return False
    return provider.issuer_of is not None or issuer == provider.issuer


async def arrive_by_token(auth: Auth, provider: Provider, id_token: Plaintext, nonce: str) -> Arrived:
    """Who a token is of that a native app has got, for a nonce of ours, as it is or as its SHA-256 in hex.
    Raises `AuthError`: PROVIDER_UNKNOWN, SOCIAL_REFUSED, SOCIAL_EXPIRED, PROVIDER_UNAVAILABLE."""
    if provider.issuer is None:
        raise AuthError(SocialError.PROVIDER_UNKNOWN)
    open_nonce(auth, provider.name, nonce)
    granted = Granted(Plaintext(""), id_token)
    return _arrived(provider, await _claims(auth, provider, granted, nonce, None, native=True))


async def _claims(
    auth: Auth, provider: Provider, granted: Granted, nonce: str, max_age: int | None, *, native: bool = False
) -> Mapping[str, Any]:
    """What the provider says of the user, by a token that it has signed, or by what it has at its
    addresses."""
    remote = auth.service(Remote)

    async def fetch(url: str) -> Any:
        return await remote.fetch(provider, url, granted.access_token.copy())

    if provider.issuer is None:
        assert provider.claims is not None  # noqa: S101 - as `Provider` has checked
        return await _read(provider, provider.claims(fetch))
    if granted.id_token is None:
        raise refused(provider, "no id_token")
    try:
        keys = await remote.keys(provider, key_id_of(granted.id_token.look()))
        claims = claims_in(granted.id_token.take(), keys, provider.algorithms)
        if claims.get("iss") in provider.issuer_in_tokens:
            claims["iss"] = provider.issuer
        check_claims(
            claims,
            issuer=provider.issuer_of(claims) if provider.issuer_of else provider.issuer,
            client_ids={_client_id(auth, provider), *(provider.native_client_ids if native else ())},
            nonces=(nonce, hashlib.sha256(nonce.encode()).hexdigest()) if native else (nonce,),
            now=auth.clock().timestamp(),
            access_token=granted.access_token.look() or None,
            max_age=max_age,
        )
    except (TokenError, ValueError) as error:
        raise refused(provider, f"id_token: {error}") from error
    endpoint = (await remote.document(provider)).get("userinfo_endpoint")
    if "email" in claims or not granted.access_token.look() or not isinstance(endpoint, str):
        return claims
    more = await fetch(endpoint)
    if not isinstance(more, dict) or more.get("sub") != claims["sub"]:  # Core section 5.3.2
        raise refused(provider, "userinfo of somebody else")
    return {**more, **claims}


async def _read(provider: Provider, work: Any) -> Mapping[str, Any]:
    """What a provider's own function makes of answers that are not as they should be is a refusal."""
    try:
        claims = await work
    except AuthError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise refused(provider, f"claims: {type(error).__name__}") from error
    if not isinstance(claims, Mapping):
        raise refused(provider, "claims")
    return claims


def _arrived(provider: Provider, claims: Mapping[str, Any]) -> Arrived:
    try:
        profile = provider.profile(claims)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise refused(provider, f"profile: {error}") from error
    if not 0 < len(profile.subject) <= 255 or not is_unicode(profile.subject):
        raise refused(provider, "no subject")
    methods = claims.get("amr")
    strong = provider.trusted_for_two_factor and isinstance(methods, list) and "mfa" in methods
    issuer = claims.get("iss") if provider.issuer is not None else None
    return Arrived(provider, _clean(profile), issuer or provider.identifies, strong)


# Signing in


async def sign_in(
    auth: Auth,
    arrived: Arrived,
    spends: Any,
    device: Device | None = None,
    *,
    transport: Transport,
    accept_language: str = "",
) -> TokenSet | Challenge:
    """Starts a session of the user whom the provider has named, who may be new, or gives a challenge where a
    second factor is to be shown. `spends` is what it was begun with, which is good once.

    Raises `AuthError`: SOCIAL_EXPIRED, EMAIL_UNVOUCHED, SIGN_IN_TO_LINK, NO_ACCOUNT, IDENTITY_HELD,
    SIGNUP_CLOSED, what a hook refuses, and as the gate does; for a disabled account, NO_ACCOUNT too.
    """
    owner = await account_of(auth, arrived, accept_language)
    try:
        async with entering(auth, transport=transport, device=device) as entry:
            entry.observation.user_id = owner.user.id
            if not owner.user.is_active:
                raise AuthError(SocialError.NO_ACCOUNT)
            answer = await admit(auth, proof_of(arrived, owner, spends), entry)
        if isinstance(answer, FactorNeeded):
            return await begin_challenge(auth, answer.proof)
        return answer.tokens
    except AuthError as error:
        if error.code is ErrorCode.INVALID_CREDENTIALS:  # nobody has typed anything that could be wrong
            raise AuthError(SocialError.SOCIAL_EXPIRED) from error
        raise


async def sign_in_by_token(
    auth: Auth,
    arrived: Arrived,
    nonce: Unstored,
    answer: Plaintext | None = None,
    device: Device | None = None,
    *,
    transport: Transport,
    accept_language: str = "",
) -> TokenSet:
    """Starts a session of the user whom a token of a native app has named. `answer` answers for a second
    factor. Raises `AuthError`: TWO_FACTOR_REQUIRED, which spends nothing, and as `sign_in` and a login do."""
    owner = await account_of(auth, arrived, accept_language)
    return await _enter(auth, proof_of(arrived, owner, nonce), answer, device, transport)


async def _enter(
    auth: Auth, proof: Proof, answer: Plaintext | None, device: Device | None, transport: Transport
) -> TokenSet:
    async with entering(auth, transport=transport, device=device, code=answer) as entry:
        entry.observation.user_id = proof.user.id
        if answer is None:
            admitted = await admit(auth, proof, entry)
        else:
            async with counted_guess(auth, proof.user, device=device) as entry.guess:
                admitted = await admit(auth, proof, entry)
    if isinstance(admitted, SignedIn):
        return admitted.tokens
    raise await factor_required(auth, admitted)


def proof_of(arrived: Arrived, owner: Owner, spends: Any, *more: str) -> Proof:
    """What the provider has shown of the owner, with `more` factors; it spends what it was begun with."""
    factors = (arrived.provider.name, *more)
    return _proof(owner, factors, strong=arrived.strong, digest=arrived.digest, pending=spends)


def _proof(
    owner: Owner, factors: tuple[str, ...], *, strong: bool, digest: str, pending: Any, **unchanged: object
) -> Proof:
    user, new = owner.user, owner.new
    return Proof(
        user=user,
        factors=factors,
        # Whose second factor an identity has shown is known once it is connected: any mailbox gets one.
        strong=strong and new is None,
        unchanged=unchanged,
        spends=partial(take, pending=pending)
        if new is not None
        else partial(_spend_for, digest=digest, user_id=user.id, pending=pending),
        carries=None if new is None else (FEATURE, new),
    )


async def _spend_for(auth: Auth, digest: str, user_id: UUID, pending: Any) -> bool:
    """Spends what a sign-in was begun with, unless the identity was removed or held meanwhile."""
    identity = auth.tables.of(Identity).filter(user_id=user_id, held_since=None)
    return await exact(identity, digest=digest) is not None and await take(auth, pending)


async def code_for(auth: Auth, arrived: Arrived, state: State, accept_language: str) -> str:
    """A code for a client that gets its tokens by `exchange`: good once, for 60 s, with the verifier of its
    challenge. Raises `AuthError`: SOCIAL_EXPIRED, and as `sign_in` does."""
    owner = await account_of(auth, arrived, accept_language)
    if not await _spent(auth, state):
        raise AuthError(SocialError.SOCIAL_EXPIRED)
    data = {
        "challenge": state.challenge,
        "provider": arrived.provider.name,
        "identity": arrived.digest,
        "strong": arrived.strong,
        "epoch": owner.user.access_epoch,
        "new": owner.new,
    }
    return await begin(auth, CODE, data, user_id=owner.user.id, lifetime=CODE_LIFETIME)


@transactional
async def _spent(auth: Auth, state: State) -> bool:
    return await take(auth, state.spent)


async def exchange(
    auth: Auth,
    code: Plaintext,
    verifier: Plaintext,
    answer: Plaintext | None = None,
    device: Device | None = None,
    *,
    transport: Transport,
) -> TokenSet:
    """Spends a code for a session. Raises `AuthError`: SOCIAL_EXPIRED, TWO_FACTOR_REQUIRED, which spends
    nothing, and as a login does."""
    found = await find(auth, CODE, code)
    if found is None:
        raise AuthError(SocialError.SOCIAL_EXPIRED)
    pending, said = found
    if not hmac.compare_digest(s256(verifier.take()), str(said["challenge"])):
        raise AuthError(SocialError.SOCIAL_EXPIRED)
    user = await exact(auth.tables.user.all(), id=pending.user_id, access_epoch=said["epoch"])
    if user is None:
        raise AuthError(SocialError.SOCIAL_EXPIRED)
    proof = _proof(
        Owner(user, said["new"]),
        (said["provider"],),
        strong=said["strong"],
        digest=said["identity"],
        pending=pending,
        access_epoch=user.access_epoch,
    )
    return await _enter(auth, proof, answer, device, transport)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose an identity is. One that the account does not have yet is `new`: columns for JSON, which are
    stored once the sign-in is complete."""

    user: AbstractUser
    new: Mapping[str, Any] | None = None


async def account_of(auth: Auth, arrived: Arrived, accept_language: str = "") -> Owner:
    """The account of an identity. One that is new here is that of the account with its address, where the
    provider vouches for that, or gets one. Raises `AuthError`: NO_ACCOUNT, and as `sign_in` does."""
    for _ in range(3):
        try:
            if (known := await _known(auth, arrived)) is not None:
                return known
            return await _first_time(auth, arrived, accept_language)
        except (IntegrityError, _RacedError):  # another request was faster
            continue
    raise AuthError(SocialError.NO_ACCOUNT)  # the address is that of an account which the app does not show


class _RacedError(Exception):
    """Something has changed since it was looked at."""


async def _known(auth: Auth, arrived: Arrived) -> Owner | None:
    identity = await _identity(auth, arrived)
    if identity is None:
        return None
    if identity.held_since is not None:
        raise AuthError(SocialError.IDENTITY_HELD)
    user = await exact(auth.tables.user.all(), id=identity.user_id)
    if user is None:
        return None
    await _note_use(auth, identity, arrived)
    # An account that was imported, which would else wait for a mail.
    waits = auth.settings.require_verified_email and not user.is_verified and user.is_active
    if waits and arrived.profile.vouched and arrived.profile.email == user.email:
        now = await _vouched_for(auth, user)
        kept = await _identity(auth, arrived)  # which is gone where somebody has taken the account over
        return Owner(now, _columns(auth, arrived) if kept is None else None)
    return Owner(user)


async def _note_use(auth: Auth, identity: Identity, arrived: Arrived) -> None:
    """Keeps what the provider has said and given now."""
    said: dict[str, Any] = {"email": arrived.profile.email, "vouched": arrived.profile.vouched}
    if arrived.granted is not None:
        said["tokens"] = sealed(auth, identity.id, arrived.granted, identity.tokens)
    elif not arrived.provider.store_tokens:
        said["tokens"] = None
    own = auth.tables.of(Identity).filter(id=identity.id, user_id=identity.user_id)
    await own.update(last_used_at=auth.clock(), **said)


async def _identity(auth: Auth, arrived: Arrived) -> Identity | None:
    digest = arrived.digest
    found = await exact(auth.tables.of(Identity).all(), digest=digest)
    same = found is not None and found.subject == arrived.profile.subject
    return found if same else None


async def _first_time(auth: Auth, arrived: Arrived, accept_language: str) -> Owner:
    profile = arrived.profile
    email = profile.email
    if email is None or not profile.vouched:
        taken = email is not None and await auth.tables.user.filter(email=email).exists()
        silent = auth.settings.prevent_enumeration
        raise AuthError(SocialError.SIGN_IN_TO_LINK if taken and not silent else SocialError.EMAIL_UNVOUCHED)
    user = await exact(auth.tables.user.all(), email=email)
    if user is None:
        return Owner(await _sign_up(auth, arrived, email, accept_language))
    if user.is_active:  # else the gate refuses
        user = await _vouched_for(auth, user)
    return Owner(user, _columns(auth, arrived))


async def _vouched_for(auth: Auth, user: AbstractUser) -> AbstractUser:
    """Takes the provider's word for the address of the account, which is then verified."""
    if user.is_verified:
        return user
    claims = is_claimable(auth, user)
    if not await _take_over(auth, user, claims=claims):
        raise _RacedError
    if claims:
        seen = Observation(user.id)
        await auth.events.emit(EventKind.MAILBOX_CLAIMED, Outcome.SUCCESS, seen)
    await auth.hooks.fire(EmailVerified, user)
    if claims:
        await auth.hooks.fire(MailboxClaimed, user)
    now = await exact(auth.tables.user.all(), id=user.id)
    if now is None:
        raise _RacedError
    return now


@transactional
async def _take_over(auth: Auth, user: AbstractUser, *, claims: bool) -> bool:
    """What a stranger may have put on an account that never was verified is dropped, with all identities."""
    if claims:
        return await claim_mailbox(auth, user) is not None
    same = {"id": user.id, "email": user.email, "hashed_password": user.hashed_password}
    waits = auth.tables.user.filter(**same, is_active=True, is_verified=False)
    return bool(await waits.update(**verified(auth)))


def _columns(auth: Auth, arrived: Arrived) -> dict[str, Any]:
    """Those of a new identity."""
    identity_id, profile, granted = uuid4(), arrived.profile, arrived.granted
    return {
        "id": str(identity_id),
        "provider": arrived.provider.name,
        "issuer": arrived.issuer,
        "subject": profile.subject,
        "digest": arrived.digest,
        "email": profile.email,
        "vouched": profile.vouched,
        "tokens": None if granted is None else sealed(auth, identity_id, granted),
    }


async def _store(auth: Auth, user: AbstractUser, arrived: Arrived) -> Identity:
    now, columns = auth.clock(), _columns(auth, arrived)
    return await auth.tables.of(Identity).create(**columns, user_id=user.id, last_used_at=now, created_at=now)


@dataclass(frozen=True, slots=True)
class FirstIdentity:
    """The identity that an account is made with, whose address the provider vouches for."""

    arrived: Arrived
    columns: Mapping[str, Any] = field(default_factory=dict)

    async def store(self, auth: Auth, user: AbstractUser) -> None:
        """Raises `IntegrityError` where another request was faster."""
        await _store(auth, user, self.arrived)


async def _sign_up(auth: Auth, arrived: Arrived, email: str, accept_language: str) -> AbstractUser:
    provider, profile = arrived.provider, arrived.profile
    if not provider.signup or (
        provider.allowed_domains and email.rpartition("@")[2] not in provider.allowed_domains
    ):
        raise AuthError(SocialError.NO_ACCOUNT)
    columns: dict[str, Any] = {}
    name = (profile.name or "").strip()
    if name and len(name) <= 64 and is_single_line(name) and is_unicode(name):
        columns["display_name"] = name
    await auth.hooks.fire(BeforeSocialSignup, profile, columns)
    now = auth.clock()
    first = FirstIdentity(arrived, {"is_verified": True, "verified_at": now})
    try:
        user = await signup(auth, email, None, accept_language, columns, instead=first)
    except AuthError as error:
        if error.code is ErrorCode.EMAIL_TAKEN:
            raise _RacedError from error
        if error.code not in _OF_COLUMNS:
            raise
        await _require_no_account(auth, email)
        why = "a handler of BeforeSocialSignup has to put another value into `columns`"
        logger.error("Nobody new gets an account by %s: %s: %s.", provider.name, error.field, why)
        raise AuthError(SocialError.NO_ACCOUNT) from error
    found = await exact(auth.tables.user.all(), id=user.id)
    if found is None:  # something was taken, which an outsider is not to learn
        await _require_no_account(auth, email)
        raise AuthError(SocialError.NO_ACCOUNT)
    return found


_OF_COLUMNS: Final = (ErrorCode.USERNAME_TAKEN, ErrorCode.VALUE_REFUSED, ErrorCode.VALIDATION_ERROR)
"""What a signup refuses of the values for columns, which no visitor has typed here."""


async def _require_no_account(auth: Auth, email: str) -> None:
    """Raises `_RacedError` where another request has made one for the address meanwhile."""
    if await auth.tables.user.filter(email=email).exists():
        raise _RacedError


# Those of a user who is signed in


async def session_of(auth: Auth, state: State) -> Authentication:
    """The session that has begun it, where it still lives. Raises `AuthError(INVALID_TOKEN)`."""
    if state.user_id is None or state.session_id is None:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    return await authenticate_session(auth, UUID(state.user_id), UUID(state.session_id), 0)


async def link(auth: Auth, authentication: Authentication, arrived: Arrived, state: State) -> Identity:
    """Connects an identity to the account of the user who has begun it. Raises `AuthError`: IDENTITY_TAKEN,
    SOCIAL_EXPIRED, REAUTHENTICATION_REQUIRED, IMPERSONATION_FORBIDDEN."""
    user = authentication.user
    async with observed(auth, SocialEventKind.IDENTITY_LINKED, authentication):
        require_recent_login(auth, authentication)
        try:
            identity, new = await _link(auth, user, arrived, state)
        except IntegrityError as error:
            raise AuthError(SocialError.IDENTITY_TAKEN) from error
    if new:
        await auth.hooks.fire(IdentityLinked, user, identity.id, identity.provider)
    return identity


@transactional
async def _link(auth: Auth, user: AbstractUser, arrived: Arrived, state: State) -> tuple[Identity, bool]:
    now = await locked_account(auth, user.id)
    if now is None or not now.is_active or now.access_epoch != user.access_epoch:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    if not await take(auth, state.spent):
        raise AuthError(SocialError.SOCIAL_EXPIRED)
    known = await _identity(auth, arrived)
    if known is not None:
        if known.user_id != user.id:
            raise AuthError(SocialError.IDENTITY_TAKEN)
        await _note_use(auth, known, arrived)
        return known, False
    identity = await _store(auth, user, arrived)
    await notify(auth, SocialMail.IDENTITY_LINKED, user, provider=arrived.provider.label)
    return identity, True


async def reauthenticate(auth: Auth, authentication: Authentication, arrived: Arrived, state: State) -> None:
    """Makes the session's login recent again, as its user has just signed in at the provider. Raises
    `AuthError`: REAUTHENTICATION_FAILED, IDENTITY_HELD, TWO_FACTOR_REQUIRED where a second factor is on."""
    user = authentication.user
    async with observed(auth, EventKind.REAUTHENTICATION, authentication) as observation:
        identity = await _identity(auth, arrived)
        if identity is None or identity.user_id != user.id:
            raise AuthError(ErrorCode.REAUTHENTICATION_FAILED)
        if identity.held_since is not None:
            raise AuthError(SocialError.IDENTITY_HELD)
        if not arrived.strong:
            for factor in auth.features.factors:
                if await factor.enrolled(auth, user):
                    raise AuthError(ErrorCode.TWO_FACTOR_REQUIRED)
        proof = proof_of(arrived, Owner(user), state.spent)
        observation.factors = await renew(auth, authentication, proof, None)


def _clean(profile: Profile) -> Profile:
    """With the address in its normal form, where it is one; a name that no table holds is not there. Between
    the mailbox that a provider vouches for and the address that is kept lies no more than the case of ASCII
    letters, and what IDNA makes of the domain (CVE-2019-19844)."""
    said, name = profile.email or "", profile.name if is_unicode(profile.name or "") else None
    try:
        email = normalise_email(said)
    except ValueError:
        return replace(profile, email=None, vouched=False, name=name)
    local, kept = said.rpartition("@")[0], email.rpartition("@")[0]
    same = kept in (local, local.lower() if local.isascii() else None)
    vouched = profile.vouched and same and said == without_blanks_around(said)
    return replace(profile, email=email, vouched=vouched, name=name)


def refused(provider: Provider, why: str) -> AuthError:
    """The browser learns only that it was refused."""
    logger.warning("An answer of the provider %s was refused: %s.", provider.name, why)
    return AuthError(SocialError.SOCIAL_REFUSED)


def _client_id(auth: Auth, provider: Provider) -> str:
    return credentials_of(auth, provider)[0]
