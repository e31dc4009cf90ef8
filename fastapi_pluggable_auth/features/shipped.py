"""The features that come with the package."""

from __future__ import annotations

from typing import Final

from .administration.feature import Administration
from .always import ALWAYS
from .audit_log.feature import AuditLog
from .email_sign_in.feature import EmailSignIn
from .feature import Feature
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
)
