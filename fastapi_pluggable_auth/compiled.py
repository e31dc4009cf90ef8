"""Statements that are built once: building one takes Tortoise longer than the database takes to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from pypika_tortoise.queries import Query, QueryBuilder, Table
from pypika_tortoise.terms import Criterion, ValueWrapper
from pypika_tortoise.terms import Field as Column
from tortoise import Model
from tortoise.fields import Field

from ._frameworks import model_of_row
from .failures import WrongRowError

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Value:
    column: str


def value(column: str) -> ValueWrapper:
    """Stands for what is given when the statement runs, and stored as this column is."""
    return ValueWrapper(_Value(column))


class Statement:
    """A statement on the table of a model, as `build` makes it in the dialect of a `Query`."""

    def __init__(self, model: type[Model], build: Callable[[type[Query], Table], QueryBuilder]) -> None:
        self._model, self._build = model, build
        self._built: dict[type[Query], tuple[str, list[Any]]] = {}

    def _prepare(self, values: Mapping[str, object]) -> tuple[Any, str, list[Any]]:
        meta = self._model._meta
        database = meta.db  # also to read: a replica lags behind
        dialect = database.query_class
        if dialect not in self._built:
            self._built[dialect] = self._build(dialect, meta.basetable).get_parameterized_sql()
        sql, places = self._built[dialect]
        given = [
            meta.fields_map[place.column].to_db_value(values[place.column], self._model)
            if isinstance(place, _Value)
            else place
            for place in places
        ]
        return database, sql, given

    async def run(self, **values: object) -> int:
        """Writes; how many rows have changed. Raises like a model that is saved."""
        database, sql, given = self._prepare(values)
        count, _ = await database.execute_query(sql, given)
        return int(count)


class Insert(Statement):
    """Stores a row of these columns, without a model, which takes longer to make than the row to store."""

    def __init__(self, model: type[Model], *columns: str) -> None:
        super().__init__(
            model, lambda query, table: query.into(table).columns(*columns).insert(*map(value, columns))
        )


class Select(Statement):
    """Reads the row that has the given values in its columns `by`: these `columns`, `more` of rows that it
    refers to (`active="user__is_active"`), and one of those as a `whole` model; all by their names."""

    def __init__(
        self,
        model: type[Model],
        by: Sequence[str],
        columns: Sequence[str],
        whole: str | None = None,
        **more: str,
    ) -> None:
        super().__init__(model, self._select)
        self._by, self._whole = by, whole
        self._paths = {**{name: name for name in columns}, **more}

    async def first(self, **values: object) -> Row | None:
        """What the row says, or None. Raises `WrongRowError` where it is not the row that was asked for."""
        database, sql, given = self._prepare(values)
        rows = await database.execute_query_dict(sql, given)
        if not rows:
            return None
        meta = self._model._meta
        try:
            found = {name: field.to_python_value(rows[0][f".{name}"]) for name, field in self._read.items()}
            right = all(
                found[name] == meta.fields_map[name].to_python_value(values[name]) for name in self._by
            )
            if (relation := self._whole) is not None:
                found[relation] = whole = model_of_row(self._related(relation), rows[0])
                right = right and whole.pk == found[str(meta.fields_map[relation].source_field)]
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # not even the columns
            raise WrongRowError(meta.db_table) from error
        if not right:
            raise WrongRowError(meta.db_table)
        return found

    @cached_property
    def _read(self) -> dict[str, Field[Any]]:
        """What makes values of Python's of the columns; known once Tortoise is initialised."""
        return {name: self._column(path)[0] for name, path in self._paths.items()}

    def _related(self, relation: str) -> type[Model]:
        field: Any = self._model._meta.fields_map[relation]
        related: type[Model] = field.related_model
        return related

    def _column(self, path: str) -> tuple[Field[Any], Column]:
        relation, _, name = path.rpartition("__")
        meta = (self._related(relation) if relation else self._model)._meta
        return meta.fields_map[name], meta.basetable[meta.fields_db_projection[name]]

    def _select(self, dialect: type[Query], table: Table) -> QueryBuilder:
        query = dialect.from_(table)
        paths = (*self._paths.values(), *([f"{self._whole}__"] if self._whole else ()))
        for relation in dict.fromkeys(path.rpartition("__")[0] for path in paths if "__" in path):
            there = self._related(relation)._meta
            _, reference = self._column(str(self._model._meta.fields_map[relation].source_field))
            query = query.left_join(there.basetable).on(reference == there.basetable[there.db_pk_column])
        query = query.select(*(self._column(path)[1].as_(f".{name}") for name, path in self._paths.items()))
        if self._whole:
            there = self._related(self._whole)._meta
            query = query.select(*(there.basetable[column] for column in there.db_fields))
        return query.where(Criterion.all(self._column(name)[1] == value(name) for name in self._by))
