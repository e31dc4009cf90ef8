"""Mails that leave through a task queue: taskiq on Redis.

The queue carries the id of a mail, no link and no address. What the queue loses is handed over again, and
what cannot be sent goes back to the outbox, which tries it later: the queue needs no retries.
"""

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import ModuleType
from uuid import UUID

from fastapi import FastAPI
from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import ListQueueBroker
from tortoise import Tortoise
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import include_auth

DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite://app.sqlite3")
MODELS: dict[str, Iterable[str | ModuleType]] = {"models": ["fastapi_pluggable_auth.models"]}

broker = ListQueueBroker(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"), queue_name="mails")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with RegisterTortoise(app, db_url=DATABASE_URL, modules=MODELS, generate_schemas=True):
        await broker.startup()
        yield
        await broker.shutdown()


async def hand_over(mail_id: UUID) -> None:
    await send_mail.kiq(str(mail_id))


app = FastAPI(lifespan=lifespan)
auth = include_auth(app, send_email=hand_over)


# The worker


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_database(state: TaskiqState) -> None:
    state.tortoise = await Tortoise.init(db_url=DATABASE_URL, modules=MODELS)


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_all(state: TaskiqState) -> None:
    await auth.close()
    await state.tortoise.close_connections()


@broker.task
async def send_mail(mail_id: str) -> None:
    await auth.dispatcher.deliver([mail_id])
