"""How the OAuth server refuses clients (RFC 6749 sections 4.1.2.1 and 5.2)."""

from __future__ import annotations

from ...errors import ErrorTable


class ProtocolError(ErrorTable):
    """The errors of the protocol: on the wire `error`, with the sentence as `error_description`."""

    INVALID_REQUEST = (400, "The request lacks a parameter, has one twice, or one that is not valid.")
    INVALID_CLIENT = (401, "The client is not known, or did not authenticate as it was registered.")
    INVALID_GRANT = (400, "The code or refresh token is not valid, has expired, or is of another client.")
    UNAUTHORIZED_CLIENT = (400, "The client may not do that.")
    UNSUPPORTED_GRANT_TYPE = (400, "The grant type is not one of this server.")
    UNSUPPORTED_RESPONSE_TYPE = (400, "The response type is not code.")
    INVALID_SCOPE = (400, "The scope is not known, or more than was allowed.")
    INVALID_TARGET = (400, "The resource is not one of this server.")
    ACCESS_DENIED = (403, "The user did not allow it.")
    LOGIN_REQUIRED = (400, "The user has to sign in.")
    CONSENT_REQUIRED = (400, "The user has to be asked.")
    AUTHORIZATION_PENDING = (400, "The user has not decided yet.")
    """RFC 8628 section 3.5, as the next two."""
    SLOW_DOWN = (400, "The user has not decided yet: ask five seconds less often from now on.")
    EXPIRED_TOKEN = (400, "The device code has expired: begin again.")
    INVALID_TOKEN = (401, "The token is not valid, or has expired.")
    """RFC 6750 section 3.1, as the next one."""
    INSUFFICIENT_SCOPE = (403, "The token is without a scope that this needs.")
    INVALID_REDIRECT_URI = (400, "A redirect URI is not one that a client may have.")
    """RFC 7591 section 3.2.2, as the next one."""
    INVALID_CLIENT_METADATA = (400, "What the client says of itself is not valid.")
