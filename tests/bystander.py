"""People with a row of every kind, who do nothing, and a look at what becomes of their rows."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import CodeType, FrameType
from typing import Any
from uuid import UUID, uuid4

from tortoise import Model, fields
from tortoise.fields.data import CharEnumFieldInstance

from fastapi_pluggable_auth import Auth
from fastapi_pluggable_auth.features.oauth_server.models import (
    ACCESS,
    CODE,
    DEVICE,
    DOCUMENT,
    OPERATOR,
    REFRESH,
    digest_of,
)
from fastapi_pluggable_auth.flows.throttle import Key
from fastapi_pluggable_auth.models import (
    AuditEvent,
    Identity,
    MailState,
    OAuthClient,
    OAuthClientToken,
    OAuthDevice,
    OAuthGrant,
    OAuthToken,
    Passkey,
    PersonalToken,
    RecoveryCode,
)
from fastapi_pluggable_auth.security.identifiers import time_ordered_id

from .flows_table import flow_functions

BOB, CAROL, DORA = "bob@example.com", "carol@example.com", "dora@example.com"
YEARS = timedelta(days=3650)


async def settle(auth: Auth, password_hash: str) -> None:
    """Bob, who uses everything; Carol, an administrator who acts as him, as he does as Dora; Dora, who is
    disabled and has only begun. What expires is good for years; all of it was made yesterday."""
    tables, now = auth.tables, auth.clock()
    day, far = now - timedelta(days=1), now + YEARS
    names = ("bob", "carol", "dora", "session", "ended", "carols", "of carol", "of bob", "device")
    ids = {name: uuid4() for name in names}
    bob, carol, dora = ids["bob"], ids["carol"], ids["dora"]
    own = {"hashed_password": password_hash, "created_at": day}
    await tables.user.create(
        id=bob,
        email=BOB,
        is_verified=True,
        roles=["editor"],
        permissions=["accounts:read", "accounts:impersonate", "notes:read"],
        display_name="Bob",
        pending_email="robert@example.com",
        pending_email_session=ids["session"],
        totp_secret=auth.totp_box.seal("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", bob),
        totp_confirmed=True,
        totp_last_step=4711,
        totp_enrolled_at=day,
        recovery_codes_at=day,
        sessions_opened=3,
        language="de",
        password_changed_at=day,
        last_login_at=day,
        verified_at=day,
        rehash_note="n" * 64,
        second_factors=["security_key"],
        **own,
    )
    await tables.user.create(id=carol, email=CAROL, is_verified=True, is_superuser=True, **own)
    await tables.user.create(
        id=dora,
        email=DORA,
        is_active=False,
        signup_binding="d" * 64,
        rehash_note="e" * 64,
        totp_secret=auth.totp_box.seal("KBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", dora),
        totp_enrolled_at=day,
        totp_pending_session=ids["of bob"],
        password_reset_required=True,
        **own,
    )
    sessions: list[tuple[str, UUID, dict[str, Any]]] = [
        ("session", bob, {"confirmed_gen": 3, "superseded": "1-2", "factors": "pwd otp"}),
        ("ended", bob, {"revoked_at": day}),
        ("carols", carol, {}),
        ("of carol", bob, {"impersonated_by": carol, "begun_in": ids["carols"]}),
        ("of bob", dora, {"impersonated_by": bob, "begun_in": ids["session"]}),
    ]
    moments = {"authenticated_at": day, "created_at": day, "expires_at": far}
    for name, user_id, columns in sessions:
        agent = {"user_agent": "Bob's browser", "address": "192.0.2.9"}
        await tables.session.create(id=ids[name], user_id=user_id, **moments, **agent, **columns)
    tokens: list[tuple[str | None, UUID, dict[str, Any]]] = [
        ("session", bob, {"gen": 3}),
        ("session", bob, {"revoked": True, "superseded": True, "gen": 2}),
        ("session", bob, {"revoked": True, "rotated_at": day, "replaced_by": str(uuid4()), "gen": 1}),
        ("ended", bob, {"revoked": True}),
        (None, bob, {}),
        *((name, user_id, {}) for name, user_id, _ in sessions[2:]),
    ]
    for owner, user_id, columns in tokens:
        session_id = None if owner is None else ids[owner]
        keys = {"id": time_ordered_id(day), "user_id": user_id, "session_id": session_id}
        await tables.refresh_token.create(
            token=f"{uuid4()}.of.bob", expires_at=far, created_at=day, **keys, **columns
        )
    for digest in ("1", "2"):
        await tables.of(RecoveryCode).create(user_id=bob, digest=digest * 64, created_at=day)
    for state in MailState:
        due = far if state in (MailState.WAITING, MailState.SENDING, MailState.HANDED_OVER) else None
        sent = day if state is MailState.SENT else None
        await tables.mail.create(
            user_id=bob,
            kind="password_changed",
            recipient=BOB,
            context={"when": "yesterday"},
            state=state,
            attempts=1,
            next_attempt_at=due,
            give_up_at=far,
            sent_at=sent,
            last_error="refused",
            created_at=far,
        )
    await tables.mail.create(
        user_id=None,
        kind="account_deleted",
        recipient=BOB,
        give_up_at=far,
        next_attempt_at=far,
        created_at=far,
    )
    for name, ends, used in (("build", far, day), ("for ever", None, None)):
        await tables.of(PersonalToken).create(
            user_id=bob,
            name=name,
            digest=name[0] * 64,
            scopes=["notes:read"],
            expires_at=ends,
            last_used_at=used,
            created_at=day,
        )
    for alone in (True, False):
        await tables.of(Passkey).create(
            user_id=bob,
            digest=("8" if alone else "9") * 64,
            credential_id="Ym9i" if alone else "Ym9iMg",
            public_key="a2V5",
            counter=7,
            transports=["internal"],
            aaguid=UUID(int=7),
            backup_eligible=alone,
            backed_up=alone,
            discoverable=alone,
            verifies_user=alone,
            held_since=None if alone else day,
            name="Bob's phone",
            last_used_at=day if alone else None,
            created_at=day,
        )
    for known in (True, False):
        await tables.of(Identity).create(
            user_id=bob,
            provider="acme",
            issuer="https://acme.example",
            subject="acme|4711" if known else "acme|4712",
            digest=("a" if known else "b") * 64,
            email=BOB if known else None,
            vouched=known,
            held_since=None if known else day,
            tokens="c2VhbGVk" if known else None,
            renewing_until=far if known else None,
            last_used_at=day if known else None,
            created_at=day,
        )
    await _connect(auth, bob, day, far)
    for digest, seen_in in (("3" * 64, ids["session"]), ("4" * 64, None)):
        await tables.device.create(
            id=ids["device"] if seen_in else uuid4(),
            user_id=bob,
            digest=digest,
            session_id=seen_in,
            user_agent="Bob's browser",
            trusted_at=day if seen_in else None,
            expires_at=far,
            last_used_at=day,
            created_at=day,
        )
    for user_id in (bob, None):
        await tables.pending.create(
            id=("5" if user_id else "6") * 64,
            user_id=user_id,
            kind="sign_in_challenge",
            binding="7" * 64 if user_id else None,
            data="{}",
            attempts=1,
            expires_at=far,
            spent_at=None if user_id else day,
        )
    counter = {"started_at": day, "blocked_until": far, "version": 3}
    on = {"passwords": bob, "codes": bob, "session": ids["session"], "device": ids["device"]}
    for what, whom in on.items():
        (row_id,) = Key.of(what, whom).ids
        await tables.throttle.create(id=row_id, count=7, details='{"networks": {}}', **counter)
    await tables.throttle.create(id="shared 5000 1", holder="6" * 64, count=2, **counter)
    for actor_id in (None, carol):
        await tables.of(AuditEvent).create(
            id=time_ordered_id(far),
            time=day,
            user_id=bob,
            actor_id=actor_id,
            session_id=actor_id and ids["of carol"],
            kind="login",
            outcome="failure",
            reason="invalid_credentials" if actor_id is None else None,
            factors="pwd",
            address="192.0.2.9",
            user_agent="Bob's browser",
        )


async def _connect(auth: Auth, bob: UUID, day: datetime, far: datetime) -> None:
    """Applications of Bob's, one of them refused since, with tokens of each kind."""
    for known in (True, False):
        client_id = "https://tool.example/client.json" if known else "c_bobs"
        client = await auth.tables.of(OAuthClient).create(
            client_id=client_id,
            digest=digest_of(client_id),
            name="Bob's tool",
            client_uri="https://tool.example/" if known else None,
            redirect_uris=["https://tool.example/callback"],
            scopes=None if known else ["notes:read"],
            secret_digest=None if known else "e" * 64,
            registration_digest=None if known else "f" * 64,
            origin=DOCUMENT if known else OPERATOR,
            fetched_at=day if known else None,
            fresh_until=far if known else None,
            disabled_at=None if known else day,
            last_used_at=day if known else None,
            created_at=day,
        )
        same = {"user_id": bob, "scopes": ["notes:read"], "expires_at": far, "created_at": day}
        await auth.tables.of(OAuthDevice).create(
            **{**same, "user_id": bob if known else None},
            client_id=client.id,
            digest=digest_of(f"device {known}"),
            user_code_digest=digest_of(f"user code {known}"),
            asked_at=day if known else None,
            allowed_at=day if known else None,
            denied_at=None if known else day,
        )
        await auth.tables.of(OAuthClientToken).create(
            client_id=client.id,
            digest=digest_of(f"own {known}"),
            scopes=["notes:read"],
            expires_at=far,
            created_at=day,
        )
        grant = await auth.tables.of(OAuthGrant).create(
            client_id=client.id,
            resources=["http://localhost:8000/api"],
            authorized_at=day,
            last_used_at=day if known else None,
            **same,
        )
        for kind in (CODE, DEVICE, ACCESS, REFRESH):
            await auth.tables.of(OAuthToken).create(
                grant_id=grant.id,
                kind=kind,
                digest=digest_of(f"{kind} {known}"),
                resources=["http://localhost:8000/api"],
                details="{}" if kind in (CODE, DEVICE) else None,
                parent=None if kind in (CODE, DEVICE) else digest_of("code"),
                superseded=kind == ACCESS and not known,
                spent_at=None if kind == ACCESS else day,
                used_at=day if kind == ACCESS else None,
                **same,
            )


def lacking(model: type[Model], rows: Iterable[Model]) -> list[str]:
    """Of which columns these rows have only one kind of value: no empty one, no other state, and so on."""
    rows, found = [*rows], []
    for name in model._meta.fields_db_projection:
        field, values = model._meta.fields_map[name], [getattr(row, name) for row in rows]
        kinds: set[object] = set()
        if isinstance(field, fields.BooleanField):
            kinds = {True, False} - {*values}
        elif isinstance(field, CharEnumFieldInstance):
            kinds = {*field.enum_type} - {*values}
        elif field.null:
            kinds = {True, False} - {value is None for value in values}
        if kinds or not values:
            found.append(f"{model._meta.db_table}.{name}")
    return found


class Rows:
    """The rows of the bystanders as the database has them."""

    def __init__(self, auth: Auth, dialect: str) -> None:
        self._auth = auth
        self._quote = "`" if dialect == "mysql" else '"'
        self._kept: dict[tuple[str, str], str] = {}
        self._names: set[str] = set()

    async def keep(self) -> None:
        """What there is now is theirs."""
        self._kept = await self._all()
        users = await self._auth.tables.user.all()
        self._names = {str(user.id) for user in users} | {user.email for user in users}

    async def changes(self) -> list[str]:
        """Their rows that are gone or not what they were, and rows that have come to them."""
        now = await self._all()
        changed = [
            f"{key}: {row}\n  is {now.get(key)}" for key, row in self._kept.items() if now.get(key) != row
        ]
        new = {key: row for key, row in now.items() if key not in self._kept}
        return changed + [
            f"{key}: new: {row}" for key, row in new.items() if any(n in row for n in self._names)
        ]

    async def _all(self) -> dict[tuple[str, str], str]:
        found = {}
        for model in self._auth.tables:
            table = model._meta.db_table
            statement = f"SELECT * FROM {self._quote}{table}{self._quote}"
            for row in await model._meta.db.execute_query_dict(statement):
                found[table, str(row["id"])] = _text(row)
        return found


def _text(row: Mapping[str, Any]) -> str:
    plain = {name: str(value) if isinstance(value, UUID | datetime) else value for name, value in row.items()}
    return repr(plain)


class Called:
    """Which flows were called."""

    def __init__(self) -> None:
        self._codes: dict[CodeType, str] = {
            inspect.unwrap(function).__code__: f"{module}.{function.__name__}"
            for module, function in flow_functions()
        }
        self.names: set[str] = set()

    @property
    def missing(self) -> set[str]:
        """Those that were not."""
        return {*self._codes.values()} - self.names

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Notices what is called inside."""
        codes, names = self._codes, self.names

        def notice(frame: FrameType, event: str, _: object) -> None:
            if event == "call" and frame.f_code in codes:
                names.add(codes[frame.f_code])

        before: Callable[..., Any] | None = sys.getprofile()
        sys.setprofile(notice)
        try:
            yield
        finally:
            sys.setprofile(before)
