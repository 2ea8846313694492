"""The one exception a user is meant to read, and the words that messages share."""

from collections.abc import Sequence

_PLURALS = {"person": "people", "box": "boxes"}


class UserError(Exception):
    """An error that the user can mend: one line that says what, where, and what to do.

    Command lines print the message to stderr and exit with status 2, without a traceback.
    """


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 person", "2 people", "1,200 frames"."""
    plural = _PLURALS.get(noun, f"{noun}s")
    return f"{number:,} {noun if number == 1 else plural}"


def be(number: int) -> str:
    """Return "is" for one and "are" for any other number."""
    return "is" if number == 1 else "are"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first names, separated by commas, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
