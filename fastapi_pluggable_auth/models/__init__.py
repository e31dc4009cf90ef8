"""The tables. Abstract bases hold the columns; the concrete classes beside them are what apps use.

Tortoise reads the source of each model for comments: small files take it 6 ms of an app's start, one took 35.
"""

from ..features.audit_log.models import AbstractAuditEvent, AuditEvent
from ..features.oauth_server.models import (
    AbstractOAuthClient,
    AbstractOAuthClientToken,
    AbstractOAuthDevice,
    AbstractOAuthGrant,
    AbstractOAuthToken,
    OAuthClient,
    OAuthClientToken,
    OAuthDevice,
    OAuthGrant,
    OAuthToken,
)
from ..features.passkeys.models import AbstractPasskey, Passkey
from ..features.personal_tokens.models import AbstractPersonalToken, PersonalToken
from ..features.social_login.models import AbstractIdentity, Identity
from ..features.two_factor.models import AbstractRecoveryCode, RecoveryCode
from .clashes import require_own_tables, require_own_tables_to_make
from .columns import (
    EMAIL_LENGTH,
    EmailField,
    NamesField,
    TokenDigestField,
    TotpSecretField,
    UsernameField,
    stored_totp_secret,
    token_digest,
)
from .device import AbstractDevice, Device
from .lifetimes import ALL_ACCESS, AccessEnded, End, Expired, Reach
from .lookups import among, every, exact, matching
from .mail import AbstractMail, Mail, MailState
from .moments import MomentField
from .pending import AbstractPending, Pending
from .routed import require_one_connection
from .session import AbstractRefreshToken, AbstractSession, RefreshToken, Session
from .tables import Tables, tables_for
from .throttle import AbstractThrottle, Throttle
from .user import AbstractUser, User

__all__ = [
    "ALL_ACCESS",
    "EMAIL_LENGTH",
    "AbstractAuditEvent",
    "AbstractDevice",
    "AbstractIdentity",
    "AbstractMail",
    "AbstractOAuthClient",
    "AbstractOAuthClientToken",
    "AbstractOAuthDevice",
    "AbstractOAuthGrant",
    "AbstractOAuthToken",
    "AbstractPasskey",
    "AbstractPending",
    "AbstractPersonalToken",
    "AbstractRecoveryCode",
    "AbstractRefreshToken",
    "AbstractSession",
    "AbstractThrottle",
    "AbstractUser",
    "AccessEnded",
    "AuditEvent",
    "Device",
    "EmailField",
    "End",
    "Expired",
    "Identity",
    "Mail",
    "MailState",
    "MomentField",
    "NamesField",
    "OAuthClient",
    "OAuthClientToken",
    "OAuthDevice",
    "OAuthGrant",
    "OAuthToken",
    "Passkey",
    "Pending",
    "PersonalToken",
    "Reach",
    "RecoveryCode",
    "RefreshToken",
    "Session",
    "Tables",
    "Throttle",
    "TokenDigestField",
    "TotpSecretField",
    "User",
    "UsernameField",
    "among",
    "every",
    "exact",
    "matching",
    "require_one_connection",
    "require_own_tables",
    "require_own_tables_to_make",
    "stored_totp_secret",
    "tables_for",
    "token_digest",
]
