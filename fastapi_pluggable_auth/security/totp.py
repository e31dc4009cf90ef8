"""Time-based one-time passwords (RFC 6238): six digits, 30 second steps, one step either side."""

from __future__ import annotations

import base64
import hmac
import io
import re
from datetime import datetime
from typing import Final

import pyotp

from .. import config
from .clock import utc_now
from .text import without_blanks

STEP_SECONDS: Final = 30
WINDOW: Final = 1
LEAST_BITS: Final = 112
_SIX_DIGITS: Final = re.compile(r"[0-9]{6}")


def generate_totp_secret() -> str:
    """A fresh secret: 160 random bits as 32 base32 characters (RFC 4226 section 4, R6)."""
    return pyotp.random_base32(32)


def totp_uri(secret: str, email: str, issuer: str | None = None) -> str:
    """The `otpauth` address that authenticator apps read."""
    return pyotp.TOTP(secret).provisioning_uri(
        name=email, issuer_name=config.settings.app_name if issuer is None else issuer
    )


def code_at(secret: str, moment: datetime) -> str:
    """The code of this moment."""
    return pyotp.TOTP(secret).at(moment)


def matching_step(secret: str, code: str, now: datetime, after: int | None = None) -> int | None:
    """The time step that the code belongs to, or None. Steps up to `after` are spent and never match.
    Raises `ValueError` when the secret is not base32, or has less than `LEAST_BITS` (NIST SP 800-63B-4)."""
    if not isinstance(code, str) or not _SIX_DIGITS.fullmatch(code := without_blanks(code)):
        return None
    totp = pyotp.TOTP(secret)
    if 8 * len(totp.byte_secret()) < LEAST_BITS:  # pyotp refuses it only from 2.12 on
        raise ValueError(f"The TOTP secret has less than {LEAST_BITS} bits.")
    current = int(now.timestamp()) // STEP_SECONDS
    for step in range(current - WINDOW, current + WINDOW + 1):
        right = hmac.compare_digest(totp.generate_otp(step), code)
        if right and (after is None or step > after):
            return step
    return None


def verify_code(secret: str, code: str) -> bool:
    """Whether the code is right now. It does not remember that a code was used; the flows do."""
    return matching_step(secret, code, utc_now()) is not None


def secret_qr_base64(uri: str) -> str:
    """A QR code of the address: a PNG in base64. Takes some 20 ms of CPU."""
    import qrcode  # here, as few processes need what takes 15 ms to import

    buffer = io.BytesIO()
    qrcode.make(uri).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()
