"""The routes of two-factor, under the name by which apps import them."""

from __future__ import annotations

from ..features.two_factor.routes import disable_two_factor, router

__all__ = ["disable_two_factor", "router"]
