"""What the user is told during a run and at its end."""

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pare_jax.errors import counted, listed
from pare_jax.io.files import printable
from pare_jax.io.progress import ProgressBar, say
from pare_jax.prediction.page.entries import Failure
from pare_jax.prediction.run.records import Record


@dataclasses.dataclass
class Reporter:
    """Tells what happens, and remembers it for the end.

    Attributes:
        records: of what is done, with what an earlier run did.
        earlier: how many of them an earlier run did.
        failures: what could not be done.
        hint: said after the names of what shows nobody.
    """

    records: list[Record] = dataclasses.field(default_factory=list)
    earlier: int = 0
    failures: list[Failure] = dataclasses.field(default_factory=list)
    hint: str = ""

    def say(self, text: str) -> None:
        """Print a line on stdout without disturbing a bar."""
        self._write(text, sys.stdout)

    def warn(self, text: str) -> None:
        """Print a line on stderr without disturbing a bar."""
        self._write(text, sys.stderr)

    def failed(self, source: str, reason: str) -> None:
        """Take note of something that could not be done."""
        source, reason = printable(source), " ".join(printable(reason).split())
        # Most reasons begin with the file; it need not be said twice.
        self.warn(f"error: {reason}" if source in reason else f"error: {source}: {reason}")
        reason = reason.removeprefix(f"{source}: ").removeprefix(f"{source} ")
        self.failures.append(Failure(source, reason))

    def done(self, record: Record, *, earlier: bool = False) -> None:
        """Take note of something that is done, now or by an earlier run."""
        self.records.append(record)
        self.earlier += earlier
        for complaint in record.complaints:
            self.failed(record.source, complaint)
        if not earlier:
            found = counted(record.people, "person") if record.people else "no person found"
            files = [*record.files, *(f"{folder}/" for folder in record.meshes)]
            self.say(f"{record.source}: {found} -> {', '.join(files)}")

    @contextmanager
    def bar(self, what: str, total: int | None, start: int = 0) -> Iterator[ProgressBar]:
        """Show a bar for as long as something takes."""
        with ProgressBar(what, total, start=start) as bar:
            yield bar

    @property
    def status(self) -> int:
        """The exit status that fits."""
        if not self.records:
            return 2
        return 1 if self.failures else 0

    def summary(self) -> list[str]:
        """Return what is said at the end."""
        parts = []
        for is_clip, noun in ((False, "photograph"), (True, "clip")):
            records = [record for record in self.records if record.is_clip == is_clip]
            if records:
                people = counted(sum(record.people for record in records), "person")
                parts.append(f"{counted(len(records), noun)} with {people}")
        lines = [f"done: {' and '.join(parts) or 'nothing'}"]
        if self.earlier:
            lines[0] += f" ({self.earlier} of them before)"
        empty = [record.source for record in self.records if not record.people]
        if empty:
            lines.append(f"no person found in {len(empty)}: {listed(empty)}{self.hint}")
        if self.failures:
            lines.append(f"could not be done: {len(self.failures)}")
            lines += [f"  {failure.name}: {failure.reason}" for failure in self.failures]
        return lines

    def _write(self, text: str, file) -> None:
        # A name must not end the run because the terminal has no such letters.
        encoding = getattr(file, "encoding", None) or "utf-8"
        text = printable(text).encode(encoding, "replace").decode(encoding)
        say(text, file)
