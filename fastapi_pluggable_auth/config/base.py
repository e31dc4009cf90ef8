"""What all settings have in common: their names, where they are read, and what errors say of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, ClassVar, Final, Self

from pydantic import PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

PREFIX: Final = "AUTH_"
"""Of every variable."""

HIDDEN: Final = "(hidden)"
"""What errors show in the place of a secret."""


@dataclass(slots=True)
class Names:
    """The names of variables, in lower case and without any value."""

    prefix: str = ""
    present: set[str] = field(default_factory=set)
    """All that there are, in the environment and the `.env` file."""
    read: dict[str, str] = field(default_factory=dict)
    """By field, those other than the prefix and the name of the field that a value was read from."""
    arguments: set[str] = field(default_factory=set)
    """Keyword arguments that are not settings."""


_reading: ContextVar[Names] = ContextVar("names of the settings that are being read")


class Settings(BaseSettings):
    """Settings that are read when an instance is made: `AUTH_<NAME>` in the environment, in a `.env` file or
    as the name of a file in `_secrets_dir`, and `<name>` as a keyword argument, which counts for most.

    The settings of a feature inherit from this. Durations are read as seconds (`900`), ISO 8601 (`PT15M`) or
    `HH:MM:SS`. Unknown variables are ignored. An attribute may be changed at run time. Raises
    `ValidationError`, which names what is wrong and shows no secret, and `ValueError` for a file that is not
    UTF-8.
    """

    BARE: ClassVar[Collection[str]] = frozenset()
    """Names that are also read without the prefix, where the one with it is nowhere."""
    OLDER: ClassVar[Mapping[str, str]] = {}
    """Earlier names of settings, each with the one of today, which counts for more."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        validate_assignment=True,
        defer_build=True,
    )

    _names: Names = PrivateAttr(default_factory=Names)

    def __init__(self, *args: Any, **values: Any) -> None:
        told: ValueError
        names = Names(arguments=self._unknown_arguments(values))
        reading = _reading.set(names)
        try:
            super().__init__(*args, **self._by_present_names(values))
        except ValidationError as error:
            told = _presentable(self, error, names, values)
        except UnicodeDecodeError:  # which holds the whole file
            told = ValueError("The .env file is not UTF-8.")
        else:
            self._names = names
            return
        finally:
            _reading.reset(reading)
        # An error tracker keeps the variables of this frame; the other error goes with its handler.
        values.clear()
        raise told

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            told = _presentable(self, error, self._names, {name})
        else:
            return
        del value
        raise told

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Another instance with these values, of which none is checked."""
        return super().model_copy(update=self._by_present_names(update or {}), deep=deep)

    @classmethod
    def _by_present_names(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Older names give way to present ones, and any case to that of the fields: pydantic-settings before
        2.15 ignores `Cookies`."""
        known = cls.model_fields.keys() | cls.OLDER.keys()
        given = {low if (low := name.lower()) in known else name: value for name, value in values.items()}
        renamed = {new: given[old] for old, new in cls.OLDER.items() if old in given}
        return renamed | {name: value for name, value in given.items() if name not in cls.OLDER}

    @classmethod
    def _unknown_arguments(cls, values: Iterable[str]) -> set[str]:
        """Those that name no setting, in any case, nor begin with a `_`, as those of pydantic-settings do."""
        known = cls.model_fields.keys() | cls.OLDER.keys()
        return {name for name in values if not name.startswith("_") and name.lower() not in known}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources, from what counts most."""
        prefixed = (init_settings, env_settings, dotenv_settings, file_secret_settings)
        variables = tuple(each for each in prefixed if isinstance(each, EnvSettingsSource))
        folders = tuple(each for each in prefixed if isinstance(each, SecretsSettingsSource))
        names = _reading.get()
        names.prefix = next((each.env_prefix for each in variables), "").lower()
        names.present.update(*(each.env_vars for each in variables))
        others = _OtherNames(cls, names, variables, folders)
        return (
            *(_Prefixed(each) if isinstance(each, DotEnvSettingsSource) else each for each in prefixed),
            others,
        )

    def ignored_names(self, *others: Settings) -> Iterator[str]:
        """A sentence for each variable that was meant for these settings, or the others of the app, and is
        read by none: an unknown one with the prefix, and one that lacks it; and for each keyword argument
        that is not a setting. Each once, in order."""
        prefix, present, together = self._names.prefix, self._names.present, (self, *others)
        for each in together:
            for name in sorted(each._names.arguments):
                near = get_close_matches(name.lower().removeprefix(prefix), type(each).model_fields, n=1)
                meant = f": did you mean {near[0]}?" if near else "."
                yield f"{name} is not an argument of {type(each).__name__}, and is ignored{meant}"
        if not prefix:
            return
        known = {prefix + name for each in together for name in (*type(each).model_fields, *each.OLDER)}
        for name in sorted(name for name in present - known if name.startswith(prefix)):
            yield _unknown(name, known)
        bare = {each for each in present if prefix + each in known and prefix + each not in present}
        for name in sorted(bare.difference(*(each.BARE for each in together))):
            yield f"{name.upper()} is not read under this name: write {(prefix + name).upper()}."


class _Prefixed(PydanticBaseSettingsSource):
    """What a `.env` file has under names with the prefix: pydantic-settings 2.7 takes a bare name in it for
    the field as well."""

    def __init__(self, source: DotEnvSettingsSource) -> None:
        super().__init__(source.settings_cls)
        self._source = source

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The same as without the bare names."""
        return self._source.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        """The values by field, and what else there is."""
        fields = self.settings_cls.model_fields
        return {
            name: value
            for name, value in self._source().items()
            if name not in fields or self._is_there(name)
        }

    def _is_there(self, field_name: str) -> bool:
        name, nested = f"{self._source.env_prefix}{field_name}".lower(), self._source.env_nested_delimiter
        if nested is None:
            return name in self._source.env_vars
        return any(each == name or each.startswith(name + nested) for each in self._source.env_vars)


class _OtherNames(PydanticBaseSettingsSource):
    """Values by other names than the prefix and that of the field, where no source has that."""

    def __init__(
        self,
        settings_cls: type[Settings],
        names: Names,
        variables: Iterable[EnvSettingsSource],
        folders: Iterable[SecretsSettingsSource],
    ) -> None:
        super().__init__(settings_cls)
        self._names = names
        self._variables = [each.env_vars for each in variables]
        self._folders = [
            SecretsSettingsSource(settings_cls, each.secrets_dir, env_prefix="")
            for each in folders
            if each.secrets_dir is not None
        ]
        self._bare = settings_cls.BARE
        self._others = defaultdict[str, list[str]](list)
        for old, new in settings_cls.OLDER.items():
            self._others[new].append(names.prefix + old)
        for name in settings_cls.BARE:
            self._others[settings_cls.OLDER.get(name, name)].append(name)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The value of a variable, the name of that, and that it is not JSON."""
        for name in self._others[field_name]:
            for variables in self._variables:
                if variables.get(name) is not None:
                    return variables[name], name, False
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """The values by field; files count for less than variables."""
        found = {
            name: value
            for folder in self._folders
            for name, value in folder().items()
            if name in self._bare and name not in self.current_state
        }
        for name, info in self.settings_cls.model_fields.items():
            if name in self._others and name not in self.current_state:
                value, variable, _ = self.get_field_value(info, name)
                if value is not None:
                    found[name] = value
                    self._names.read[name] = variable
        return found


def _unknown(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=1)
    sentence = f"{name.upper()} is not a setting, and is ignored"
    return f"{sentence}: did you mean {near[0].upper()}?" if near else f"{sentence}."


def _presentable(
    settings: Settings, error: ValidationError, names: Names, arguments: Collection[str]
) -> ValidationError:
    """The same error, with each name as it was written, and with nothing of the fields that are kept out of
    the representation."""
    fields, told = type(settings).model_fields, list[Any]()
    written = {settings.OLDER.get(name, name): name for name in arguments}
    for each in error.errors(include_url=False):
        shown = {name: value for name, value in each.items() if name in ("loc", "type", "ctx", "input")}
        name, *place = (*map(str, each["loc"][:1]), *each["loc"][1:]) or ("",)
        if name in fields:
            variable = names.read.get(name, names.prefix + name).upper()
            shown["loc"] = (written.get(name, variable), *place)
        if name not in fields or not fields[name].repr:
            shown["input"] = HIDDEN
        told.append(shown)
    return ValidationError.from_exception_data(error.title, told)
