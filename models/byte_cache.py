"""A cache bounded by bytes: what was not used for longest leaves first. Safe to use from several threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteCache(Generic[K, V]):
    """Values by key, at most `max_bytes` of them as counted by `size_of`; a larger single value is not kept."""

    def __init__(self, max_bytes: int, size_of: Callable[[V], int]) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._size_of = size_of
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: K) -> bool:
        with self._lock:
            return key in self._values

    def __len__(self) -> int:
        with self._lock:
            return len(self._values)

    def get(self, key: K) -> V | None:
        """The value, which now counts as used last."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep the value, at the cost of those that were not used for longest."""
        size = self._size_of(value)
        with self._lock:
            if key in self._values:
                self.nbytes -= self._size_of(self._values.pop(key))
            if size > self.max_bytes:
                return
            self._values[key] = value
            self.nbytes += size
            while self.nbytes > self.max_bytes:
                self.nbytes -= self._size_of(self._values.popitem(last=False)[1])
