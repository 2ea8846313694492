"""What the page remembers of the pictures it was given: the last few, for a while, in memory."""

import collections
import dataclasses
import secrets
import threading
import time

from pare_jax.errors import UserError
from pare_jax.io.images import Picture
from pare_jax.prediction.person import Person

_MAX_PICTURES = 8
_MAX_SECONDS = 1800.0


@dataclasses.dataclass(frozen=True)
class Looked:
    """A picture and who was found in it.

    Attributes:
        name: what the picture is called.
        image: RGB, as it was read.
        scale: pixels of `image` for one of the file; 1 unless the file was huge.
        people: who was found.
    """

    name: str
    image: Picture
    scale: float
    people: tuple[Person, ...] = ()


class Memory:
    """The last few pictures, each under a key that cannot be guessed."""

    def __init__(self, pictures: int = _MAX_PICTURES, seconds: float = _MAX_SECONDS):
        """Remember this many pictures, each for so long after it was last looked at."""
        self._pictures, self._seconds = pictures, seconds
        self._kept: collections.OrderedDict[str, tuple[float, Looked]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, looked: Looked, key: str | None = None) -> str:
        """Remember; returns the key.

        Args:
            looked: what.
            key: of what it replaces; None: a new one.
        """
        key = key or secrets.token_urlsafe(16)
        with self._lock:
            self._kept[key] = time.monotonic(), looked
            self._kept.move_to_end(key)
            self._forget_old()
            while len(self._kept) > self._pictures:
                self._kept.popitem(last=False)
        return key

    def get(self, key: str | None) -> Looked:
        """Return what is remembered under a key.

        Raises:
            UserError: nothing is, or not any more.
        """
        if key is None:
            raise UserError("there is no picture; drop one, or choose an example")
        with self._lock:
            self._forget_old()
            if key not in self._kept:
                raise UserError("this picture is no longer remembered; drop it once more")
            _, looked = self._kept[key]
            self._kept[key] = time.monotonic(), looked
            self._kept.move_to_end(key)
            return looked

    def forget(self, key: str | None) -> None:
        """Forget what is remembered under a key, if anything is."""
        with self._lock:
            self._kept.pop(key or "", None)

    def _forget_old(self) -> None:
        oldest = time.monotonic() - self._seconds
        while self._kept and next(iter(self._kept.values()))[0] < oldest:
            self._kept.popitem(last=False)
