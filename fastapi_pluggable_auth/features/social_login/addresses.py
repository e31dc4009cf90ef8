"""An address for somebody whose provider gives none, or does not vouch for it: they show that it is theirs
by a code that is mailed there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from ...auth import Auth
from ...errors import AuthError, ErrorCode
from ...flows.devices import Device
from ...flows.gate import FactorNeeded, admit, entering, factor_required
from ...flows.guesses import counted_code
from ...flows.login import Challenge, begin_challenge
from ...flows.mailed_codes import check_code, mail_code
from ...flows.pending import begin, find, take
from ...flows.session_tokens import TokenSet
from ...flows.throttle import may_mail
from ...security.jwt import Transport
from ...security.plaintext import Plaintext
from .app_providers import provider_named
from .flows import Arrived, account_of, proof_of
from .names import SocialError, SocialMail
from .profile import Profile
from .remote import Granted
from .states import State, s256

WANTED: Final = "social_address"
"""The kind of what waits for an address."""
MAILED: Final = "social_code_mail"
"""The kind of what waits for the code."""
LIFETIME: Final = timedelta(minutes=30)
BY_MAIL: Final = "mail"


@dataclass(frozen=True, slots=True)
class AddressWanted:
    """Somebody was named whose address is yet to be shown: `token` is for `mail_address_code`, with an
    address such as the provider's."""

    token: str = field(repr=False)
    email: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """Who has shown that an address is theirs, and what they were on the way to."""

    answer: TokenSet | Challenge
    next: str | None
    remember: bool


async def want_address(auth: Auth, arrived: Arrived, state: State) -> AddressWanted:
    """Keeps who has arrived for half an hour, until they have shown an address. Raises
    `AuthError(SOCIAL_EXPIRED)` where what they began is spent."""
    profile = arrived.profile
    if not await _spend(auth, state):
        raise AuthError(SocialError.SOCIAL_EXPIRED)
    data = {
        "provider": arrived.provider.name,
        "profile": {**dataclasses.asdict(profile), "email": None},
        "issuer": arrived.issuer,
        "strong": arrived.strong,
        "granted": _kept(auth, arrived.granted),
        "next": state.next,
        "remember": state.remember,
        "challenge": state.challenge,
    }
    token = await begin(auth, WANTED, data, user_id=None, lifetime=LIFETIME)
    return AddressWanted(token, profile.email)


async def mail_address_code(auth: Auth, token: Plaintext, email: str, accept_language: str = "") -> str:
    """Mails a code to the address, whether or not there is an account, and gives the challenge that it
    answers. Raises `AuthError`: SOCIAL_EXPIRED, THROTTLED after too many mails to this address."""
    found = await find(auth, WANTED, token)
    if found is None:
        raise AuthError(SocialError.SOCIAL_EXPIRED)
    _, wanted = found
    if not await may_mail(auth, SocialMail.SOCIAL_CODE, email):
        raise AuthError(ErrorCode.THROTTLED)
    return await mail_code(
        auth,
        MAILED,
        SocialMail.SOCIAL_CODE,
        email,
        {**wanted, "email": email},
        language=auth.mailer.language_for(accept_language),
    )


async def sign_in_with_code(
    auth: Auth,
    challenge: Plaintext,
    code: Plaintext,
    device: Device | None = None,
    verifier: Plaintext | None = None,
    answer: Plaintext | None = None,
    *,
    in_two_steps: bool = False,
    transport: Transport,
    accept_language: str = "",
) -> Shown:
    """Signs in the one who has shown the address, by the rules for one that a provider vouches for. A client
    that began with a `code_challenge` sends its verifier; `answer` is for a second factor, without which the
    code is spent only where the sign-in has two steps. Raises `AuthError`: MAILED_CODE_REFUSED,
    MAILED_CODE_EXPIRED, THROTTLED, SOCIAL_EXPIRED, TWO_FACTOR_REQUIRED, and as `flows.sign_in` does."""
    pending, said = await check_code(auth, MAILED, challenge, code)
    if said["challenge"] is not None and (verifier is None or s256(verifier.take()) != said["challenge"]):
        raise AuthError(SocialError.SOCIAL_EXPIRED)
    provider = provider_named(auth, said["provider"])
    profile = Profile(**{**said["profile"], "email": said["email"], "vouched": True})
    arrived = Arrived(provider, profile, said["issuer"], said["strong"], _granted(auth, said["granted"]))
    owner = await account_of(auth, arrived, accept_language)
    async with entering(auth, transport=transport, device=device, code=answer) as entry:
        entry.observation.user_id = owner.user.id
        proof = proof_of(arrived, owner, pending, BY_MAIL)
        if answer is None:
            admitted = await admit(auth, proof, entry)
        else:
            async with counted_code(auth, owner.user, device=device) as entry.guess:
                admitted = await admit(auth, proof, entry)
    if not isinstance(admitted, FactorNeeded):
        return Shown(admitted.tokens, said["next"], said["remember"])
    if not in_two_steps:
        raise await factor_required(auth, admitted)
    return Shown(await begin_challenge(auth, admitted.proof), said["next"], said["remember"])


def _kept(auth: Auth, granted: Granted | None) -> list[Any] | None:
    """What the provider has given, with the moment when the access token ends."""
    if granted is None:
        return None
    refresh, lifetime = granted.refresh_token, granted.expires_in
    ends = None if lifetime is None else int(auth.clock().timestamp()) + lifetime
    return [granted.access_token.look(), None if refresh is None else refresh.look(), ends]


def _granted(auth: Auth, kept: Sequence[Any] | None) -> Granted | None:
    if kept is None:
        return None
    access, refresh, ends = kept
    return Granted(
        Plaintext(access),
        refresh_token=None if refresh is None else Plaintext(refresh),
        expires_in=None if ends is None else ends - int(auth.clock().timestamp()),
    )


async def _spend(auth: Auth, state: State) -> bool:
    return await take(auth, state.spent)
