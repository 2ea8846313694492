"""What the commands have in common: flags of their own, --help, one line for what is wrong."""

import logging
import sys
from collections.abc import Callable, Sequence

from absl import flags

from pare_jax.errors import UserError

WRONG = 2
INTERRUPTED = 130  # what shells answer for a command ended by Ctrl-C


def run(
    doc: str | None,
    define_flags: Callable[[flags.FlagValues], None],
    do: Callable[[flags.FlagValues, list[str]], int],
    argv: Sequence[str],
    interrupted: str = "interrupted",
) -> int:
    """Run a command that takes absl's flags.

    Args:
        doc: the command's own description, which --help prints before the flags.
        define_flags: defines its flags; --help is added to them.
        do: the command, given the flags and what is left of the line; answers its exit status.
        argv: the command line, the program's name first.
        interrupted: what is said on stderr after Ctrl-C.

    Returns:
        The exit status: that of `do`; 0 after --help; 2 where the command line is wrong or `do`
        raised UserError, which is one line on stderr; 130 after Ctrl-C.
    """
    # Flags of this command alone: importing its module must not add to the caller's.
    values = flags.FlagValues()
    define_flags(values)
    # Help lists flags by module: --help belongs to the command's own.
    owner = next(iter(values.flags_by_module_dict()), __name__)
    flags.DEFINE_bool(
        "help",
        False,
        "Show this help.",
        short_name="h",
        flag_values=values,
        module_name=owner,
    )
    quieten_libraries()

    def parse_and_do() -> int:
        try:
            arguments = values(list(argv))[1:]
        except flags.Error as error:
            raise UserError(f"{' '.join(str(error).split())}; see --help") from None
        if values.help:
            print(f"{doc}\n{values.get_help()}")
            return 0
        return do(values, arguments)

    return guarded(parse_and_do, interrupted)


def guarded(do: Callable[[], int], interrupted: str = "interrupted", speaker: str = "error") -> int:
    """Return the exit status of `do`, what it raises for the user made one line on stderr.

    Args:
        do: answers an exit status.
        interrupted: what is said after Ctrl-C.
        speaker: what the line of a UserError begins with.
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
    """Print what the user can mend on stderr."""
    print(f"{speaker}: {error}", file=sys.stderr)


def quieten_libraries() -> None:
    """Leave out what libraries say through absl of their progress; their failures are said."""
    logging.getLogger("absl").setLevel(logging.ERROR)
