"""Looks at providers as a sign-in would use them, for the operator of an app."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

from ...auth import Auth
from ...security.clock import as_utc
from ...security.plaintext import Plaintext
from ..looks import Look
from .app_providers import credentials_of, redirect_uri
from .id_tokens import LEEWAY, usable_keys
from .names import SocialError
from .providers import Provider
from .remote import Answer, ProviderError, Remote

WRONG_CLIENT: Final = frozenset({"invalid_client", "unauthorized_client", "incorrect_client_credentials"})
"""What a token endpoint says of credentials (RFC 6749 section 5.2); GitHub has a name of its own."""
OURS: Final = ("client_secret_basic", "client_secret_post")


@dataclass(slots=True)
class Probe:
    """What was found at a provider, and the address to paste there."""

    provider: Provider
    redirect_uri: str
    looks: list[Look] = field(default_factory=list)


async def look_at(auth: Auth, provider: Provider) -> Probe:
    """Looks at one provider: its document, its keys, its clock, and whether it takes the credentials of the
    app, for which it is sent a code that it has never given. Nobody is signed in, and no secret is in what is
    found."""
    probe = Probe(provider, redirect_uri(auth, provider))
    remote, looks, name = auth.service(Remote), probe.looks, provider.name
    try:
        _, secret = credentials_of(auth, provider)
    except ValueError as error:
        looks.append(Look("credentials", str(error)))
        return probe
    try:
        document = await remote.document(provider)
    except ProviderError as error:
        looks.append(Look("document", _unreached(provider, error)))
        return probe
    if provider.issuer is not None:
        looks.append(Look("document"))
        looks += [_code(document), _challenge(document), _algorithms(provider, document)]
        looks.append(await _keys(remote, provider, document))
    looks.append(_client_authentication(provider, document, secret))
    try:
        never_given = Plaintext(secrets.token_urlsafe(16))
        answer = await remote.ask_for_tokens(
            provider, never_given, Plaintext(secrets.token_urlsafe(48)), probe.redirect_uri
        )
    except ProviderError as error:
        why = f"{error.why}: the token endpoint of {name} does not answer as one. Check it there"
        looks.append(Look("token endpoint", f"{why}, and the network."))
        return probe
    looks += [_credentials(provider, answer, secret), _clock(auth, provider, answer)]
    return probe


def _unreached(provider: Provider, error: ProviderError) -> str:
    if error.code is SocialError.PROVIDER_UNAVAILABLE:
        return (
            f"{provider.issuer} does not answer ({error.why}): check the issuer, the network, and the "
            f"certificate."
        )
    return (
        f"{provider.issuer} {error.why}: set `issuer` to what its discovery document says, letter by letter."
    )


def _code(document: Mapping[str, Any]) -> Look:
    there = "code" in _list(document, "response_types_supported", ["code"])
    return Look(
        "code", None if there else "it does not support the code flow: switch that on for this app there."
    )


def _challenge(document: Mapping[str, Any]) -> Look:
    if "code_challenge_methods_supported" not in document:
        return Look(
            "PKCE", "it does not say whether it supports PKCE with S256, which is sent.", uncertain=True
        )
    if "S256" in _list(document, "code_challenge_methods_supported", []):
        return Look("PKCE")
    return Look("PKCE", "it does not support PKCE with S256: switch that on for this app there.")


def _algorithms(provider: Provider, document: Mapping[str, Any]) -> Look:
    said = _list(document, "id_token_signing_alg_values_supported", ["RS256"])
    if {*said} & {*provider.algorithms}:
        return Look("signatures")
    return Look("signatures", f"it signs by {_names(said)}: have it sign tokens by RS256 or ES256.")


async def _keys(remote: Remote, provider: Provider, document: Mapping[str, Any]) -> Look:
    try:
        keys = usable_keys(await remote.keys(provider, None))
    except ProviderError as error:
        where = document.get("jwks_uri")
        return Look(
            "keys", f"its keys are not to be had at {where!r:.120} ({error.why}): check `jwks_uri` there."
        )
    return Look("keys", None if keys else "it publishes no key that signs: check `jwks_uri` there.")


def _client_authentication(provider: Provider, document: Mapping[str, Any], secret: str | None) -> Look:
    taken = _list(document, "token_endpoint_auth_methods_supported", ["client_secret_basic"])
    if not secret or {*OURS} & {*taken}:
        return Look("client authentication")
    why = f"it takes {_names(taken)} alone: allow this app client_secret_basic or client_secret_post there."
    return Look("client authentication", why)


def _credentials(provider: Provider, answer: Answer, secret: str | None) -> Look:
    name = provider.name.replace("-", "_").upper()
    if answer.said.get("error") not in WRONG_CLIENT and answer.status != 401:
        return Look("credentials")
    if secret is None:
        return Look(
            "credentials", f"it wants a secret: set AUTH_{name}_CLIENT_SECRET to the one it gives you."
        )
    if provider.make_secret is not None:
        return Look(
            "credentials",
            "it refuses what was signed: check the client id, and the ids and the key of Apple.",
        )
    both = f"AUTH_{name}_CLIENT_ID and AUTH_{name}_CLIENT_SECRET"
    return Look("credentials", f"it refuses the client id or the secret: copy {both} from there again.")


def _clock(auth: Auth, provider: Provider, answer: Answer) -> Look:
    try:
        theirs = as_utc(parsedate_to_datetime(answer.date or ""))
    except (ValueError, TypeError):
        return Look("clock", "it does not say what time it is.", uncertain=True)
    apart = round((auth.clock() - theirs).total_seconds())
    if abs(apart) <= LEEWAY:
        return Look("clock")
    way = "ahead of" if apart > 0 else "behind"
    why = f"the clock of this machine is {abs(apart)} s {way} its clock, so that its tokens are refused"
    return Look("clock", f"{why}: set the clock by NTP.")


def _list(document: Mapping[str, Any], name: str, otherwise: list[str]) -> list[str]:
    said = document.get(name, otherwise)
    return [each for each in said if isinstance(each, str)] if isinstance(said, list) else []


def _names(said: list[str]) -> str:
    return f"{', '.join(said) or 'nothing'!s:.120}"
