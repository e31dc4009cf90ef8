"""Queries of the hot paths, whose SQL Tortoise builds once.

Building the SQL of a join takes Tortoise 450 us of CPU each time, three times as long as all else about
reading a row does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from typing import Any, Generic, TypeAlias, TypeVar

from tortoise import Model
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.fields import DatetimeField, Field, IntField
from tortoise.queryset import AwaitableQuery, QuerySet, UpdateQuery, ValuesQuery

from .failures import WrongRowError
from .models.outward import SecretColumn

Q = TypeVar("Q", bound=AwaitableQuery[Any])
R = TypeVar("R")

_Row: TypeAlias = dict[str, Any]
_Parameter: TypeAlias = tuple[Any, Field[Any] | None]
"""A constant, or the name of a value and the field that encodes it."""
_Part: TypeAlias = tuple[type[Model], tuple[str, ...]]
"""A model, and those of its columns that a row has."""


@dataclass(frozen=True, slots=True)
class _Statement:
    """The SQL of one dialect."""

    sql: str
    parameters: tuple[_Parameter, ...]
    read: Callable[[_Row], Any] = dict
    """What a row says."""


class _Compiled:
    """A statement with named values; each is encoded like the column of the model that is given for it."""

    def __init__(self, model: type[Model], **columns: str) -> None:
        self._model = model
        self._columns = columns
        self._statements: dict[str, _Statement] = {}

    @cached_property
    def _fields(self) -> dict[str, Field[Any]]:
        """By the names of the values; known once Tortoise is initialised."""
        return {name: self._model._meta.fields_map[column] for name, column in self._columns.items()}

    def _prepare(
        self, for_write: bool, values: dict[str, Any]
    ) -> tuple[BaseDBAsyncClient, _Statement, list[Any]]:
        database = self._model._choose_db(for_write)
        dialect = database.capabilities.dialect
        statement = self._statements.get(dialect)
        if statement is None:
            statement = self._statements[dialect] = self._build(database)
        parameters = [
            value if field is None else field.to_db_value(values[value], self._model)
            for value, field in statement.parameters
        ]
        return database, statement, parameters

    def _build(self, database: BaseDBAsyncClient) -> _Statement:
        raise NotImplementedError


class _Query(_Compiled, Generic[Q]):
    """A query of Tortoise's."""

    def __init__(self, model: type[Model], query: Callable[..., Q], **columns: str) -> None:
        super().__init__(model, **columns)
        self._query: Callable[..., Q] = query

    def _build(self, database: BaseDBAsyncClient) -> _Statement:
        """Asks Tortoise for the SQL, with marks in place of the values to see the order of the parameters."""
        marks = {name: _mark(place, field) for place, (name, field) in enumerate(self._fields.items())}
        query = self._query(**marks)
        query.sql()
        read = self._reader(query)
        sql, values = query.query.get_parameterized_sql()
        names = {field.to_db_value(marks[name], self._model): name for name, field in self._fields.items()}
        parameters = tuple(
            (names[value], self._fields[names[value]]) if value in names else (value, None)
            for value in values
        )
        return _Statement(sql, parameters, read)

    def _reader(self, query: Q) -> Callable[[_Row], Any]:
        """What turns a row of the query into its result."""
        return dict


class _Select(_Query[Q], Generic[Q, R]):
    async def first(self, **values: object) -> R | None:
        """What the first row says, or None. Raises `WrongRowError` where it is another row."""
        database, statement, parameters = self._prepare(False, values)
        rows = await database.execute_query_dict(statement.sql, parameters)
        if not rows:
            return None
        try:
            found: R = statement.read(rows[0])
            own = self._own(found)
            right = all(
                own[self._columns[name]] == field.to_python_value(values[name])
                for name, field in self._fields.items()
            )
        except (KeyError, TypeError, ValueError) as error:  # not even the columns
            raise WrongRowError(self._model._meta.db_table) from error
        if not right:
            raise WrongRowError(self._model._meta.db_table)
        return found

    def _own(self, found: R) -> dict[str, Any]:
        """The columns of the row itself, among them those that were asked for."""
        raise NotImplementedError


class SelectValues(_Select[ValuesQuery[Any], dict[str, Any]]):
    """Reads columns of a row and of those it refers to: no model is made, which takes 30 us each."""

    def _own(self, found: dict[str, Any]) -> dict[str, Any]:
        return found

    def _reader(self, query: ValuesQuery[Any]) -> Callable[[_Row], dict[str, Any]]:
        decoders = {
            alias: query.resolve_to_python_value(self._model, path)
            for alias, path in query._fields_for_select.items()
        }
        return lambda row: {name: decode(row[name]) for name, decode in decoders.items()}


class SelectRelated(_Select[QuerySet[Any], tuple[dict[str, Any], Any]]):
    """Reads a row that another one refers to (one `select_related`), and some columns of that one: a model
    less to make."""

    def __init__(
        self, model: type[Model], query: Callable[..., QuerySet[Any]], only: Sequence[str], **columns: str
    ) -> None:
        super().__init__(model, query, **columns)
        self._only = only

    def _own(self, found: tuple[dict[str, Any], Any]) -> dict[str, Any]:
        return found[0]

    def _reader(self, query: QuerySet[Any]) -> Callable[[_Row], tuple[dict[str, Any], Any]]:
        (model, columns), (related, related_columns) = _selected_models(query)
        selected = query.query._selects
        kept = [selected[columns.index(name)] for name in self._only]
        query.query._selects = [*kept, *selected[len(columns) :]]
        decoders = [(name, model._meta.fields_map[name].to_python_value) for name in self._only]
        make = _maker(related, related_columns)
        (relation,) = query._select_related
        reference = str(model._meta.fields_map[relation].source_field)

        def read(row: _Row) -> tuple[dict[str, Any], Any]:
            cells = iter(row.values())
            own = {name: decode(cell) for (name, decode), cell in zip(decoders, cells, strict=False)}
            made = make(cells)
            if made.pk != own[reference]:
                raise WrongRowError(related._meta.db_table)
            return own, made

        return read


class Update(_Query[UpdateQuery]):
    """Changes rows."""

    async def run(self, **values: object) -> int:
        """How many rows were changed."""
        database, statement, parameters = self._prepare(True, values)
        count, _ = await database.execute_query(statement.sql, parameters)
        return count


class Insert(_Compiled):
    """Stores a row of these columns, without the model, which takes 100 us to make and save."""

    def __init__(self, model: type[Model], *columns: str) -> None:
        super().__init__(model, **{column: column for column in columns})

    async def run(self, **values: object) -> None:
        """Stores the row. Raises like a model that is saved."""
        database, statement, parameters = self._prepare(True, values)
        await database.execute_query(statement.sql, parameters)

    def _build(self, database: BaseDBAsyncClient) -> _Statement:
        columns = [self._model._meta.fields_db_projection[name] for name in self._fields]
        executor = database.executor_class(self._model, database)
        places = [executor.parameter(place) for place in range(len(columns))]  # each driver has its own
        query = database.query_class.into(self._model._meta.basetable).columns(*columns).insert(*places)
        return _Statement(str(query), tuple(self._fields.items()))


def _mark(place: int, field: Field[Any]) -> object:
    if isinstance(field, DatetimeField):
        return datetime(2000, 1, 1, microsecond=place, tzinfo=UTC)
    if isinstance(field, IntField):
        return -1_000_000 - place
    return f"mark {place}"


def _maker(model: type[Model], columns: Sequence[str]) -> Callable[[Iterable[Any]], Any]:
    """What makes a model of these columns, like Tortoise's own way, which takes twice as long: it sets each
    attribute by a call."""
    meta = model._meta
    names = [meta.fields_db_projection_reverse[column] for column in columns]
    native = {name for _, name, _ in meta.db_native_fields}
    decoders = [(name, meta.fields_map[name].to_python_value) for name in names if name not in native]
    sealers = [
        (name, secret.seal)
        for name in names
        if isinstance(secret := getattr(model, name, None), SecretColumn)
    ]
    notes: dict[str, Any] = {}

    def make(cells: Iterable[Any]) -> Any:
        if not notes:  # Tortoise has some beside the columns
            made = model._init_from_db(**dict(zip(columns, cells, strict=True)))
            notes.update((name, value) for name, value in vars(made).items() if name not in names)
            return made
        made = model.__new__(model)
        attributes = vars(made)
        attributes.update(zip(names, cells, strict=True))
        attributes.update((name, copy(value)) for name, value in notes.items())
        for name, decode in decoders:
            attributes[name] = decode(attributes[name])
        for name, seal in sealers:
            attributes[name] = seal(attributes[name])
        return made

    return make


def _selected_models(query: QuerySet[Any]) -> tuple[_Part, ...]:
    columns = iter(query.query._selects)
    return tuple(
        (model, tuple((column.alias or column.name).rpartition(".")[2] for column in islice(columns, count)))
        for model, count, *_ in query._select_related_idx
    )
