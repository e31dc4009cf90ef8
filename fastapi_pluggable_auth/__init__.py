"""Complete accounts for a FastAPI app on Tortoise ORM."""

from .auth import Auth
from .config import AuthSettings
from .dependencies import (
    CurrentUser,
    PageUser,
    RecentUser,
    current_user_or_redirect,
    get_current_user,
    get_recent_user,
)
from .errors import AuthError, ErrorCode, Refused
from .events import SecurityEvent
from .plugin import InsecureSettingsError, include_auth

__all__ = [
    "Auth",
    "AuthError",
    "AuthSettings",
    "CurrentUser",
    "ErrorCode",
    "InsecureSettingsError",
    "PageUser",
    "RecentUser",
    "Refused",
    "SecurityEvent",
    "current_user_or_redirect",
    "get_current_user",
    "get_recent_user",
    "include_auth",
]
