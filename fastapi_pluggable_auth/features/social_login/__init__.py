"""Signing in at others: Google, GitHub, and any provider of OpenID Connect."""
