"""Reports of a prediction run: lines on the terminal, the summary, and the page index.html."""

import collections
import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from pare_jax.body.io import BodyData
from pare_jax.errors import UserError, counted, listed
from pare_jax.io.files import printable
from pare_jax.io.progress import say
from pare_jax.io.threads import errors_as_user_errors
from pare_jax.prediction.page.entries import Entry, Failure, RunPage, VideoEntry, entry_from_files
from pare_jax.prediction.page.index_page import write_page
from pare_jax.prediction.run.output_folder import OutputFolder, Record

# The fact that the page shows at its top.
WARNING = "Warning"
_TITLE = "Predictions"


@dataclasses.dataclass
class Reporter:
    """Prints results and failures, and keeps them for the summary.

    Attributes:
        records: of all finished inputs, an earlier run's included.
        earlier: how many of them an earlier run finished.
        failures: inputs, or parts of them, that failed.
        hint: text after the names of inputs without people.
    """

    records: list[Record] = dataclasses.field(default_factory=list)
    earlier: int = 0
    failures: list[Failure] = dataclasses.field(default_factory=list)
    hint: str = ""

    def say(self, text: str) -> None:
        """Print a line on stdout without disturbing a progress bar."""
        say(text, sys.stdout)

    def warn(self, text: str) -> None:
        """Print a line on stderr without disturbing a progress bar."""
        say(text, sys.stderr)

    def failed(self, source: str, reason: str) -> None:
        """Print and keep a failure."""
        source, reason = printable(source), " ".join(printable(reason).split())
        # Most reasons begin with the file, which is then not repeated.
        self.warn(f"error: {reason}" if source in reason else f"error: {source}: {reason}")
        reason = reason.removeprefix(f"{source}: ").removeprefix(f"{source} ")
        self.failures.append(Failure(source, reason))

    def done(self, record: Record, *, earlier: bool = False) -> None:
        """Print and keep a result, of this run or of an earlier one."""
        self.records.append(record)
        self.earlier += earlier
        for complaint in record.complaints:
            self.failed(record.source, complaint)
        if not earlier:
            found = counted(record.people, "person") if record.people else "no person found"
            files = [f"{file}/" if meshes else file for file, meshes in record.files.items()]
            self.say(f"{record.source}: {found} -> {', '.join(files)}")

    @property
    def status(self) -> int:
        """The exit status: 0 everything was done, 1 something failed, 2 nothing was done."""
        if not self.records:
            return 2
        return 1 if self.failures else 0

    def summary(self) -> list[str]:
        """Return the lines of the summary."""
        parts = []
        for is_clip, noun in ((False, "photograph"), (True, "clip")):
            records = [record for record in self.records if record.is_clip == is_clip]
            if records:
                people = counted(sum(record.people for record in records), "person")
                parts.append(f"{counted(len(records), noun)} with {people}")
        lines = [f"done: {' and '.join(parts) or 'nothing'}"]
        if self.earlier:
            lines[0] += f" ({self.earlier} by an earlier run)"
        empty = [record.source for record in self.records if not record.people]
        if empty:
            lines.append(f"no person found in {len(empty)}: {listed(empty)}{self.hint}")
        if self.failures:
            lines.append(f"failed: {len(self.failures)}")
            # The reason of a single input is the line above.
            if self.records or len(self.failures) > 1:
                lines += [f"  {failure.name}: {failure.reason}" for failure in self.failures]
        return lines


def write_run_page(
    folder: OutputFolder, reporter: Reporter, facts: Mapping[str, str], body: BodyData | None
) -> None:
    """Write index.html about everything that is finished in a folder, and about failures."""
    path = folder.path / "index.html"
    if _is_foreign(path):
        reason = f"{path} exists and no run wrote it: there is no page; move the file away"
        reporter.failed(str(path), reason)
        return
    unknown = [record.source for record in folder if not _has_people_on_disk(record)]
    if unknown:
        what = f"{counted(len(unknown), 'result')} that an earlier run wrote without npz"
        reporter.warn(f"note: the page skips {what}: {listed(unknown)}")
        facts = {**facts, "Not shown": what}
    entries = _entries(folder, reporter, facts)
    shown = {name: text for name, text in facts.items() if name != WARNING}
    page = RunPage(_TITLE, entries, reporter.failures, shown, body, facts.get(WARNING))
    try:
        with errors_as_user_errors():
            write_page(page, folder.path, lambda f: reporter.failed(f.name, f.reason))
    except UserError as error:
        reporter.failed(str(path), str(error))
    else:
        reporter.say(f"page: {path}")


def _is_foreign(page: Path) -> bool:
    """Return whether no run wrote this page; an unreadable one fails when it is written."""
    if page.is_symlink() or page.is_fifo():  # runs write neither
        return True
    try:
        with page.open("rb") as file:
            return f"<title>{_TITLE}</title>".encode() not in file.read(4096)
    except OSError:
        return False


def _entries(folder: OutputFolder, reporter: Reporter, facts: Mapping[str, str]) -> Iterator[Entry]:
    """Yield an entry for each finished input of the folder, of this run or an earlier one."""
    by_this_run = {record.name for record in reporter.records}
    titles = collections.Counter(Path(record.source).name for record in folder)
    for record in filter(_has_people_on_disk, folder):
        title = Path(record.source).name
        try:
            # Inputs with the same name are shown with their folders.
            entry = _entry(folder.path, record, title if titles[title] == 1 else record.source)
        except UserError as error:
            reporter.failures.append(Failure(record.source, str(error)))
            continue
        if record.name not in by_this_run:
            other = {name: text for name, text in record.facts.items() if text != facts.get(name)}
            entry = dataclasses.replace(entry, facts=other)
        yield entry


def _entry(folder: Path, record: Record, title: str) -> Entry:
    if record.is_clip and not record.files:  # nobody was found and nothing was drawn
        return VideoEntry(title, tracks=(), frame_count=0, frame_rate=0.0)
    # The user's own pictures may have similar names.
    return entry_from_files(folder, record.name, title, record.files)


def _has_people_on_disk(record: Record) -> bool:
    """Return whether the files of a record tell who is in its input."""
    empty_clip = record.is_clip and not record.people
    return empty_clip or any(file.endswith(".npz") for file in record.files)
