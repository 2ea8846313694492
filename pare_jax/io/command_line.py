"""Runs the commands: parses flags, prints --help, reports a user's mistake in one line."""

import contextlib
import logging
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from pare_jax.errors import UserError
from pare_jax.io.progress import say

WRONG = 2
# Seconds after which a dropped signal is sent again, when the code that dropped it has ended.
_PAUSE = 0.1
INTERRUPTED = 130  # the exit status of shells after Ctrl-C

# --help lists a flag under the module that defines it. Flags defined here are the command's.
flags.disclaim_key_flags()

DefineFlags = Callable[[flags.FlagValues], None]

# The wording of ml_collections where a config has no such key but a similar one.
_GUESS = re.compile(r"""^'?([\w.]+)'? Did you mean "([\w.]+)" instead of""")
# A config that takes no word after its file, as `FILE:WORD`.
_TAKES_NO_WORD = re.compile(r"--?config[= ](\S+?):(\S*?): .*get_config\(\) takes 0 positional")
# A text that is one quoted name.
_QUOTED = re.compile(r"""^'([^']*)'$""")


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


def define_run_flags(values: flags.FlagValues) -> None:
    """Define the flags of a command that loads a trained run: checkpoint, weights, body, crops."""
    texts = {
        "checkpoint": "Run to load: its workdir, or WORKDIR/checkpoints/STEP.",
        "body": "Body model file; needed if the file that the run names has moved.",
    }
    for name, text in texts.items():
        flags.DEFINE_string(name, None, text, flag_values=values)
    flags.DEFINE_enum(
        "weights",
        "auto",
        ["auto", "swa", "last"],
        "Weights to load; auto: those that the run's evaluation uses.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "crop_scale",
        None,
        "Side of a crop over the longer side of its box; default: the run's.",
        flag_values=values,
    )


def parse(define_flags: DefineFlags, argv: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    """Parse a command line.

    Args:
        define_flags: defines the flags, ml_collections' config flags included. --help is added.
        argv: the command line, the program's name first.

    Returns:
        The flags and the other arguments.

    Raises:
        UserError: an unknown flag or config key, a value of the wrong type, or a config file that
            raises an error.
    """
    # Not absl's global flags: importing a command's module must not add flags to the caller's.
    values = flags.FlagValues()
    try:
        define_flags(values)
        # Help lists flags by module: --help belongs to the module of the command.
        owner = next(iter(values.flags_by_module_dict()), __name__)
        flags.DEFINE_bool(
            "help", False, "Show this help.", short_name="h", flag_values=values, module_name=owner
        )
        return values, values(list(argv))[1:]
    except flags.Error as error:
        text, _, trace = str(error).partition("Traceback (most recent")
        # ml_collections puts a whole traceback into the message; its last line is the reason.
        text = " ".join((text + trace.strip().rpartition("\n")[2]).split())
        # The config itself refuses the word, not one that it calls.
        by_library = "ml_collections" in (re.findall(r'File "([^"]*)"', trace) or [""])[-1]
        if by_library and (variant := _TAKES_NO_WORD.search(text)):
            raise UserError(
                f"{variant[1]} has no variants: give it without :{variant[2]}"
            ) from None
        raise UserError(f"{text}; see --help") from None
    except UserError:
        raise
    # The config file is the user's code and may raise anything, SystemExit included.
    except (Exception, SystemExit) as error:
        if at := _place_in_config(error, argv):
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            raise UserError(
                f"cannot read the config {at}: {type(error).__name__}{reason and f': {reason}'}; "
                "name a file like those in configs/"
            ) from error
        # ml_collections raises these for overrides of a config.
        if isinstance(error, LookupError | AttributeError | TypeError | ValueError):
            raise UserError(_describe_override(error)) from error
        raise


def _place_in_config(error: BaseException, argv: Sequence[str]) -> str | None:
    """Return the file and line of the config that raised an error; None if none did."""
    text = " ".join(argv)
    files = {frame.filename: frame.lineno for frame in traceback.extract_tb(error.__traceback__)}
    if isinstance(error, SyntaxError) and error.filename:
        files[error.filename] = error.lineno
    for argument in re.findall(r"--?config[= ](\S+)", text):
        path = Path(argument.partition(":")[0])
        for file, line in files.items():
            if Path(file).absolute() == path.absolute():
                return f"{path}, line {line}"
        # Null bytes and a file without get_config, for instance, have no line.
        named = isinstance(error, AttributeError) and "get_config" in str(error)
        if path.is_file() and (named or isinstance(error, SyntaxError | UnicodeDecodeError)):
            return str(path)
    return None


def _describe_override(error: Exception) -> str:
    # ml_collections raises one error with another as its argument, whose own argument is the text.
    reason: Any = error
    while isinstance(reason, BaseException):
        reason = reason.args[0] if reason.args else type(error).__name__
    text = " ".join(str(reason).split())
    if isinstance(error, KeyError | AttributeError):
        guess = _GUESS.match(text)
        name = guess[1] if guess else _QUOTED.sub(r"\1", text)
        end = f", did you mean {guess[2]}?" if guess else ";"
        all_keys = "pare_jax/training/base_config.py documents them all"
        return f"there is no config key {name}{end} {all_keys}"
    return f"cannot use this config key: {text}"


def guarded(do: Callable[[], int], interrupted: str = "interrupted", speaker: str = "error") -> int:
    """Call `do`, and return its exit status or that of a UserError or Ctrl-C.

    Args:
        do: returns an exit status.
        interrupted: the line on stderr after Ctrl-C.
        speaker: the first word of the line for a UserError.
    """
    try:
        with dropped_is_repeated(KeyboardInterrupt, lambda: signal.SIGINT):
            return do()
    except UserError as error:
        complain(error, speaker)
        return WRONG
    except KeyboardInterrupt:
        # Another Ctrl-C ends the process at once, while Python waits for its threads.
        with contextlib.suppress(ValueError):  # only the main thread can set this
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        say(interrupted, sys.stderr)
        return INTERRUPTED


@contextlib.contextmanager
def dropped_is_repeated(
    kind: type[BaseException], on_drop: Callable[[], signal.Signals]
) -> Iterator[None]:
    """Repeat a signal whose exception Python drops, in the block.

    Python drops what a handler of signals raises in `__del__` or in a callback from C, as those of
    the garbage collector are.

    Args:
        kind: the exception that the handler raises.
        on_drop: called when it is dropped; returns the signal to send again.
    """
    before, timers, active = sys.unraisablehook, [], True
    main = threading.main_thread().ident

    def hook(dropped: "sys.UnraisableHookArgs") -> None:
        if not active or not isinstance(dropped.exc_value, kind):
            before(dropped)
            return
        timer = threading.Timer(_PAUSE, signal.pthread_kill, (main, on_drop()))
        timer.daemon = True
        timers.append(timer)
        timer.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        active = False
        if sys.unraisablehook is hook:  # otherwise one that was set in the block calls it
            sys.unraisablehook = before
        for timer in timers:
            timer.cancel()
            timer.join()


def complain(error: UserError | str, speaker: str = "error") -> None:
    """Print an error on stderr, in one line whatever names it holds."""
    say(f"{speaker}: {error}", sys.stderr)


def quieten_libraries() -> None:
    """Show only the errors that libraries log through absl, not their progress."""
    logging.getLogger("absl").setLevel(logging.ERROR)
