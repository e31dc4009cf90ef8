"""All that invitations bring to an app, as one value."""

from collections.abc import Iterable
from pathlib import Path

from fastapi_pluggable_auth import Auth
from fastapi_pluggable_auth.features import AuthRouter, Feature, Slot
from fastapi_pluggable_auth.hooks import BeforeSignup, SigningUp

from .flows import count, require_code, spend_code
from .names import InvitationError, InvitationEventKind, InvitationMail, InvitationSettings
from .tables import ACCESS_ENDED, EXPIRED, Invitation


def _routers(auth: Auth) -> Iterable[AuthRouter]:
    from .routes import pages, router

    return [router, pages] if auth.pages else [router]


def invitations(settings: InvitationSettings | None = None) -> Feature:
    return Feature(
        name="invitations",
        settings=settings or InvitationSettings,
        errors=InvitationError,
        events=InvitationEventKind,
        hooks=((BeforeSignup, require_code), (SigningUp, spend_code)),
        mails=InvitationMail,
        tables=(Invitation,),
        expired=(EXPIRED,),
        access_ended=(ACCESS_ENDED,),
        rates={"invite": "10/hour"},
        routers=_routers,
        slots=(Slot(place="security", template="invitations_security.html", values=count),),
        templates=Path(__file__).parent / "templates",
        words=Path(__file__).parent / "words",
    )
