"""Complete accounts for a FastAPI app on Tortoise ORM."""

from .auth import Auth
from .authorization import OptionalUser, Superuser, get_optional_user, require
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
from .flows.login import Challenge, open_session
from .http.csrf import csrf_token
from .plugin import InsecureSettingsError, include_auth
from .websocket import CurrentWebSocketUser, get_websocket_user, still_signed_in

__all__ = [
    "Auth",
    "AuthError",
    "AuthSettings",
    "Challenge",
    "CurrentUser",
    "CurrentWebSocketUser",
    "ErrorCode",
    "InsecureSettingsError",
    "OptionalUser",
    "PageUser",
    "RecentUser",
    "Refused",
    "SecurityEvent",
    "Superuser",
    "csrf_token",
    "current_user_or_redirect",
    "get_current_user",
    "get_optional_user",
    "get_recent_user",
    "get_websocket_user",
    "include_auth",
    "open_session",
    "require",
    "still_signed_in",
]
