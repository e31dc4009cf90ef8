"""What the kernel and the features of the package have together."""

from __future__ import annotations

from fastapi_pluggable_auth.email.kinds import mails_of
from fastapi_pluggable_auth.features.feature import Features
from fastapi_pluggable_auth.features.shipped import SHIPPED

FEATURES = Features(SHIPPED)
ALL_CODES = [*FEATURES.errors.values()]
ALL_EVENT_KINDS = [*FEATURES.events.values()]
ALL_MAILS = [*mails_of(FEATURES).values()]
FEATURE_SETTINGS = {name: type(own) for own in FEATURES.settings for name in type(own).model_fields}
"""The class of each setting of a feature."""

PAGES = {kind: kind.spec.page for kind in ALL_MAILS if kind.spec.page}
LINK_PATHS = {kind: kind.spec.link.spec.path for kind in ALL_MAILS if kind.spec.link}
