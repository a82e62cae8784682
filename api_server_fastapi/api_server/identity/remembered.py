"""What was found out about credentials, kept for a short time, without the credentials themselves."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """Keeps up to `most` values by a digest of the secret that each belongs to, the latest used ones.

    The key of the digest is the process's own, and made anew at each start.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._kept: OrderedDict[bytes, tuple[float, T]] = OrderedDict()

    def digest(self, *secret: str) -> bytes:
        """Return what stands for a secret that has these parts."""
        text = "\0".join(secret).encode("utf-8", "surrogatepass")
        return blake2b(text, key=self._key, digest_size=32).digest()

    def get(self, digest: bytes) -> T | None:
        """Return what is remembered, None where it is not or no longer."""
        kept = self._kept.get(digest)
        if kept is None:
            return None
        until, value = kept
        if until <= self._clock():
            del self._kept[digest]
            return None
        self._kept.move_to_end(digest)
        return value

    def keep(self, digest: bytes, value: T, seconds: float) -> None:
        """Remember a value for so long at most."""
        self._kept[digest] = (self._clock() + seconds, value)
        self._kept.move_to_end(digest)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def __len__(self) -> int:
        return len(self._kept)
