"""What engines with the protocol of PostgreSQL may lack has another way, where there is one. None of them can
be installed here: PostgreSQL stands in, behind a proxy that misspells what it is to know nothing of."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.features import Administration
from fastapi_pluggable_auth.features.administration.users import list_users
from fastapi_pluggable_auth.models import User

from .conftest import EMAIL, SECRET
from .proxy import Proxy
from .spare_database import SpareDatabase

LACKS = (b"SKIP LOCKED", b"LOCK TABLE", b"pg_advisory_xact_lock", b"plan_cache_mode", b"pg_is_in_recovery")


@pytest.mark.parametrize("spare", ["postgres"], indirect=True)
@pytest.mark.parametrize("lacks", [LACKS, (b"lock_timeout",)], ids=["much", "lock_timeout"])
async def test_the_tables_are_made_mails_claimed_once_and_accounts_listed(
    lacks: tuple[bytes, ...], spare: SpareDatabase
) -> None:
    await spare.create()
    with Proxy(spare.url) as proxy:
        proxy.unknown = lacks
        engine = SpareDatabase(spare.dialect, proxy.url)
        await engine.migrate()
        settings = AuthSettings(_env_file=None, jwt_secret=SECRET)
        auth, other = (Auth(settings, features=[Administration()]) for _ in range(2))
        async with engine.opened():
            user = await User.create(email=EMAIL, hashed_password="")
            for _ in range(20):
                await auth.outbox.add(MailKind.PASSWORD_CHANGED, EMAIL, user_id=user.id, when="now")
            for expected in (20, 0):
                claims = [each.outbox.claim(3) for each in (auth, other) for _ in range(4)]
                claimed = [mail.id for mails in await asyncio.gather(*claims) for mail in mails]
                claimed += [mail.id for mail in await auth.outbox.claim(20)]
                assert len(claimed) == len({*claimed}) == expected
            assert [found.email for found in (await list_users(auth, search="ad")).users] == [EMAIL]
            assert await auth.ready()
        for each in (auth, other):
            await each.close()
