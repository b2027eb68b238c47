"""One session with the database, in a thread of its own: an event loop never waits for the network."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from star_pipeline.adapters.postgres import Postgres

T = TypeVar("T")
Ask = Callable[[Any], T]
"""Work with a cursor of psycopg2's. It may be done twice, where the connection was lost the first time."""


class Session:
    """Connects when it is first asked, and anew, once, where the connection was lost. Raises StorageTrouble."""

    def __init__(self, postgres: Postgres, name: str) -> None:
        self._postgres, self._name = postgres, name
        self._connection: Any = None  # psycopg2's, which need not be there
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def ask(self, work: Ask[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._asked, work)

    def ask_now(self, work: Ask[T]) -> T:
        """The same for who may wait for the network."""
        return self._thread.submit(self._asked, work).result()

    def close(self) -> None:
        self._thread.shutdown()
        self._disconnect()

    def _asked(self, work: Ask[T]) -> T:
        fresh = self._connection is None
        try:
            return self._once(work)
        except Exception as error:
            if not self._postgres.is_lost(error, self._connection):
                self._roll_back()
                raise
            self._disconnect()
            if fresh:
                raise
        return self._once(work)

    def _once(self, work: Ask[T]) -> T:
        if self._connection is None:
            self._connection = self._postgres.connect(self._name)
        with self._connection.cursor() as cursor:
            return work(cursor)

    def _roll_back(self) -> None:
        """A statement failed, within a transaction or not."""
        try:
            if self._connection is not None:
                with self._connection.cursor() as cursor:
                    cursor.execute("ROLLBACK")
        except Exception:  # whatever it is: the connection is of no more use
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
