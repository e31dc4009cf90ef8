"""Complete accounts for a FastAPI app on Tortoise ORM."""

from .auth import Auth
from .config import AuthSettings
from .dependencies import CurrentUser, RecentUser, get_current_user, get_recent_user
from .errors import AuthError, ErrorCode
from .events import SecurityEvent
from .plugin import InsecureSettingsError, include_auth

__all__ = [
    "Auth",
    "AuthError",
    "AuthSettings",
    "CurrentUser",
    "ErrorCode",
    "InsecureSettingsError",
    "RecentUser",
    "SecurityEvent",
    "get_current_user",
    "get_recent_user",
    "include_auth",
]
