"""The features that come with the package."""

from __future__ import annotations

from typing import Final

from .administration.feature import Administration
from .always import ALWAYS
from .audit_log.feature import AuditLog
from .bot_check.feature import BotCheck
from .bot_check.services import Turnstile
from .email_sign_in.feature import EmailSignIn
from .feature import Feature
from .oauth_server.feature import OAuthServer
from .passkeys.feature import Passkeys
from .personal_tokens.feature import PersonalTokens
from .social_login.feature import SocialLogin

SHIPPED: Final[tuple[Feature, ...]] = (
    *ALWAYS,
    PersonalTokens(scopes={}),
    AuditLog(),
    Administration(),
    Passkeys(),
    SocialLogin(),
    EmailSignIn(),
    BotCheck(Turnstile()),
    OAuthServer(resources=()),
)
