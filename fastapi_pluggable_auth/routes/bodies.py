"""The bodies of one app: those of the package, or the subclasses that the host passes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import update_wrapper
from types import FunctionType, UnionType
from typing import Annotated, Any, ClassVar, Final, Self, TypeAlias, Union, cast, get_args, get_origin

from pydantic import BaseModel, Field, create_model, model_validator
from pydantic_core import PydanticCustomError

from ..arguments import require_instance
from ..auth import Auth
from ..errors import Code
from ..features.feature import Answer, Features, FirstWayIn, Guard, SignUp
from ..models import AbstractUser
from ..schemas import (
    Answering,
    Body,
    EmailRequest,
    Flag,
    LoginData,
    NamedLoginData,
    NamedUserCreate,
    NamedUserOut,
    ProfileUpdate,
    Reauthentication,
    SignedUp,
    UserCreate,
    UserOut,
    VerificationRequest,
)
from .body_checks import named_by, require_fitting_bodies

Bodies: TypeAlias = Mapping[type[BaseModel], type[BaseModel]]
"""What stands in for a body of the package, in this app only."""

MAILED_CODE: Final = "mailed_code"
"""The field of a body that asks for a code in the mail that it causes."""


def bodies_of(
    user_model: type[AbstractUser],
    user_out: type[UserOut] | None,
    user_create: type[UserCreate] | None,
    profile_update: type[ProfileUpdate] | None,
) -> Bodies:
    """The bodies of an app with this user model. Raises `ValueError` where they do not fit it."""
    named = "username" in user_model._meta.fields_map
    out = user_out or (NamedUserOut if named else UserOut)
    create = user_create or (NamedUserCreate if named else UserCreate)
    update = profile_update or ProfileUpdate
    require_fitting_bodies(user_model, out, create, update)
    chosen: dict[type[BaseModel], type[BaseModel]] = {
        UserOut: out,
        UserCreate: create,
        ProfileUpdate: update,
        LoginData: NamedLoginData if named else LoginData,
    }
    return {body: own for body, own in chosen.items() if own is not body}


def profile_columns(bodies: Bodies) -> frozenset[str]:
    """What users of this app fill in themselves, when they sign up or later."""
    return named_by(own_body(UserCreate, bodies)) | named_by(own_body(ProfileUpdate, bodies))


def columns_of(body: BaseModel, *, given: bool = False) -> dict[str, Any]:
    """What a body says of columns, or only what the client has `given`. Aliases are for clients, and what a
    serializer adds no client may say."""
    left_out = {"email", "password", MAILED_CODE, *getattr(body, "_ways", ()), *getattr(body, "_asked", ())}
    values = body.model_dump(by_alias=False, exclude=left_out, exclude_unset=given, warnings=False)
    return {name: value for name, value in values.items() if name in named_by(type(body))}


def mounted_bodies(bodies: Bodies, features: Features) -> Bodies:
    """Those that routes take, with what features add to them beside the host."""
    made: dict[type[BaseModel], type[BaseModel]] = {**bodies}
    if features.answers:
        answering: tuple[type[BaseModel], ...] = (LoginData, Reauthentication, *features.answering)
        made |= {body: _answering(own_body(body, bodies), features.answers) for body in answering}
    if features.sign_ups:
        made[UserCreate] = _with_sign_ups(own_body(UserCreate, bodies), features.sign_ups.values())
    if features.guards:
        asking: tuple[type[BaseModel], ...] = (
            UserCreate,
            LoginData,
            EmailRequest,
            VerificationRequest,
            *features.guarded,
        )
        made |= {body: _guarded(made.get(body, body), features.guards) for body in asking}
    for body in (UserCreate, ProfileUpdate):
        made[body] = _asking(own_body(body, made))
    if UserOut in bodies:
        own = bodies[UserOut]
        made[SignedUp] = create_model(
            SignedUp.__name__,
            __base__=own,
            __doc__=SignedUp.__doc__,
            __module__=__name__,
            challenge=(str, ...),
        )
    return made


def asks_for_code(body: BaseModel) -> bool:
    """Whether the client wants a code in the mail."""
    return isinstance(body, _Asking) and bool(getattr(body, MAILED_CODE))


def without_ways(body: type[UserCreate]) -> type[UserCreate]:
    """The body of a signup as the host or the package has it, without what is added to it."""
    added = _OneWayIn | _Guarded | _Asking
    beneath: Any = next(each for each in body.__mro__ if not issubclass(each, added))
    own: type[UserCreate] = beneath
    return own


async def first_way_in(auth: Auth, body: UserCreate, binding: str | None) -> FirstWayIn | None:
    """What a signup has in place of a password. Raises `AuthError`."""
    for name, way in auth.features.sign_ups.items():
        if (shown := getattr(body, name, None)) is not None:
            return await way.check(auth, body.email, shown, binding)
    return None


class _Asking:
    """A body that may ask for a code."""


class _OneWayIn:
    """What a signup has to have, where there is more than a password: one way in, and no second."""

    _ways: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(bool(getattr(self, name)) for name in self._ways) != 1:
            raise PydanticCustomError("way_in", "Send one of: {ways}", {"ways": ", ".join(self._ways)})
        return self


class _Guarded:
    """What a body has that guards ask for something in: their fields, and how they refuse."""

    _asked: ClassVar[tuple[str, ...]] = ()
    _refusals: ClassVar[tuple[Code, ...]] = ()


def refusals_of(endpoint: Callable[..., Any]) -> tuple[Code, ...]:
    """How guards refuse at a route with these bodies."""
    parameters = inspect.signature(endpoint).parameters.values()
    return tuple(
        code
        for parameter in parameters
        for body in (parameter.annotation, *get_args(parameter.annotation)[:1])
        if isinstance(body, type) and issubclass(body, _Guarded)
        for code in body._refusals
    )


def _guarded(body: type[BaseModel], guards: Iterable[Guard]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        guard.field: (guard.type | None, Field(default=None, repr=False, examples=[None])) for guard in guards
    }
    if clashing := fields.keys() & body.model_fields:
        raise ValueError(f"{body.__name__}.{min(clashing)} is a field of a feature: choose another name")
    base: Any = (_Guarded, body)
    made: Any = create_model(
        body.__name__, __base__=base, __doc__=body.__doc__, __module__=__name__, **fields
    )
    cast(Any, made)._asked = tuple(fields)
    cast(Any, made)._refusals = tuple(code for guard in guards for code in guard.errors)
    return made


def _answering(body: type[Answering], answers: Mapping[str, Answer]) -> type[BaseModel]:
    fields: dict[str, Any] = {name: (each.type | None, None) for name, each in answers.items()}
    made = create_model(body.__name__, __base__=body, __doc__=body.__doc__, __module__=__name__, **fields)
    made.answers = tuple(answers)
    return made


def _asking(body: type[BaseModel]) -> type[BaseModel]:
    if MAILED_CODE in body.model_fields:
        raise ValueError(f"{body.__name__}.{MAILED_CODE} is a field of the package: choose another name")
    field: Any = {MAILED_CODE: (Flag, False)}
    base: Any = (_Asking, body)
    # In the module of the body, which has the name that is shown: that of a host stays.
    named: Any = {"__base__": base, "__doc__": body.__doc__, "__module__": body.__module__}
    return create_model(body.__name__, **named, **field)


def _with_sign_ups(body: type[UserCreate], ways: Iterable[SignUp]) -> type[BaseModel]:
    password = body.model_fields["password"]  # with the rules of the host
    fields: dict[str, Any] = {
        "password": (Annotated[password.annotation, password], Field(default_factory=str)),
        # What a document proposes is a signup with a password, as no more than one of both is taken.
        **{way.field: (way.type | None, Field(default=None, examples=[None])) for way in ways},
    }
    base: Any = (_OneWayIn, body)
    made: Any = create_model(
        body.__name__, __base__=base, __doc__=body.__doc__, __module__=__name__, **fields
    )
    cast(Any, made)._ways = tuple(fields)
    return made


def with_bodies(endpoint: Callable[..., Any], bodies: Bodies) -> Callable[..., Any]:
    """The endpoint, declared with other bodies where it has one of these. Raises `TypeError` where it then is
    no plain function."""
    signature = inspect.signature(endpoint, eval_str=True)
    parameters = [
        each.replace(annotation=own_body(each.annotation, bodies)) for each in signature.parameters.values()
    ]
    if parameters == [*signature.parameters.values()]:
        return endpoint
    require_instance("endpoint", endpoint, FunctionType, "write a function.")
    return _declared(cast(FunctionType, endpoint), signature.replace(parameters=parameters))


def _declared(endpoint: FunctionType, signature: inspect.Signature) -> FunctionType:
    """Another one of the same code: the frame of a function around it would show trackers the request."""
    declared = FunctionType(
        endpoint.__code__,
        endpoint.__globals__,
        endpoint.__name__,
        endpoint.__defaults__,
        endpoint.__closure__,
    )
    update_wrapper(declared, endpoint)
    declared.__kwdefaults__ = endpoint.__kwdefaults__
    declared.__signature__ = signature  # type: ignore[attr-defined]  # read by FastAPI
    return declared


class Following(Body):
    """A body that has fields of another one, as the host has it."""

    @classmethod
    def in_app(cls, bodies: Bodies) -> type[BaseModel]:
        """This body in an app with these."""
        raise NotImplementedError


def own_body(annotation: Any, bodies: Bodies) -> Any:
    """What stands in for a body of the package; anything else as it is."""
    if get_origin(annotation) in (Union, UnionType):
        return Union[tuple(own_body(each, bodies) for each in get_args(annotation))]  # noqa: UP007 - made here
    if isinstance(annotation, type) and issubclass(annotation, Following):
        return annotation.in_app(bodies)
    if get_origin(annotation) is Annotated:
        body, *more = get_args(annotation)
        own = own_body(body, bodies)
        return annotation if own is body else Annotated[(own, *more)]
    return bodies.get(annotation, annotation) if isinstance(annotation, type) else annotation
