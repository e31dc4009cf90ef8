"""Signing in by mail: with a code, or by a link."""
