"""What is checked of the settings before an app serves with them."""

from __future__ import annotations

import logging

from ..config import AuthSettings, Settings
from .keys import KeyConfigurationError, check_keys, key_problems

logger = logging.getLogger(__name__)


class InsecureSettingsError(ValueError):
    """The settings would let anyone in."""


def check_settings(settings: AuthSettings) -> None:
    """Raises `InsecureSettingsError` for keys that others may know or that cannot sign, a public base URL
    without TLS, and the development mailbox on one; what is let pass on this machine is logged as a warning.
    """
    warnings = []
    for problem in key_problems(settings):
        if problem.refused:
            raise InsecureSettingsError(problem.sentence)
        warnings.append(problem.sentence)
    try:
        check_keys(settings)
    except KeyConfigurationError as error:
        raise InsecureSettingsError(str(error)) from error
    open_mailbox = settings.mailbox_problem()
    if open_mailbox is not None:
        raise InsecureSettingsError(open_mailbox)
    insecure_url = settings.base_url_problem()
    if insecure_url is not None and not settings.allow_http:
        raise InsecureSettingsError(insecure_url)
    doubtful = (settings.enumeration_problem(), settings.unverified_problem())
    for warning in filter(None, (*warnings, insecure_url, *doubtful)):
        logger.warning(warning)


def warn_of_ignored_names(settings: AuthSettings, *others: Settings) -> None:
    """Logs a warning for each variable that is meant for a setting and read by none; `others` are the
    settings of features."""
    for warning in settings.ignored_names(*others):
        logger.warning(warning)
