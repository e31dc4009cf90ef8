"""`include_auth`: plugs the library into an app."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI
from starlette.routing import Mount, Route
from starlette.types import Lifespan
from tortoise.exceptions import ConfigurationError

from . import advice, config
from .arguments import require_instance, require_subclass
from .auth import Auth
from .config import AuthSettings
from .database import current_context
from .dependencies import require_way_in
from .email.base import EmailProvider
from .email.dispatcher import SendEmail
from .email.local import MemoryProvider
from .email.template_check import check_templates
from .email.template_folders import has_own_templates
from .failures import PoolerError
from .features.feature import Feature
from .flows.purge import keep_purging
from .http.stack import HANDLERS, wrap
from .lookup import STATE_ATTRIBUTE
from .models import (
    AbstractUser,
    User,
    require_one_connection,
    require_own_tables,
    require_own_tables_to_make,
    tables_for,
)
from .models.user import U
from .openapi import complete_document
from .poolers import PoolerWatch
from .readiness import TablesWatch
from .routes import (
    account,
    confirmation,
    core,
    devices,
    email,
    export,
    former_links,
    keys,
    password,
    sessions,
)
from .routes.bodies import bodies_of, mounted_bodies, own_body, profile_columns
from .routes.pages import strength
from .routes.router import AuthRouter
from .schemas import ProfileUpdate, UserCreate, UserOut
from .security.clock import Clock, utc_now
from .security.startup import InsecureSettingsError as InsecureSettingsError
from .security.startup import check_settings, warn_of_ignored_names
from .words.texts import check_languages

logger = logging.getLogger(__name__)

ROUTERS = (
    *(
        core.router,
        confirmation.router,
        email.router,
        password.router,
        sessions.router,
        devices.router,
        account.router,
        export.router,
    ),
    strength.router,  # asked by the pages of mailed links, which every app has
)


def include_auth(
    app: FastAPI,
    *,
    settings: AuthSettings | None = None,
    settings_override: AuthSettings | None = None,
    user_model: type[U] = User,  # type: ignore[assignment]  # where no other is named
    user_out: type[UserOut] | None = None,
    user_create: type[UserCreate] | None = None,
    profile_update: type[ProfileUpdate] | None = None,
    clock: Clock = utc_now,
    email_provider: EmailProvider | None = None,
    send_email: SendEmail | None = None,
    require_two_factor: Callable[[U], bool] | None = None,
    trust_device: Callable[[U], bool] | None = None,
    limiter: Any = None,
    pages: bool = False,
    roles: Mapping[str, str | Iterable[str]] | None = None,
    features: Collection[Feature] = (),
) -> Auth[U]:
    """Adds the routes under `/auth` and `/account`, the public keys, error handling, and mail delivery.

    `app`: the app; others that are mounted in it find its `Auth` too, unless they have one.
    `settings`: by default those of the environment.
    `settings_override`: another name for `settings`.
    `user_model`: a subclass of `AbstractUser` with columns of the app.
    `user_out`: what the app shows of an account.
    `user_create`: what a signup sends.
    `profile_update`: what a change of the profile sends.
    `clock`: what time it is, UTC; for tests.
    `email_provider`: sends mail, in place of the one that the settings name.
    `send_email`: gives the id of each mail to a task queue, whose worker sends it by
        `auth.dispatcher.deliver([id])`.
    `require_two_factor`: for which users two-factor is a must; the setting of that name is for all.
    `trust_device`: which users may have trusted devices, where TRUSTED_DEVICE_TTL is not 0.
    `limiter`: a strategy of the `limits` package or a SlowAPI `Limiter`, which counts requests per client.
    `pages`: adds the account pages and, like the setting `cookies`, gives browsers their tokens in cookies.
    `roles`: the permissions that each role has; users can then have no other role.
    `features`: what else the app has, such as `Administration()`; those of the package are in
        `fastapi_pluggable_auth.features`.

    Returns the app's `Auth`, also kept on `app.state`. Raises `RuntimeError` where the app has an `Auth` or
    has started already; `InsecureSettingsError` for a placeholder or short JWT secret, for a base URL without
    TLS and for the development mailbox, unless the app is local; `ValueError` for bodies that do not fit the
    user model, for a role or permission that is not a name (RFC 6749 section 3.3), and for features that do
    not go together; `TemplateError`
    for a mail of the app that cannot be rendered.
    """
    require_instance("app", app, FastAPI, "pass what `FastAPI(...)` made, no router and no factory.")
    if hasattr(app.state, STATE_ATTRIBUTE):
        raise RuntimeError(
            "include_auth was called for this app before: call it once, with all that it is to do, and use "
            "the Auth that it returns, which is app.state.pluggable_auth as well."
        )
    if app.middleware_stack is not None:
        raise RuntimeError("include_auth came too late: call it before the app starts, not in its lifespan.")
    if settings is not None and settings_override is not None:
        raise TypeError("settings and settings_override are one and the same: pass settings alone.")
    chosen = settings or settings_override or config.settings
    require_instance("settings", chosen, AuthSettings, "write settings=AuthSettings(...).")
    require_subclass("user_model", user_model, AbstractUser)
    for name, body, wanted in (
        ("user_out", user_out, UserOut),
        ("user_create", user_create, UserCreate),
        ("profile_update", profile_update, ProfileUpdate),
    ):
        if body is not None:
            require_subclass(name, body, wanted)
    require_way_in(app)
    check_settings(chosen)
    check_languages(chosen)
    bodies = bodies_of(tables_for(user_model).user, user_out, user_create, profile_update)
    auth = Auth(
        chosen,
        user_model=user_model,
        clock=clock,
        email_provider=email_provider,
        send_email=send_email,
        require_two_factor=require_two_factor,
        trust_device=trust_device,
        limiter=limiter,
        pages=pages,
        roles=roles,
        features=features,
        profile_columns=profile_columns(bodies),
        bodies=bodies,
    )
    warn_of_ignored_names(chosen, *auth.features.settings)
    if has_own_templates(chosen.template_dir):
        check_templates(chosen, auth.features)
    if chosen.dev_mailbox and not isinstance(auth.mailer.provider, MemoryProvider):
        raise ValueError("AUTH_DEV_MAILBOX shows the mails of AUTH_EMAIL_PROVIDER=memory only.")
    setattr(app.state, STATE_ATTRIBUTE, auth)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with running(auth):
            yield

    app.router.lifespan_context = _naming_clashes(app.router.lifespan_context, auth)
    routers = _routers(auth, pages=pages)
    _warn_of_hidden(app, routers, chosen.route_prefix)
    mounted = mounted_bodies(bodies, auth.features)
    for router in routers:
        router.add_to(app.router, chosen.route_prefix, mounted)
    # An included router starts after the app's own lifespan has, so that Tortoise is there whichever of them
    # opens it.
    app.include_router(APIRouter(lifespan=lifespan))
    keys.router.add_to(app.router)
    former_links.router.add_to(app.router, chosen.route_prefix)
    if pages:
        from .routes.pages import well_known

        well_known.router.add_to(app.router)
    if chosen.dev_mailbox:
        from .routes import mailbox

        mailbox.router.add_to(app.router)
    for exception, handler in HANDLERS.items():
        if exception not in app.exception_handlers:
            app.add_exception_handler(exception, handler)
    if auth.uses_cookies and not chosen.is_https:
        logger.warning(
            "AUTH_PUBLIC_BASE_URL is not https: cookies are set without Secure. For development only."
        )
    tags = {str(tag): router.about for router in routers if router.about for tag in router.tags}
    describe = partial(complete_document, app, auth, tags, _docs_login(app, chosen))
    describe()
    wrap(app, auth, starting=describe)
    return auth


def _naming_clashes(starting: Lifespan[Any], auth: Auth) -> Lifespan[Any]:
    """The app's own lifespan, whose `generate_schemas` would only speak of cyclic references."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            try:
                state = await stack.enter_async_context(starting(app))
            except ConfigurationError as error:
                if "cyclic" in str(error):
                    context = current_context()
                    require_own_tables_to_make(auth.tables, context and context.apps)
                raise
            yield state

    return lifespan


@asynccontextmanager
async def running(auth: Auth) -> AsyncIterator[None]:
    """Delivers mail and purges expired rows in the background while the app runs. Raises `RuntimeError` where
    Tortoise was initialised without the models or a router sends them elsewhere, and behind a pooler that
    mixes up prepared statements."""
    if (context := current_context()) is not None:
        require_own_tables(auth.tables, context.apps)
    auth.tortoise_context = context
    unknown = [model.__name__ for model in auth.tables if model._meta.app is None]
    if auth.tortoise_context is not None and unknown:
        raise RuntimeError(
            f"Tortoise ORM does not know {', '.join(unknown)}. Name the module of the user model, and those "
            f"of the tables of your features, in `modules`; where the user is your own, list its tables "
            f"there: `__models__ = [*tables_for(User)]`"
        )
    if auth.tortoise_context is not None:
        require_one_connection(auth.tables)
        # Another start may be on another database.
        auth.pooler, auth.tables_watch = PoolerWatch(auth.tables.user), TablesWatch(auth.tables)
        try:
            await auth.pooler.look()
        except PoolerError as error:
            raise RuntimeError(str(error)) from error
    advice.warn(auth)
    stop, purging = asyncio.Event(), None
    if auth.tortoise_context is None:
        logger.warning("Tortoise ORM was not initialised at start-up; mail is sent after each response only")
    else:
        purging = asyncio.create_task(keep_purging(auth, stop), name="purge")
        if auth.settings.deliver_mail:
            auth.dispatcher.start()
    try:
        yield
    finally:
        stop.set()
        await auth.dispatcher.stop()
        if purging is not None:
            purging.cancel()
            await asyncio.gather(purging, return_exceptions=True)
        auth.tortoise_context = None
        await auth.close()


def _warn_of_hidden(app: FastAPI, routers: Iterable[AuthRouter], prefix: str) -> None:
    earlier = [
        route
        for route in app.routes
        if isinstance(route, Route | Mount) or hasattr(route, "original_router")  # one that was included
    ]
    if hidden := [route for router in routers for route in router.hidden_by(earlier, prefix)]:
        others = f" and {len(hidden) - 1} others" if len(hidden) > 1 else ""
        logger.warning(
            "%s%s are never reached: a route of the app that comes before include_auth answers there. Call "
            "include_auth first, or give that route another path.",
            hidden[0],
            others,
        )


def _docs_login(app: FastAPI, settings: AuthSettings) -> str | None:
    """Adds the form behind "Authorize" of `/docs` to an app of this machine, and gives its path there."""
    if app.openapi_url is None or not settings.is_local:
        return None
    from .routes import docs_login

    docs_login.router.add_to(app.router, settings.route_prefix)
    return urlsplit(settings.public_url(docs_login.PATH)).path


def _routers(auth: Auth, *, pages: bool) -> list[AuthRouter]:
    """Those of features come last, so that none takes the address of a page. Raises `ValueError` for one that
    has such an address, and `TypeError` for one that is not of the library's kind.

    Pages, which not every app has, are imported here: together they take longer than all others."""
    routers = [*ROUTERS]
    if pages:
        from .routes.pages import confirmation as confirmation_pages
        from .routes.pages import delete, link_request, own_fields, profile, security, sign_in, sign_up

        for body in (UserCreate, ProfileUpdate):
            own_fields.own_fields(own_body(body, auth.bodies), auth.tables.user)
        pages_of_all = (sign_in, confirmation_pages, sign_up, link_request, profile, security, delete)
        routers += (page.router for page in pages_of_all)
    for feature in auth.features:
        for made in feature.routers(auth) if feature.routers is not None else ():
            require_instance(f"routers of {feature.name}", made, AuthRouter, "make them with AuthRouter.")
            router = cast(AuthRouter, made)
            for earlier in routers:
                earlier.require_room_for(router, f"the feature {feature.name}")
            routers.append(router)
    return routers
