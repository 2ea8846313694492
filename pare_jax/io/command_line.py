"""Runs the commands: parses flags, prints --help, reports a user's mistake in one line."""

import logging
import re
import sys
from collections.abc import Callable, Sequence

from absl import flags

from pare_jax.errors import UserError

WRONG = 2
INTERRUPTED = 130  # the exit status of shells after Ctrl-C

DefineFlags = Callable[[flags.FlagValues], None]

# The wording of ml_collections where a config has no such key but a similar one.
_GUESS = re.compile(r"""^(\w+)' Did you mean "([\w.]+)" instead of""")


def run(
    doc: str | None,
    define_flags: DefineFlags,
    do: Callable[[flags.FlagValues, list[str]], int],
    argv: Sequence[str],
    interrupted: str = "interrupted",
) -> int:
    """Run a command that takes absl's flags.

    Args:
        doc: the command's description. --help prints it before the flags.
        define_flags: defines the command's flags; see `parse`.
        do: the command. It takes the flags and the other arguments, and returns an exit status.
        argv: the command line, the program's name first.
        interrupted: the line on stderr after Ctrl-C.

    Returns:
        The exit status: that of `do`; 0 after --help; 2 where the command line is wrong or `do`
        raised UserError, with one line on stderr; 130 after Ctrl-C.
    """
    quieten_libraries()

    def parse_and_do() -> int:
        values, arguments = parse(define_flags, argv)
        if values.help:
            print(f"{doc}\n{values.get_help()}")
            return 0
        return do(values, arguments)

    return guarded(parse_and_do, interrupted)


def parse(define_flags: DefineFlags, argv: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    """Parse a command line.

    Args:
        define_flags: defines the flags, ml_collections' config flags included. --help is added.
        argv: the command line, the program's name first.

    Returns:
        The flags and the other arguments.

    Raises:
        UserError: an unknown flag or config key, or a value of the wrong type.
    """
    # Not absl's global flags: importing a command's module must not add flags to the caller's.
    values = flags.FlagValues()
    define_flags(values)
    # Help lists flags by module: --help belongs to the module of the command.
    owner = next(iter(values.flags_by_module_dict()), __name__)
    flags.DEFINE_bool(
        "help", False, "Show this help.", short_name="h", flag_values=values, module_name=owner
    )
    try:
        return values, values(list(argv))[1:]
    except flags.Error as error:
        raise UserError(f"{' '.join(str(error).split())}; see --help") from None
    # ml_collections raises these for overrides of a config.
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise UserError(_describe_override(error)) from error


def _describe_override(error: Exception) -> str:
    # A KeyError's own text has quotes around it; its argument has not.
    text = str(error.args[0] if error.args else error)
    # ml_collections quotes one message within another, escapes included.
    text = text.replace("\\n", " ").replace("\\'", "'").replace('\\"', '"')
    text = " ".join(text.split()).strip("\"'")
    if isinstance(error, KeyError | AttributeError):
        text = _GUESS.sub(r"\1, did you mean \2?", text).partition("?")[0]
        end = "?" if ", did you mean " in text else ";"
        all_keys = "pare_jax/training/base_config.py documents them all"
        return f"there is no config key {text}{end} {all_keys}"
    return f"cannot use this config key: {text or type(error).__name__}"


def guarded(do: Callable[[], int], interrupted: str = "interrupted", speaker: str = "error") -> int:
    """Call `do`, and return its exit status or that of a UserError or Ctrl-C.

    Args:
        do: returns an exit status.
        interrupted: the line on stderr after Ctrl-C.
        speaker: the first word of the line for a UserError.
    """
    try:
        return do()
    except UserError as error:
        complain(error, speaker)
        return WRONG
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return INTERRUPTED


def complain(error: UserError | str, speaker: str = "error") -> None:
    """Print an error on stderr."""
    print(f"{speaker}: {error}", file=sys.stderr)


def quieten_libraries() -> None:
    """Show only the errors that libraries log through absl, not their progress."""
    logging.getLogger("absl").setLevel(logging.ERROR)
