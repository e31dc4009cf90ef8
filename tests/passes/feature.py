"""What it brings to an app."""

from __future__ import annotations

from fastapi_pluggable_auth.features.feature import Feature

from .models import Door, Pass

PASSES = Feature(name="passes", tables=(Door, Pass))
