"""Features: what not every app needs, each added by one value, as in
`include_auth(app, features=[Administration()])`.

Here are those of the package, and what a feature of your own is made of. Each name is imported when it is
first used, so that a feature costs nothing where it is off.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # where a misspelt name is an error
    from ..auth import transactional
    from ..config import Settings
    from ..dependencies import CurrentAuth, CurrentAuthentication
    from ..errors import ErrorTable
    from ..events import EventTable
    from ..flows.authentication import Authentication, observed, require_recent_login
    from ..flows.notices import notify
    from ..http.demands import RECENT_LOGIN, SIGNED_IN
    from ..http.rates import rate_limited
    from ..http.responses import documented
    from ..models import ALL_ACCESS, AccessEnded, End, Expired, MomentField, Reach, exact
    from ..models.outward import Outward
    from ..routes.pages.rendering import render_page, see_other
    from ..routes.pages.route import PageRoute
    from ..routes.router import AuthRouter
    from .administration.feature import Administration
    from .audit_log.feature import AuditLog
    from .bot_check.feature import BotCheck
    from .bot_check.services import SiteVerify, Turnstile, Widget
    from .email_sign_in.feature import EmailSignIn
    from .feature import (
        Answer,
        Asked,
        Completion,
        Credential,
        Feature,
        Guard,
        LinkSpec,
        LinkTable,
        MailSpec,
        MailTable,
        Reader,
        Slot,
    )
    from .oauth_server.client_routes import ClientAccess, require_client
    from .oauth_server.feature import OAuthServer
    from .oauth_server.verifying import OAuthAccess, verify_oauth_token
    from .passkeys.feature import Passkeys
    from .personal_tokens.feature import PersonalTokens
    from .social_login.feature import SocialLogin
    from .social_login.profile import Profile
    from .social_login.providers import (
        Apple,
        Discord,
        GitHub,
        GitLab,
        Google,
        Microsoft,
        Oidc,
        Provider,
    )

__all__ = [
    "ALL_ACCESS",
    "RECENT_LOGIN",
    "SIGNED_IN",
    "AccessEnded",
    "Administration",
    "Answer",
    "Apple",
    "Asked",
    "AuditLog",
    "AuthRouter",
    "Authentication",
    "BotCheck",
    "ClientAccess",
    "Completion",
    "Credential",
    "CurrentAuth",
    "CurrentAuthentication",
    "Discord",
    "EmailSignIn",
    "End",
    "ErrorTable",
    "EventTable",
    "Expired",
    "Feature",
    "GitHub",
    "GitLab",
    "Google",
    "Guard",
    "LinkSpec",
    "LinkTable",
    "MailSpec",
    "MailTable",
    "Microsoft",
    "MomentField",
    "OAuthAccess",
    "OAuthServer",
    "Oidc",
    "Outward",
    "PageRoute",
    "Passkeys",
    "PersonalTokens",
    "Profile",
    "Provider",
    "Reach",
    "Reader",
    "Settings",
    "SiteVerify",
    "Slot",
    "SocialLogin",
    "Turnstile",
    "Widget",
    "documented",
    "exact",
    "notify",
    "observed",
    "rate_limited",
    "render_page",
    "require_client",
    "require_recent_login",
    "see_other",
    "transactional",
    "verify_oauth_token",
]

_HOMES: Final = {
    "ALL_ACCESS": "..models",
    "AccessEnded": "..models",
    "Administration": ".administration.feature",
    "Apple": ".social_login.providers",
    "Answer": ".feature",
    "Asked": ".feature",
    "ClientAccess": ".oauth_server.client_routes",
    "Completion": ".feature",
    "AuditLog": ".audit_log.feature",
    "AuthRouter": "..routes.router",
    "Authentication": "..flows.authentication",
    "BotCheck": ".bot_check.feature",
    "Credential": ".feature",
    "CurrentAuth": "..dependencies",
    "CurrentAuthentication": "..dependencies",
    "Discord": ".social_login.providers",
    "EmailSignIn": ".email_sign_in.feature",
    "End": "..models",
    "ErrorTable": "..errors",
    "EventTable": "..events",
    "Expired": "..models",
    "Feature": ".feature",
    "GitHub": ".social_login.providers",
    "GitLab": ".social_login.providers",
    "Google": ".social_login.providers",
    "Guard": ".feature",
    "LinkSpec": ".feature",
    "LinkTable": ".feature",
    "MailSpec": ".feature",
    "MailTable": ".feature",
    "Microsoft": ".social_login.providers",
    "MomentField": "..models",
    "OAuthAccess": ".oauth_server.verifying",
    "OAuthServer": ".oauth_server.feature",
    "Oidc": ".social_login.providers",
    "Outward": "..models.outward",
    "PageRoute": "..routes.pages.route",
    "Passkeys": ".passkeys.feature",
    "PersonalTokens": ".personal_tokens.feature",
    "Profile": ".social_login.profile",
    "Provider": ".social_login.providers",
    "RECENT_LOGIN": "..http.demands",
    "Reach": "..models",
    "Reader": ".feature",
    "SIGNED_IN": "..http.demands",
    "Settings": "..config",
    "SiteVerify": ".bot_check.services",
    "Slot": ".feature",
    "SocialLogin": ".social_login.feature",
    "Turnstile": ".bot_check.services",
    "Widget": ".bot_check.services",
    "documented": "..http.responses",
    "exact": "..models",
    "notify": "..flows.notices",
    "observed": "..flows.authentication",
    "rate_limited": "..http.rates",
    "render_page": "..routes.pages.rendering",
    "require_client": ".oauth_server.client_routes",
    "require_recent_login": "..flows.authentication",
    "see_other": "..routes.pages.rendering",
    "transactional": "..auth",
    "verify_oauth_token": ".oauth_server.verifying",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(import_module(_HOMES[name], __name__), name))
