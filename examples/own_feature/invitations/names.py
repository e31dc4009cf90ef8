"""The setting, the error code, the event and the mail of invitations."""

from pydantic import Field

from fastapi_pluggable_auth.features import ErrorTable, EventTable, MailSpec, MailTable, Settings


class InvitationSettings(Settings):
    invitation_days: int = Field(default=7, ge=1)


class InvitationError(ErrorTable):
    INVITATION_REFUSED = (403, "This invitation is used, expired or mistyped: ask for another one.")


class InvitationEventKind(EventTable):
    INVITATION = "invitation"


class InvitationMail(MailTable):
    INVITATION_USED = ("invitation_used", MailSpec(page="security", sample={"guest": "eve@example.com"}))
