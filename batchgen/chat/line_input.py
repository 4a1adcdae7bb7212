"""The lines of a user: with editing and history on a terminal, one by one without."""

import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

ReadLine = Callable[[], str]


def read_lines(commands: Sequence[str]) -> Iterator[str]:
    """Yield lines until the end of the input; Ctrl-C empties the line. `commands` are completed on a terminal."""
    read = _terminal(commands) if sys.stdin.isatty() and sys.stdout.isatty() else _stream
    while True:
        try:
            yield read()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _stream() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _terminal(commands: Sequence[str]) -> ReadLine:
    if find_spec("prompt_toolkit") is None:
        return lambda: input("> ")
    # The history is in memory: lines may be private.
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter

    completer = WordCompleter([one.split()[0] for one in commands], sentence=True)
    session: PromptSession[Any] = PromptSession(completer=completer, complete_while_typing=False)
    return lambda: str(session.prompt("> "))
