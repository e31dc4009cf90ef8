"""Providers: where they are, and how to read what they say."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

from .profile import Profile, profile_of, text_of

Fetch = Callable[[str], Awaitable[Any]]
"""Gets what is at an address of the provider, with the user's access token."""

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "Ed25519", "EdDSA"),
)
"""Of signatures by a key whose public half the provider publishes; none of a shared secret."""


_LONGEST_NAME: Final = 32
_LONGEST_ISSUER: Final = 255
"""Characters that the columns have room for."""

_FACTORS: Final = frozenset(
    (
        *("face", "fpt", "geo", "hwk", "iris", "kba", "mca", "mfa", "otp", "pin", "pop", "pwd", "rba"),
        *("retina", "sc", "sms", "swk", "tel", "user", "vbm", "wia"),
        *("passkey", "mail", "recovery"),
    )
)
"""What `amr` says of factors (RFC 8176 section 2), and our own: a provider of such a name would count as that
factor."""


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One provider. With an `issuer` it speaks OpenID Connect, and its addresses are looked up there; any
    other has its own (RFC 6749), and `claims` fetches what it says of the user.

    `name` stands in addresses, in the table and in `amr`: at most 32 letters, digits and `-`, and not the
    name of another factor. `label` is what people call it. The credentials of the app there are `client_id`
    and `client_secret`, else AUTH_<NAME>_CLIENT_ID and AUTH_<NAME>_CLIENT_SECRET. `secret_in_body` is for an
    app that is registered for `client_secret_post` where the provider takes headers as well. `profile` reads
    the claims. Without `signup` nobody gets an account by it, and with `allowed_domains` only addresses of
    these do. `native_client_ids` are those that native apps have there beside `client_id`, such as the bundle
    id of an app for Apple: at `/auth/social/{provider}/token` theirs count too. One that is
    `trusted_for_two_factor` is asked for no second factor where it says that the user has shown one (`amr`
    with `mfa`). With `store_tokens` the app keeps what the provider gives it, for `auth.provider_token`: ask
    for the `scopes` that you need.

    Raises `ValueError` for one that is not whole.
    """

    name: str
    label: str
    issuer: str | None = None
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    claims: Callable[[Fetch], Awaitable[Mapping[str, Any]]] | None = None
    profile: Callable[[Mapping[str, Any]], Profile] = profile_of
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    secret_in_body: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)
    algorithms: tuple[str, ...] = ALGORITHMS
    native_client_ids: Collection[str] = ()
    signup: bool = True
    allowed_domains: Collection[str] = ()
    trusted_for_two_factor: bool = False
    store_tokens: bool = False
    issuer_in_tokens: Collection[str] = ()
    """Other names of the issuer that its tokens may have, which count as the issuer."""
    issuer_of: Callable[[Mapping[str, Any]], str] | None = None
    """What the issuer of a token has to be, given its claims, where one provider has several."""
    make_secret: Callable[[str, float], str] | None = None
    """Makes the secret for a request, of the client id and the time, where it is not always the same."""

    def __post_init__(self) -> None:
        if not self.name or not self.name.isascii() or not self.name.replace("-", "").isalnum():
            raise ValueError(f"{self.name!r} cannot name a provider: use letters, digits and `-`.")
        if len(self.name) > _LONGEST_NAME or len(self.identifies) > _LONGEST_ISSUER:
            raise ValueError(
                f"The name of the provider {self.name}, or its issuer, is too long to be stored."
            )
        if self.name.lower() in _FACTORS:
            raise ValueError(
                f"{self.name!r} names another factor of a sign-in: give the provider another name."
            )
        if self.issuer is None and not (self.authorization_endpoint and self.token_endpoint and self.claims):
            raise ValueError(
                f"The provider {self.name} needs an issuer, or authorization_endpoint, token_endpoint and "
                f"claims."
            )
        for option in ("native_client_ids", "allowed_domains", "issuer_in_tokens"):
            if isinstance(getattr(self, option), str):
                raise ValueError(f"{option} of the provider {self.name} is several: write a list.")
        object.__setattr__(self, "allowed_domains", frozenset(map(str.lower, self.allowed_domains)))
        # Where a token's issuer is looked for, which may be of any type: no set takes all of them.
        object.__setattr__(self, "issuer_in_tokens", (*self.issuer_in_tokens,))

    @property
    def identifies(self) -> str:
        """What its users are known under: the issuer, or the address where they sign in."""
        return self.issuer or f"https://{urlsplit(self.authorization_endpoint or '').hostname}"


def Oidc(name: str, *, issuer: str, label: str | None = None, **options: Any) -> Provider:
    """Any provider of OpenID Connect, such as Keycloak, Authentik, Auth0 or Okta. It vouches for addresses by
    `email_verified`; one that says so of addresses that anybody may type is to get its own `profile`."""
    return _made(options, name=name, label=label or name.capitalize(), issuer=issuer)


def _made(
    options: Mapping[str, Any], *, parameters: Mapping[str, str] | None = None, **defaults: Any
) -> Provider:
    """A provider as the app wants it. What it adds to the address of the sign-in stands beside ours."""
    asked = {**(parameters or {}), **options.get("parameters", {})}
    return Provider(**{**defaults, **options, "parameters": asked})


def _with_text(claims: Mapping[str, Any]) -> Profile:
    """Where `email_verified` may be a text."""
    found = profile_of(claims)
    return replace(found, vouched=claims.get("email_verified") in (True, "true"))


def Google(*, hd: str | None = None, **options: Any) -> Provider:
    """Google (https://developers.google.com/identity/openid-connect/openid-connect). With `hd`, only accounts
    of that domain of Google Workspace."""

    def profile(claims: Mapping[str, Any]) -> Profile:
        if hd is not None and claims.get("hd") != hd:
            raise ValueError("an account of another domain")
        return _with_text(claims)

    more = {} if hd is None else {"hd": hd}
    if options.get("store_tokens"):
        more |= {"access_type": "offline", "prompt": "consent"}  # else there is a refresh token once
    return _made(
        options,
        parameters=more,
        name="google",
        label="Google",
        issuer="https://accounts.google.com",
        issuer_in_tokens=["accounts.google.com"],
        profile=profile,
    )


_CONSUMERS: Final = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""The tenant of personal accounts, as its tokens name it."""
_TENANT: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def Microsoft(*, tenant: str = "common", **options: Any) -> Provider:
    """Microsoft Entra ID (https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference). Its
    tenants say any address, so none is vouched for unless `xms_edov` says that its domain was verified."""

    def profile(claims: Mapping[str, Any]) -> Profile:
        found = profile_of(claims)
        owned = claims.get("xms_edov") in (True, 1, "1", "true")
        return Profile(found.subject, found.email, owned, found.name)

    tenant = _CONSUMERS if tenant == "consumers" else tenant
    shared = tenant in ("common", "organizations")
    if not shared and not _TENANT.fullmatch(tenant):
        raise ValueError("Name a tenant of Microsoft by its id: its tokens do.")
    offline = ("offline_access",) if options.get("store_tokens") else ()
    return _made(
        options,
        name="microsoft",
        label="Microsoft",
        issuer=f"https://login.microsoftonline.com/{tenant}/v2.0",
        scopes=("openid", "email", "profile", *offline),
        profile=profile,
        issuer_of=_of_tenant if shared else None,
    )


def _of_tenant(claims: Mapping[str, Any]) -> str:
    tenant = claims.get("tid")
    if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
        raise ValueError("no tenant")
    return f"https://login.microsoftonline.com/{tenant}/v2.0"


def GitLab(*, url: str = "https://gitlab.com", **options: Any) -> Provider:
    """GitLab (https://docs.gitlab.com/integration/openid_connect_provider)."""
    return _made(options, name="gitlab", label="GitLab", issuer=url.rstrip("/"))


def GitHub(**options: Any) -> Provider:
    """GitHub (https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps), which is
    not a provider of OpenID Connect."""

    async def claims(fetch: Fetch) -> Mapping[str, Any]:
        user = await fetch("https://api.github.com/user")
        emails = await fetch("https://api.github.com/user/emails")
        primary: Mapping[str, Any] = next((each for each in emails if each.get("primary") is True), {})
        said = {"email": primary.get("email"), "email_verified": primary.get("verified")}
        return {"sub": text_of(user.get("id")), "name": user.get("name") or user.get("login"), **said}

    return _made(
        options,
        name="github",
        label="GitHub",
        authorization_endpoint="https://github.com/login/oauth/authorize",
        token_endpoint="https://github.com/login/oauth/access_token",  # noqa: S106
        scopes=("read:user", "user:email"),
        claims=claims,
    )


def Discord(**options: Any) -> Provider:
    """Discord (https://discord.com/developers/docs/topics/oauth2)."""

    async def claims(fetch: Fetch) -> Mapping[str, Any]:
        user = await fetch("https://discord.com/api/v10/users/@me")
        said = {"email": user.get("email"), "email_verified": user.get("verified")}
        return {
            "sub": text_of(user.get("id")),
            "name": user.get("global_name") or user.get("username"),
            **said,
        }

    return _made(
        options,
        name="discord",
        label="Discord",
        authorization_endpoint="https://discord.com/oauth2/authorize",
        token_endpoint="https://discord.com/api/oauth2/token",  # noqa: S106
        scopes=("identify", "email"),
        claims=claims,
    )


def Apple(*, team_id: str, key_id: str, private_key: str, **options: Any) -> Provider:
    """Sign in with Apple (https://developer.apple.com/documentation/signinwithapplerestapi). `private_key` is
    the `.p8` file's text, of which each request gets a secret that lives five minutes. The answer comes by
    POST."""

    def secret(client_id: str, now: float) -> str:
        from .id_tokens import signed  # here, as joserfc is an extra

        claims = {
            "iss": team_id,
            "iat": int(now),
            "exp": int(now) + 300,
            "aud": "https://appleid.apple.com",
            "sub": client_id,
        }
        return signed(claims, private_key, key_id)

    return _made(
        options,
        parameters={"response_mode": "form_post"},
        name="apple",
        label="Apple",
        issuer="https://appleid.apple.com",
        scopes=("openid", "email", "name"),
        profile=_with_text,
        make_secret=secret,
    )
