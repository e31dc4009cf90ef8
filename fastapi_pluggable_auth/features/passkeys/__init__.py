"""Passkeys (WebAuthn): signing in without a password, and a second factor that no look-alike site gets."""
