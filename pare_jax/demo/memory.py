"""Keeps the last few photographs of the page in memory for a limited time."""

import collections
import dataclasses
import secrets
import threading
import time

from pare_jax.body.io import BodyData
from pare_jax.errors import UserError
from pare_jax.io.images import Picture
from pare_jax.prediction.focal_length import FocalLength
from pare_jax.prediction.person import Person

_MAX_PHOTOGRAPHS = 8
_MAX_SECONDS = 1800.0


@dataclasses.dataclass(frozen=True)
class PhotographResult:
    """A photograph and the people found in it.

    Attributes:
        name: name of the file.
        image: RGB, as read.
        scale: size of `image` relative to the file; below 1 if a huge file was read reduced.
        people: the people found.
        owner: name of the visit, which is an open page.
        focal_length: of the camera, pixels of `image`, if the file's EXIF tags give it.
        body: the body model of the people, for a rigged GLB.
    """

    name: str
    image: Picture
    scale: float
    people: tuple[Person, ...] = ()
    owner: str = ""
    focal_length: FocalLength = dataclasses.field(default_factory=FocalLength)
    body: BodyData | None = None


class Memory:
    """The last few results, each under a key that cannot be guessed."""

    def __init__(self, photographs: int = _MAX_PHOTOGRAPHS, seconds: float = _MAX_SECONDS):
        """Keep at most `photographs` results, each until `seconds` after its last use."""
        self._photographs, self._seconds = photographs, seconds
        self._kept: collections.OrderedDict[str, tuple[float, PhotographResult]] = (
            collections.OrderedDict()
        )
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, result: PhotographResult, key: str | None = None) -> str:
        """Store a result and return its key.

        Args:
            result: the result.
            key: key of the result to replace; None: a new key.
        """
        key = key or secrets.token_urlsafe(16)
        with self._lock:
            self._kept[key] = time.monotonic(), result
            self._kept.move_to_end(key)
            self._forget_old()
            while len(self._kept) > self._photographs:
                self._kept.popitem(last=False)
        return key

    def get(self, key: str | None) -> PhotographResult:
        """Return the result of a key.

        Raises:
            UserError: the key has no result, or its time is over.
        """
        if key is None:
            raise UserError("no photograph yet: drop one, or choose an example")
        with self._lock:
            self._forget_old()
            if key not in self._kept:
                raise UserError("the photograph is no longer stored: drop it again")
            _, result = self._kept[key]
            self._kept[key] = time.monotonic(), result
            self._kept.move_to_end(key)
            return result

    def forget(self, key: str | None) -> None:
        """Remove the result of a key, if there is one."""
        with self._lock:
            self._kept.pop(key or "", None)

    def forget_owner(self, owner: str) -> None:
        """Remove all results of an owner."""
        with self._lock:
            for key in [k for k, (_, result) in self._kept.items() if result.owner == owner]:
                del self._kept[key]

    def _forget_old(self) -> None:
        oldest = time.monotonic() - self._seconds
        while self._kept and next(iter(self._kept.values()))[0] < oldest:
            self._kept.popitem(last=False)
