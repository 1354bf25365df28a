"""The store of every service's entities: rows of kind, namespace, name and a JSON document."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    String,
    UniqueConstraint,
    create_engine,
    delete,
    event,
    func,
    inspect,
    select,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

from nemo_local.core.clock import Clock, parse_timestamp, timestamp, utc_now
from nemo_local.core.errors import NO_RETRY, Conflict, DatabaseError, NotFound, Unavailable
from nemo_local.core.ids import new_id
from nemo_local.core.query import ListQuery, Page, matches, page_of
from nemo_local.core.secrets import refuse_masks

Document = dict[str, Any]
Change = Document | Callable[[Document], Document]

_NAMES = ("id", "namespace", "name")
_OWN_COLUMNS = (*_NAMES, "created_at", "updated_at")
_WAIT = "busy_timeout=30000"
"""How long SQLite waits for another program's lock, in milliseconds."""


class _Base(DeclarativeBase):
    pass


class _Row(_Base):
    __tablename__ = "documents"
    __table_args__ = (UniqueConstraint("kind", "namespace", "name"), UniqueConstraint("kind", "id"))

    number: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(64))
    namespace: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(512))
    id: Mapped[str] = mapped_column(String(512))
    created_at: Mapped[str] = mapped_column(String(32))
    updated_at: Mapped[str] = mapped_column(String(32))
    document: Mapped[Document] = mapped_column(JSON)

    def entity(self) -> Document:
        return {**self.document, **{column: getattr(self, column) for column in _OWN_COLUMNS}}


class Documents:
    """Entities of all kinds; every returned dict is the document with its id, names and times.

        documents.create("dataset", "ns", "d", {"files_url": "hf://datasets/ns/d"})
        -> {"files_url": ..., "id": "dataset-…", "namespace": "ns", "name": "d",
            "created_at": "2025-06-20T03:58:16.182000", "updated_at": "2025-06-20T03:58:16.182001"}

    Threads may share it. One writes at a time, so an `update` function sees the latest state. A
    writer that waits longer than `locked_s` (seconds) gets an error: Unavailable behind other
    threads, SQLite's "database is locked" behind another program.
    """

    def __init__(
        self, database_url: str | URL, clock: Clock = utc_now, locked_s: float = 30.0
    ) -> None:
        self.clock, self._locked_s = clock, locked_s
        url = make_url(database_url)
        is_file = url.get_backend_name() == "sqlite"
        if is_file and url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        # Any number of threads may serve requests: each opens the SQLite file for itself, or waits
        # for one of the few connections to a database server.
        pool: dict[str, Any] = {"max_overflow": -1} if is_file else {"pool_timeout": None}
        # Values stay out of the messages of errors, and so out of the log: they may be secrets.
        self._engine = create_engine(url, hide_parameters=True, **pool)
        if is_file:
            event.listen(self._engine, "connect", _configure_sqlite)
            event.listen(self._engine, "checkin", _wait_as_before)
        _Base.metadata.create_all(self._engine)
        self._session = sessionmaker(self._engine)
        self._writing = threading.RLock()

    def now(self) -> str:
        """The present time by the store's clock, in wire format."""
        return timestamp(self.clock())

    def create(
        self,
        kind: str,
        namespace: str,
        name: str | None,
        document: Document,
        id: str | None = None,
        created_at: str | None = None,
    ) -> Document:
        """The new entity; its name defaults to its id, its id to a new one made from `kind`.

        `created_at` is a time in wire format; by default it is now.

        Raises:
            Conflict: (kind, namespace, name) or (kind, id) exists.
            Invalid: a secret in it is the mask with which answers hide secrets.
        """
        refuse_masks(document)
        now = parse_timestamp(created_at) if created_at else self.clock()
        entity_id = id or new_id(kind)
        row = _Row(
            kind=kind,
            namespace=namespace,
            name=name or entity_id,
            id=entity_id,
            created_at=timestamp(now),
            updated_at=timestamp(now + timedelta(microseconds=1)),
            document=without_columns(document),
        )
        try:
            with self._transaction() as session:
                session.add(row)
                return row.entity()
        except IntegrityError:
            title = f"{namespace}/{name}" if namespace and name else name or entity_id
            raise Conflict(f"{_words(kind)} {title!r} already exists") from None

    def get(self, kind: str, namespace: str, name: str) -> Document:
        """The entity of this name. Raises NotFound."""
        with self._session() as session:
            row = session.scalar(select(_Row).filter_by(kind=kind, namespace=namespace, name=name))
            if row is None:
                title = f"{namespace}/{name}" if namespace else name
                raise NotFound(f"{_words(kind)} {title!r} not found")
            return row.entity()

    def get_by_id(self, kind: str, id: str) -> Document:
        """The entity with this id. Raises NotFound."""
        with self._session() as session:
            return self._by_id(session, kind, id).entity()

    def update(self, kind: str, id: str, changes: Change) -> Document:
        """The entity after a shallow merge of `changes`, or of what `changes(entity)` returns.

        Read and write are one transaction; `updated_at` advances. Raises NotFound.
        """
        with self._transaction() as session:
            row = self._by_id(session, kind, id, for_update=True)
            merge = changes(row.entity()) if callable(changes) else changes
            row.document = {**row.document, **without_columns(merge)}
            later = parse_timestamp(row.updated_at) + timedelta(microseconds=1)
            row.updated_at = timestamp(max(self.clock(), later))
            return row.entity()

    def delete(self, kind: str, id: str) -> Document:
        """The entity that was deleted. Raises NotFound."""
        with self._transaction() as session:
            row = self._by_id(session, kind, id, for_update=True)
            session.delete(row)
            return row.entity()

    def find(self, kind: str, query: ListQuery) -> Page:
        """One page of the entities that match the query, in its order.

        The database itself filters by id, namespace and name, sorts by its columns and reads one
        page. Any other filter, search or sort key has every remaining entity read.
        """
        texts = {key: _texts(query.filter[key]) for key in _NAMES if key in query.filter}
        named = {key: values for key, values in texts.items() if values is not None}
        left = {key: value for key, value in query.filter.items() if key not in named}
        wanted = [_Row.kind == kind, *(getattr(_Row, key).in_(named[key]) for key in named)]
        statement, key = select(_Row).where(*wanted), query.sort.removeprefix("-")
        with self._session() as session:
            if left or query.search or key not in _OWN_COLUMNS:
                rows = session.scalars(statement.order_by(_Row.number))
                asked = replace(query, filter=left)
                found = [entity for row in rows if matches(entity := row.entity(), asked)]
                return page_of(found, query)
            column = self._by_code_point(getattr(_Row, key))
            order = column.desc() if query.sort.startswith("-") else column
            first = (query.page - 1) * query.page_size
            statement = statement.order_by(order, _Row.number).limit(query.page_size).offset(first)
            total = session.scalar(select(func.count()).where(*wanted)) or 0
            return Page([row.entity() for row in session.scalars(statement)], total)

    def all(self, kind: str, **equals: Any) -> list[Document]:
        """Every entity of a kind, oldest first, whose top-level fields equal these values."""
        statement = select(_Row).filter_by(kind=kind).order_by(_Row.number)
        for column in ("namespace", "name"):
            if column in equals:
                statement = statement.filter_by(**{column: equals.pop(column)})
        with self._session() as session:
            entities = [row.entity() for row in session.scalars(statement)]
        return [e for e in entities if all(e.get(key) == equals[key] for key in equals)]

    def each(self, kind: str, **columns: str) -> Iterator[Document]:
        """Every entity of a kind with these columns, oldest first, read a few at a time."""
        statement = select(_Row).filter_by(kind=kind, **columns).order_by(_Row.number)
        with self._session() as session:
            for row in session.scalars(statement.execution_options(yield_per=10)):
                yield row.entity()

    def namespaces(self, kind: str) -> set[str]:
        """The namespaces that have an entity of this kind."""
        with self._session() as session:
            return set(session.scalars(select(_Row.namespace).filter_by(kind=kind).distinct()))

    def delete_all(self, kind: str, namespace: str) -> None:
        """Delete every entity of this kind and namespace, or none if interrupted."""
        with self._transaction() as session:
            session.execute(delete(_Row).filter_by(kind=kind, namespace=namespace))

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        """The only writing session; waiting for other threads shortens SQLite's own wait."""
        deadline = time.monotonic() + self._locked_s
        if not self._writing.acquire(timeout=self._locked_s):
            busy = (
                f"other requests kept the platform's database busy for {self._locked_s:g} s: "
                "try again when they are done"
            )
            raise Unavailable(busy, {**NO_RETRY, "X-Error-Message": busy})
        try:
            with self._session.begin() as session:
                if self._engine.dialect.name == "sqlite":
                    left_ms = max(0, int((deadline - time.monotonic()) * 1000))
                    session.connection().exec_driver_sql(f"PRAGMA busy_timeout = {left_ms}")
                yield session
        finally:
            self._writing.release()

    def _by_code_point(self, column: Any) -> Any:
        """The column sorted by code point, as Python sorts; PostgreSQL's default may differ."""
        return column.collate("C") if self._engine.dialect.name == "postgresql" else column

    @staticmethod
    def _by_id(session: Session, kind: str, id: str, for_update: bool = False) -> _Row:
        statement = select(_Row).filter_by(kind=kind, id=id)
        row = session.scalar(statement.with_for_update() if for_update else statement)
        if row is None:
            raise NotFound(f"{_words(kind)} {id!r} not found")
        return row


def drop_documents(database_url: str) -> None:
    """Remove the table of all entities from a database, if it is there.

    Raises:
        DatabaseError: the database does not answer, or its table of that name is not ours.
    """
    name = _Row.__tablename__
    try:
        engine = create_engine(database_url, poolclass=NullPool)
        tables = inspect(engine)
        if tables.has_table(name):
            columns = {column["name"] for column in tables.get_columns(name)}
            if columns != set(_Row.__table__.columns.keys()):
                raise DatabaseError(f"its table {name!r} is not a platform's")
            _Base.metadata.drop_all(engine)
    except (SQLAlchemyError, ImportError) as error:
        raise DatabaseError(str(getattr(error, "orig", error))) from None


def without_columns(document: Document) -> Document:
    """The document's fields that have no column of their own: those that an update may change."""
    return {key: value for key, value in document.items() if key not in _OWN_COLUMNS}


def _texts(wanted: Any) -> list[str] | None:
    """The texts that a filter accepts; None when it asks for anything but texts."""
    each = wanted if isinstance(wanted, list) else [wanted]
    if not all(isinstance(one, str) for one in each):
        return None
    return [text for one in each for text in (one, *one.split(","))]


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _configure_sqlite(connection: Any, _: object) -> None:
    """Use WAL mode: readers never wait for the writer, and a killed process loses no commit."""
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", _WAIT):
        connection.execute(f"PRAGMA {pragma}")


def _wait_as_before(connection: Any, _: object) -> None:
    """Give a connection back with the wait that a transaction may have shortened."""
    if connection:  # None when it was lost
        connection.execute(f"PRAGMA {_WAIT}")
