"""Invitations: an account needs a code, which a user makes and which works once."""
