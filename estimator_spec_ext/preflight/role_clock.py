"""Lets the clock be ahead, to see whether a graph depends on the time at which it is built."""

from __future__ import annotations

import contextlib
import datetime
import time
from typing import Any, Iterator

# A day, an hour, a minute and a second: each part of a date and of a time differs.
AHEAD = 90061.


def advance(seconds: float) -> None:
    """Moves the clocks of `time` and `datetime` for the rest of the process."""
    if seconds:
        _Moved(seconds).__enter__()


@contextlib.contextmanager
def ahead(seconds: float) -> Iterator[None]:
    """Moves the clocks of `time` and `datetime` for a while; 0 leaves them alone."""
    if not seconds:
        yield
        return
    with _Moved(seconds):
        yield


class _Moved:
    """Replaces what reads the clock; names that a module has imported already are not seen."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._stock: dict[tuple[Any, str], Any] = {}

    def __enter__(self) -> None:
        seconds, stock = self._seconds, {name: getattr(time, name) for name in (
            'time', 'time_ns', 'localtime', 'gmtime', 'ctime', 'asctime', 'strftime')}

        def now() -> float:
            return stock['time']() + seconds

        def of_seconds(name: str) -> Any:
            return lambda moment=None: stock[name](now() if moment is None else moment)

        self._put(time, 'time', now)
        self._put(time, 'time_ns', lambda: stock['time_ns']() + int(seconds * 1e9))
        for name in ('localtime', 'gmtime', 'ctime'):
            self._put(time, name, of_seconds(name))
        self._put(time, 'asctime', lambda moment=None: stock['asctime'](
            stock['localtime'](now()) if moment is None else moment))
        self._put(time, 'strftime', lambda form, moment=None: stock['strftime'](
            form, stock['localtime'](now()) if moment is None else moment))
        self._put(datetime, 'datetime', _moved_datetime(seconds))
        self._put(datetime, 'date', _moved_date(seconds))

    def __exit__(self, *unused: Any) -> None:
        for (owner, name), value in self._stock.items():
            setattr(owner, name, value)

    def _put(self, owner: Any, name: str, value: Any) -> None:
        self._stock[owner, name] = getattr(owner, name)
        setattr(owner, name, value)


class _AnyDatetime(type):
    """Takes the moments that were made with the true class for its own."""

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, cls.__mro__[1])


def _moved_datetime(seconds: float) -> Any:
    stock = datetime.datetime
    shift = datetime.timedelta(seconds=seconds)

    class Moved(stock, metaclass=_AnyDatetime):  # type: ignore[valid-type,misc]
        """`datetime.datetime`, later."""

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            """The moment, later."""
            return stock.now(tz) + shift

        @classmethod
        def utcnow(cls) -> Any:
            """The moment, later."""
            return stock.utcnow() + shift

        @classmethod
        def today(cls) -> Any:
            """The moment, later."""
            return stock.today() + shift

    Moved.__name__ = Moved.__qualname__ = 'datetime'
    return Moved


def _moved_date(seconds: float) -> Any:
    stock = datetime.date
    shift = datetime.timedelta(seconds=seconds)

    class Moved(stock, metaclass=_AnyDatetime):  # type: ignore[valid-type,misc]
        """`datetime.date`, later."""

        @classmethod
        def today(cls) -> Any:
            """The day, later."""
            return stock.today() + shift

    Moved.__name__ = Moved.__qualname__ = 'date'
    return Moved
