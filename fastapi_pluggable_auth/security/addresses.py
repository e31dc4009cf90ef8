"""E-mail addresses in one spelling (RFC 5321, RFC 6531): one mailbox, one account."""

from __future__ import annotations


def normalise_email(address: str) -> str:
    """The address in Unicode normal form, lower-cased; dots and plus tags are kept. Raises `ValueError`."""
    # Here, as it takes 20 ms to import, and an app starts without an address.
    from email_validator import EmailNotValidError, validate_email

    try:
        valid = validate_email(address, check_deliverability=False, strict=True)
    except EmailNotValidError as error:
        raise ValueError("not a valid e-mail address") from error
    return valid.normalized.lower()
