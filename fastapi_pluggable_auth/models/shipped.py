"""What every database has of the features of the package, as one chain of migrations makes their tables. Rows
expire and end there whether or not an app has the feature."""

from __future__ import annotations

from typing import Final

from tortoise import Model

from ..features.administration import models as administration
from ..features.audit_log import models as audit_log
from ..features.oauth_server import models as oauth_server
from ..features.passkeys import models as passkeys
from ..features.personal_tokens import models as personal_tokens
from ..features.social_login import models as social_login
from ..features.two_factor import models as two_factor
from .lifetimes import AccessEnded, Expired

TABLES: Final[tuple[type[Model], ...]] = (
    two_factor.RecoveryCode,
    personal_tokens.PersonalToken,
    audit_log.AuditEvent,
    passkeys.Passkey,
    social_login.Identity,
    oauth_server.OAuthClient,
    oauth_server.OAuthGrant,
    oauth_server.OAuthToken,
    oauth_server.OAuthDevice,
    oauth_server.OAuthClientToken,
)
EXPIRED: Final[tuple[Expired, ...]] = (
    personal_tokens.EXPIRED,
    audit_log.EXPIRED,
    *oauth_server.EXPIRED,
)
ACCESS_ENDED: Final[tuple[AccessEnded, ...]] = (
    *two_factor.ACCESS_ENDED,  # the account comes before what refers to it
    administration.ACCESS_ENDED,
    personal_tokens.ACCESS_ENDED,
    *passkeys.ACCESS_ENDED,
    *social_login.ACCESS_ENDED,
    oauth_server.ACCESS_ENDED,
    *audit_log.ACCESS_ENDED,
)
