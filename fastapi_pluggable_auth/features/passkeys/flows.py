"""What passkeys sign: logins, signups, what is confirmed, and passkeys that are added."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from tortoise.exceptions import IntegrityError

from ...auth import Auth, transactional
from ...config import origin_of
from ...email.tokens import Purpose as LinkPurpose
from ...errors import AuthError, ErrorCode
from ...events import EventKind, Observation, Outcome
from ...flows.authentication import (
    Authentication,
    observed,
    refuse_impersonation,
    require_recent_login,
)
from ...flows.devices import Device
from ...flows.email import Verified, owner_of, verify_signup
from ...flows.ends import End, end_access
from ...flows.gate import Proof, SignedIn, admit, entering, mail_new_link, renew
from ...flows.locking import locked_account
from ...flows.notices import notify, notify_anyway
from ...flows.pending import is_taken, take
from ...flows.session_tokens import TokenSet
from ...flows.sessions import add_factors
from ...models import AbstractUser, exact
from ...security.jwt import Transport
from ...security.plaintext import Plaintext
from .ceremony import (
    ALGORITHMS,
    CeremonyError,
    NewCredential,
    Policy,
    RelyingParty,
    Use,
    challenge_in,
    check_assertion,
    check_registration,
    may_be_rp_id,
)
from .challenges import LIFETIME, Challenge, Purpose, new_challenge, open_challenge
from .credentials import TRANSPORTS, Assertion, Registration, decoded, encoded
from .keeping import passkeys_of, write_factors
from .makers import name_of
from .models import Passkey
from .names import (
    FACTOR,
    SECOND_FACTOR_ONLY,
    PasskeyAdded,
    PasskeyError,
    PasskeyEventKind,
    PasskeyMail,
    PasskeySettings,
)

logger = logging.getLogger(__name__)

_ALONE: Final = Policy(verifies_user=True)
_BESIDE: Final = Policy(verifies_user=False)

POLICIES: Final[Mapping[Purpose, Policy]] = {
    Purpose.SIGN_IN: _ALONE,
    Purpose.REAUTHENTICATION: _ALONE,
    Purpose.VERIFICATION: _ALONE,
    Purpose.SIGN_UP: _ALONE,
    Purpose.ADDITION: _ALONE,
    Purpose.SECOND_FACTOR: _BESIDE,
    Purpose.ADDITION_OF_SECOND_FACTOR: _BESIDE,
    # Made by the browser without a question, right after the login that the user has made: whoever signs in
    # with it is verified then.
    Purpose.UPGRADE: Policy(verifies_user=False, present=False),
}
"""What is asked of the authenticator, and checked."""

Options = dict[str, Any]
"""What a browser needs, as `PublicKeyCredential.parseRequestOptionsFromJSON()` and its sibling take it."""


def relying_party(auth: Auth) -> RelyingParty:
    """The domain and the origins of this app. Raises `ValueError` where passkeys cannot be used there."""
    settings, own = auth.settings, auth.features.settings_of(PasskeySettings)
    host = urlsplit(settings.public_base_url).hostname or ""
    rp_id = own.passkey_rp_id or host
    if _is_address(rp_id):
        raise ValueError(
            f"Passkeys are made for a name, not for {rp_id}: let AUTH_PUBLIC_BASE_URL have one, such as "
            f"http://localhost:8000."
        )
    if not may_be_rp_id(rp_id, host):
        raise ValueError(
            f"AUTH_PASSKEY_RP_ID: {rp_id} is neither the host of AUTH_PUBLIC_BASE_URL, {host}, nor a domain "
            f"of yours above it."
        )
    origins = own.passkey_origins or [origin_of(settings.public_base_url)]
    for origin in origins:
        web = urlsplit(origin)
        if web.scheme in ("http", "https") and not may_be_rp_id(rp_id, web.hostname or ""):
            raise ValueError(
                f"AUTH_PASSKEY_ORIGINS: {origin} is not within {rp_id}: name it in "
                f"AUTH_PASSKEY_RELATED_ORIGINS."
            )
    return RelyingParty(rp_id, settings.app_name, frozenset((*origins, *own.passkey_related_origins)))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


# Options


def request_options(auth: Auth, purpose: Purpose, context: str, allowed: Iterable[Passkey] = ()) -> Options:
    """What a browser needs to have a passkey sign: one of those that are `allowed` or, where none is named,
    any that the authenticator knows by itself."""
    return {
        "challenge": encoded(new_challenge(auth, purpose, context)),
        "rpId": relying_party(auth).id,
        "allowCredentials": [_descriptor(passkey) for passkey in allowed],
        "userVerification": _verification(POLICIES[purpose]),
        "timeout": _milliseconds(),
    }


def creation_options(
    auth: Auth,
    purpose: Purpose,
    context: str,
    *,
    user_id: UUID,
    email: str,
    display_name: str | None = None,
    known: Iterable[Passkey] = (),
    carried: bytes = b"",
) -> Options:
    """What a browser needs to make a passkey on an authenticator that has none of those that are `known`."""
    party, beside = relying_party(auth), purpose is Purpose.ADDITION_OF_SECOND_FACTOR
    resident = "discouraged" if beside else "required"
    return {
        "challenge": encoded(new_challenge(auth, purpose, context, carried)),
        "rp": {"id": party.id, "name": party.name},
        "user": {
            "id": encoded(user_id.bytes),
            "name": email,
            "displayName": display_name or email,
        },
        "pubKeyCredParams": [{"type": "public-key", "alg": algorithm} for algorithm in ALGORITHMS],
        "excludeCredentials": [_descriptor(passkey) for passkey in known],
        "authenticatorSelection": {
            "residentKey": resident,
            "requireResidentKey": not beside,
            "userVerification": _verification(POLICIES[purpose]),
        },
        "attestation": "none",
        "extensions": {"credProps": True},
        "timeout": _milliseconds(),
    }


def _verification(policy: Policy) -> str:
    if policy.verifies_user:
        return "required"
    return "discouraged" if policy.present else "preferred"


def _descriptor(passkey: Passkey) -> dict[str, Any]:
    return {
        "type": "public-key",
        "id": passkey.credential_id,
        "transports": sorted(passkey.transports),
    }


def _milliseconds() -> int:
    return int(LIFETIME.total_seconds() * 1000)


# Signing in


async def sign_in(
    auth: Auth,
    credential: Assertion,
    browsers: Sequence[str],
    device: Device | None = None,
    *,
    transport: Transport = Transport.BEARER,
) -> TokenSet:
    """Starts a session by a passkey alone, which has verified its user: it counts as two factors. `browsers`
    are what the challenge may have been made for.

    Raises `AuthError`: PASSKEY_EXPIRED, PASSKEY_REFUSED, PASSKEY_UNKNOWN, PASSKEY_HELD, and as the gate does:
    INVALID_CREDENTIALS for a disabled account and where something has changed meanwhile, EMAIL_NOT_VERIFIED,
    PASSWORD_RESET_REQUIRED, and what a hook refuses.
    """
    async with entering(auth, transport=transport, device=device) as entry:
        challenge = _opened(auth, (Purpose.SIGN_IN,), browsers, credential)[1]
        passkey, user = await _known_to_outsiders(auth, challenge, credential)
        entry.observation.user_id = user.id
        shown = await _shown(auth, Purpose.SIGN_IN, challenge, credential, passkey, user)
        proof = Proof(user=user, factors=(FACTOR,), strong=True, spends=shown.spend)
        answer = await admit(auth, proof, entry)
    assert isinstance(answer, SignedIn)  # noqa: S101 - it was strong
    return answer.tokens


async def _known_to_outsiders(
    auth: Auth, challenge: Challenge, credential: Assertion
) -> tuple[Passkey, AbstractUser]:
    """The passkey and its owner. With `prevent_enumeration`, one of a signup that nobody has verified looks
    like one that is not known, whatever it has signed: else its maker would learn whether that signup made an
    account."""
    silent = auth.settings.prevent_enumeration
    try:
        passkey, user = await _known(auth, credential)
    except AuthError as error:
        if not silent:
            raise
        await exact(auth.tables.user.all(), id=uuid4())  # as long as for one that is known
        raise AuthError(ErrorCode.INVALID_CREDENTIALS) from error
    if _looks_new(auth, user):
        await auth.autonomous.after_answer(lambda: _mail_if_shown(auth, challenge, credential, passkey, user))
        raise AuthError(ErrorCode.INVALID_CREDENTIALS)
    return passkey, user


def _looks_new(auth: Auth, user: AbstractUser) -> bool:
    """Whether nobody may learn that the account is there."""
    settings = auth.settings
    return settings.prevent_enumeration and settings.require_verified_email and not user.is_verified


async def _mail_if_shown(
    auth: Auth, challenge: Challenge, credential: Assertion, passkey: Passkey, user: AbstractUser
) -> None:
    try:
        await _shown(auth, Purpose.SIGN_IN, challenge, credential, passkey, user)
    except AuthError:
        return
    await mail_new_link(auth, user)


async def reauthentication_options(auth: Auth, authentication: Authentication) -> Options:
    """What a browser needs to show a passkey of this user once more."""
    alone = [each for each in await passkeys_of(auth, authentication.user.id) if _is_enough(each)]
    return request_options(auth, Purpose.REAUTHENTICATION, _session_of(authentication), alone)


async def reauthenticate(auth: Auth, authentication: Authentication, credential: Assertion) -> None:
    """Makes the session's login recent again. Raises `AuthError`: PASSKEY_EXPIRED, PASSKEY_REFUSED,
    PASSKEY_UNKNOWN, PASSKEY_HELD, REAUTHENTICATION_FAILED where something has changed meanwhile,
    IMPERSONATION_FORBIDDEN."""
    user = authentication.user
    async with observed(auth, EventKind.REAUTHENTICATION, authentication) as observation:
        refuse_impersonation(authentication)
        purpose = Purpose.REAUTHENTICATION
        challenge = _opened(auth, (purpose,), [_session_of(authentication)], credential)[1]
        passkey, owner = await _known(auth, credential, user.id)
        shown = await _shown(auth, purpose, challenge, credential, passkey, owner)
        proof = Proof(user=owner, factors=(FACTOR,), strong=True, spends=shown.spend)
        observation.factors = await renew(auth, authentication, proof, None)


async def second_factor_options(auth: Auth, user: AbstractUser) -> Options:
    """What a browser needs to show a passkey of this user beside the first factor."""
    return request_options(auth, Purpose.SECOND_FACTOR, str(user.id), await passkeys_of(auth, user.id))


async def check_second_factor(auth: Auth, user: AbstractUser, credential: Assertion) -> Shown:
    """What follows from a passkey that was shown beside the first factor. Raises `AuthError`:
    PASSKEY_EXPIRED, PASSKEY_REFUSED, PASSKEY_UNKNOWN."""
    purpose = Purpose.SECOND_FACTOR
    challenge = _opened(auth, (purpose,), [str(user.id)], credential)[1]
    passkey, owner = await _known(auth, credential, user.id)
    return await _shown(auth, purpose, challenge, credential, passkey, owner)


async def verification_options(auth: Auth, token: Plaintext) -> Options:
    """What a browser that did not sign up needs to show a passkey of the account, whose link this is. Raises
    `AuthError(INVALID_LINK)`."""
    user = await owner_of(auth, LinkPurpose.VERIFY, token)
    return request_options(auth, Purpose.VERIFICATION, str(user.id), await passkeys_of(auth, user.id))


async def verify_by_passkey(auth: Auth, token: Plaintext, credential: Assertion) -> Verified:
    """Marks the account of the link verified, for the one who signed up with this passkey, which stays.
    Raises `AuthError`: INVALID_LINK, PASSKEY_EXPIRED, PASSKEY_REFUSED, PASSKEY_UNKNOWN."""

    async def shows(user: AbstractUser) -> None:
        purpose = Purpose.VERIFICATION
        challenge = _opened(auth, (purpose,), [str(user.id)], credential)[1]
        passkey, owner = await _known(auth, credential, user.id)
        shown = await _shown(auth, purpose, challenge, credential, passkey, owner)
        if not await _spend_at_once(auth, shown):
            raise AuthError(PasskeyError.PASSKEY_EXPIRED)

    return await verify_signup(auth, token, None, shows=shows)


@transactional
async def _spend_at_once(auth: Auth, shown: Shown) -> bool:
    return await shown.spend(auth)


@dataclass(frozen=True, slots=True)
class Shown:
    """A passkey that has signed the challenge. Nothing is written yet."""

    passkey: Passkey
    challenge: Challenge = field(repr=False)
    use: Use
    unchanged: Mapping[str, object] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def factor(self) -> str:
        """Its name."""
        return FACTOR

    async def spend(self, auth: Auth, user: AbstractUser | None = None) -> bool:
        """Spends the challenge and notes the use; False where the passkey was used, removed or held
        meanwhile. Raises `AuthError(PASSKEY_EXPIRED)` where the challenge was spent before."""
        if not await take(auth, self.challenge.spent):
            raise AuthError(PasskeyError.PASSKEY_EXPIRED)
        passkey = self.passkey
        same = auth.tables.of(Passkey).filter(
            id=passkey.id, user_id=passkey.user_id, counter=passkey.counter, held_since=passkey.held_since
        )
        used = {"counter": self.use.counter, "backed_up": self.use.backed_up, "last_used_at": auth.clock()}
        return bool(await same.update(**used))

    async def report(self, auth: Auth, observation: Observation) -> None:
        """The event of the login says it."""


async def _shown(
    auth: Auth,
    purpose: Purpose,
    challenge: Challenge,
    credential: Assertion,
    passkey: Passkey,
    user: AbstractUser,
) -> Shown:
    policy, response = POLICIES[purpose], credential.response
    if policy.verifies_user and not passkey.verifies_user:
        raise AuthError(PasskeyError.PASSKEY_REFUSED)
    handle = response.userHandle
    if handle is None and purpose is Purpose.SIGN_IN:  # where nothing else has said who it is
        raise _refused("no user handle")
    if handle is not None and decoded(handle) != user.id.bytes:
        raise _refused("user handle")
    try:
        use = check_assertion(
            relying_party(auth),
            policy,
            challenge.value,
            decoded(response.clientDataJSON),
            decoded(response.authenticatorData),
            decoded(response.signature),
            decoded(passkey.public_key),
        )
    except CeremonyError as error:
        raise _refused(str(error)) from error
    if use.backup_eligible != passkey.backup_eligible:
        raise _refused("backup eligibility has changed")
    if (use.counter or passkey.counter) and use.counter <= passkey.counter:
        if await is_taken(auth, challenge.spent):  # the same answer once more, which is no copy
            raise AuthError(PasskeyError.PASSKEY_EXPIRED)
        await _report_copy(auth, passkey, user)
        raise _refused("counter")
    if policy.verifies_user and passkey.held_since is not None:
        raise AuthError(PasskeyError.PASSKEY_HELD)
    return Shown(passkey, challenge, use)


async def _report_copy(auth: Auth, passkey: Passkey, user: AbstractUser) -> None:
    """The authenticator has a twin (section 6.1.1): its owner learns of it, whatever becomes of the
    request."""
    reason = PasskeyError.PASSKEY_REFUSED.code
    seen = Observation(user.id)
    await auth.events.emit(PasskeyEventKind.PASSKEY_COPIED, Outcome.FAILURE, seen, reason=reason)
    await notify_anyway(auth, PasskeyMail.PASSKEY_COPIED, user, name=passkey.name)


async def _known(
    auth: Auth, credential: Assertion, user_id: UUID | None = None
) -> tuple[Passkey, AbstractUser]:
    """The passkey, of this user where one is named, and its owner as the account is now."""
    found = await exact(auth.tables.of(Passkey).all(), digest=digest_of(credential.id))
    if found is None or found.credential_id != credential.id:
        raise AuthError(PasskeyError.PASSKEY_UNKNOWN)
    if user_id is not None and found.user_id != user_id:
        raise AuthError(PasskeyError.PASSKEY_UNKNOWN)
    user = await exact(auth.tables.user.all(), id=found.user_id)
    if user is None:
        raise AuthError(PasskeyError.PASSKEY_UNKNOWN)
    return found, user


async def has_enough(auth: Auth, user_id: UUID) -> bool:
    """Whether the user has a passkey that signs in by itself now."""
    return any(_is_enough(passkey) for passkey in await passkeys_of(auth, user_id))


def _is_enough(passkey: Passkey) -> bool:
    return passkey.verifies_user and passkey.held_since is None


# Adding


async def addition_options(
    auth: Auth, authentication: Authentication, *, second_factor: bool = False, upgrade: bool = False
) -> Options:
    """What a browser needs to make a passkey for this user. Raises `AuthError`: REAUTHENTICATION_REQUIRED,
    IMPERSONATION_FORBIDDEN."""
    require_recent_login(auth, authentication)
    user = authentication.user
    purpose = (
        Purpose.ADDITION_OF_SECOND_FACTOR
        if second_factor
        else Purpose.UPGRADE
        if upgrade
        else Purpose.ADDITION
    )
    return creation_options(
        auth,
        purpose,
        _session_of(authentication),
        user_id=user.id,
        email=user.email,
        display_name=user.display_name,
        known=await passkeys_of(auth, user.id),
    )


async def add(
    auth: Auth, authentication: Authentication, credential: Registration, name: str | None = None
) -> Passkey:
    """Adds a passkey, which this session has then shown, and tells its owner by mail. The first one that is
    only for beside a password switches two-factor on, which ends all other sessions.

    Raises `AuthError`: REAUTHENTICATION_REQUIRED, PASSKEY_EXPIRED, PASSKEY_REFUSED, PASSKEY_EXISTS,
    TOO_MANY_PASSKEYS, and INVALID_TOKEN where all access was ended meanwhile.
    """
    user = authentication.user
    async with observed(auth, PasskeyEventKind.PASSKEY_ADDED, authentication):
        require_recent_login(auth, authentication)
        purposes = (Purpose.ADDITION, Purpose.ADDITION_OF_SECOND_FACTOR, Purpose.UPGRADE)
        purpose, challenge = _opened(auth, purposes, [_session_of(authentication)], credential)
        made = _made(auth, purpose, challenge, credential, name)
        passkey = await _add(auth, authentication, made, challenge, purpose)
    await auth.hooks.fire(PasskeyAdded, user, passkey.id, passkey.name)
    return passkey


@transactional
async def _add(
    auth: Auth,
    authentication: Authentication,
    made: Mapping[str, Any],
    challenge: Challenge,
    purpose: Purpose,
) -> Passkey:
    user = authentication.user
    now = await locked_account(auth, user.id)
    if now is None or not now.is_active or now.access_epoch != user.access_epoch:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    passkeys = await passkeys_of(auth, user.id)
    if len(passkeys) >= auth.features.settings_of(PasskeySettings).max_passkeys:
        raise AuthError(PasskeyError.TOO_MANY_PASSKEYS)
    passkey = await _store(auth, now, made, challenge)
    was_asked = now.two_factor_active or SECOND_FACTOR_ONLY in now.second_factors
    await write_factors(auth, now, [*passkeys, passkey])
    if authentication.session_id is not None and purpose is not Purpose.UPGRADE:
        await add_factors(auth, authentication.session_id, [FACTOR])
    if not passkey.verifies_user and not was_asked:
        await end_access(auth, user.id, End.SECOND_FACTOR, authentication.session_id)
    await notify(auth, PasskeyMail.PASSKEY_ADDED, now, name=passkey.name)
    return passkey


def _made(
    auth: Auth, purpose: Purpose, challenge: Challenge, credential: Registration, name: str | None
) -> dict[str, Any]:
    """The columns of a new passkey. Raises `AuthError(PASSKEY_REFUSED)`."""
    response = credential.response
    try:
        new = check_registration(
            relying_party(auth),
            POLICIES[purpose],
            challenge.value,
            decoded(response.clientDataJSON),
            decoded(response.attestationObject),
        )
    except CeremonyError as error:
        raise _refused(str(error)) from error
    if encoded(new.credential_id) != credential.id:
        raise _refused("credential id")
    return {
        **_columns(new),
        "transports": frozenset(response.transports) & TRANSPORTS,
        "discoverable": _is_discoverable(credential),
        "verifies_user": purpose is not Purpose.ADDITION_OF_SECOND_FACTOR,
        "name": name or name_of(new.aaguid),
    }


def _columns(new: NewCredential) -> dict[str, Any]:
    credential_id = encoded(new.credential_id)
    return {
        "credential_id": credential_id,
        "digest": digest_of(credential_id),
        "public_key": encoded(new.public_key),
        "counter": new.counter,
        "aaguid": new.aaguid,
        "backup_eligible": new.backup_eligible,
        "backed_up": new.backed_up,
    }


def _is_discoverable(credential: Registration) -> bool | None:
    """As the browser says (WebAuthn Level 3 section 10.1.3); None where it does not."""
    said = credential.clientExtensionResults.get("credProps")
    found = said.get("rk") if isinstance(said, dict) else None
    return found if isinstance(found, bool) else None


async def _store(auth: Auth, user: AbstractUser, made: Mapping[str, Any], challenge: Challenge) -> Passkey:
    """Belongs inside a transaction that has locked or made the account."""
    table = auth.tables.of(Passkey)
    if (former := await _require_free(auth, made["digest"])) is not None:
        await table.filter(user_id=former.id, digest=made["digest"]).delete()
        await write_factors(auth, former, await passkeys_of(auth, former.id))
    try:
        passkey = await table.create(user_id=user.id, created_at=auth.clock(), **made)
    except IntegrityError as error:  # another request was faster
        raise AuthError(PasskeyError.PASSKEY_EXISTS) from error
    if not await take(auth, challenge.spent):
        raise AuthError(PasskeyError.PASSKEY_EXPIRED)
    return passkey


async def _require_free(auth: Auth, digest: str) -> AbstractUser | None:
    """Raises `AuthError(PASSKEY_EXISTS)` where an account has this credential. With `prevent_enumeration` one
    that nobody has verified gives it up (section 7.1, step 26): else whoever has signed it up with a made-up
    credential, and tries that once more, would learn that there was no account before. Gives that account."""
    found = await exact(auth.tables.of(Passkey).all(), digest=digest)
    owner = None if found is None else await exact(auth.tables.user.all(), id=found.user_id)
    if owner is not None and not _looks_new(auth, owner):
        raise AuthError(PasskeyError.PASSKEY_EXISTS)
    return owner


# Signing up


def sign_up_options(auth: Auth, email: str, browser: str) -> Options:
    """What a browser needs to sign up with a passkey: the same for any address. Raises
    `AuthError(SIGNUP_CLOSED)`."""
    if auth.settings.signup != "open":
        raise AuthError(ErrorCode.SIGNUP_CLOSED)
    user_id = uuid4()
    return creation_options(
        auth,
        Purpose.SIGN_UP,
        _signup_of(email, browser),
        user_id=user_id,
        email=email,
        carried=user_id.bytes,
    )


@dataclass(frozen=True, slots=True)
class FirstPasskey:
    """The passkey that an account is signed up with, and that its authenticator keeps for the id of the new
    account."""

    made: Mapping[str, Any]
    challenge: Challenge = field(repr=False)

    @property
    def columns(self) -> Mapping[str, Any]:
        """Of the account."""
        return {"id": UUID(bytes=self.challenge.carried), "second_factors": frozenset((FACTOR,))}

    async def store(self, auth: Auth, user: AbstractUser) -> None:
        """Raises `AuthError`: PASSKEY_EXISTS, PASSKEY_EXPIRED."""
        await _store(auth, user, self.made, self.challenge)


async def check_first(auth: Auth, email: str, credential: Registration, browser: str | None) -> FirstPasskey:
    """What a signup with this passkey stores. Raises `AuthError`: PASSKEY_EXPIRED, PASSKEY_REFUSED,
    PASSKEY_EXISTS, which does not depend on the address."""
    contexts = [_signup_of(email, browser or "")]
    purpose, challenge = _opened(auth, (Purpose.SIGN_UP,), contexts, credential)
    made = _made(auth, purpose, challenge, credential, None)
    await _require_free(auth, made["digest"])
    return FirstPasskey(made, challenge)


# Bytes


def handle_of(user: AbstractUser) -> str:
    """What authenticators know the account by."""
    return encoded(user.id.bytes)


def digest_of(credential_id: str) -> str:
    """What finds a passkey by the id of its credential."""
    return hashlib.sha256(credential_id.encode()).hexdigest()


def _opened(
    auth: Auth, purposes: Sequence[Purpose], contexts: Sequence[str], credential: Assertion | Registration
) -> tuple[Purpose, Challenge]:
    """The challenge that was signed, and which of these purposes it was made for. Raises `AuthError`."""
    try:
        value = challenge_in(decoded(credential.response.clientDataJSON))
    except CeremonyError as error:
        raise _refused(str(error)) from error
    for purpose in purposes[:-1]:
        try:
            return purpose, open_challenge(auth, purpose, contexts, value)
        except AuthError:
            continue
    return purposes[-1], open_challenge(auth, purposes[-1], contexts, value)


def _refused(why: str) -> AuthError:
    """The client learns only that it was refused."""
    logger.info("A passkey was refused: %s.", why)
    return AuthError(PasskeyError.PASSKEY_REFUSED)


def _session_of(authentication: Authentication) -> str:
    return f"{authentication.user.id} {authentication.session_id}"


def _signup_of(email: str, browser: str) -> str:
    return f"{browser} {email}"
