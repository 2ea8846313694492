"""UserError, and helpers that format messages: reasons, counts, lists, is or are."""

from collections.abc import Sequence

_PLURALS = {"person": "people", "box": "boxes"}


class UserError(Exception):
    """A mistake that the user can correct: one line that says what, where, and what to do.

    Commands print it to stderr without a traceback, and exit with status 2.
    """


def reason_of(error: BaseException, most: int = 160) -> str:
    """Return a library's message in one line, without a final stop; "..." ends a shortened one.

    Args:
        error: from the library; without a message, its type's name is returned.
        most: letters.
    """
    text = " ".join(str(error).split()).rstrip(".:") or type(error).__name__
    return text if len(text) <= most else f"{text[: most - 3].rstrip()}..."


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 person", "2 people", "1,200 frames"."""
    plural = _PLURALS.get(noun, f"{noun}s")
    return f"{number:,} {noun if number == 1 else plural}"


def be(number: int) -> str:
    """Return "is" for one, "are" for any other number."""
    return "is" if number == 1 else "are"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first names, separated by commas, and the number of further ones."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
