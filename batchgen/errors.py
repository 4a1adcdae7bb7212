"""The failures that end a command. Each has an exit code and, if possible, a hint.

    BatchgenError               1   a bug, or something unexpected
    ├── JobFileError            2   the job file: all problems at once, with file, line and column
    ├── UsageError              2   the command line
    ├── DataError               5   input that is unreadable or inconsistent
    │   └── JobKeyError         5   a key of the job that does not match the input; becomes a JobFileError
    ├── ModelError              5   a model or tokenizer that cannot be found or loaded
    │   └── AdapterError        5   an adapter that does not fit; becomes a JobFileError
    ├── ResourceError           5   memory, disk, device
    │   └── DeathError          5   a worker process has died: the rows in flight are suspects
    ├── StateError              6   saved state that is damaged or belongs to another job
    ├── LockedError            75   another run has locked the output folder: run again later
    └── UnavailableError       75   a server that stayed unreachable: run again later

A row that fails is not an exception: it is data (`records.Failure`).
"""

import errno
import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from types import MappingProxyType


class ExitCode(IntEnum):
    """The exit codes of commands. Stable: scripts and schedulers rely on the numbers."""

    DONE = 0
    BUG = 1
    USAGE = 2
    TOO_MANY_FAILED_ROWS = 3
    GATE_FAILED = 4
    ENVIRONMENT = 5
    STATE = 6
    RUN_AGAIN = 75


class BatchgenError(Exception):
    """A failure with a message for the user: what is wrong, where, what was expected. `hint` is what to do."""

    exit_code: ExitCode = ExitCode.BUG

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(BatchgenError):
    """The command line is invalid."""

    exit_code = ExitCode.USAGE


class DataError(BatchgenError):
    """Input that is unreadable or inconsistent."""

    exit_code = ExitCode.ENVIRONMENT


class AddressError(ValueError):
    """Text that is not an address that can be used. The message never quotes it: it may contain a password."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class JobKeyError(DataError):
    """A key of the job that does not match the input. The caller that has the job file adds the line."""

    def __init__(self, key: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{key}: {message}", hint=hint)
        self.problem = Problem(key, message, hint)


class ModelError(BatchgenError):
    """A model or tokenizer that cannot be found, downloaded or loaded."""

    exit_code = ExitCode.ENVIRONMENT


class AdapterError(ModelError):
    """All problems of an adapter. The caller that has the job file adds key and line."""

    def __init__(self, problems: Sequence["Problem"]) -> None:
        hints = dict.fromkeys(problem.hint for problem in problems if problem.hint)
        super().__init__("\n".join(p.message for p in problems), hint=" ".join(hints))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type["AdapterError"], tuple[Sequence["Problem"]]]:
        return AdapterError, (self.problems,)

    def at(self, key: str) -> list["Problem"]:
        """The problems, as those of a key of the job."""
        return [replace(problem, key=key) for problem in self.problems]


class ResourceError(BatchgenError):
    """Not enough memory or disk, or no such device."""

    exit_code = ExitCode.ENVIRONMENT


class DeathError(ResourceError):
    """A worker process has died; its rows in flight are treated as if this process had died."""


_NO_MEMORY = re.compile(
    "can(no|')t (allocate|map|start new thread)|failed to map segment|out of memory|bad_alloc",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it follows, means that no memory, address space or thread is left.

    Python, the loader of shared libraries and torch raise different classes for that.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, MemoryError):
            return True
        if isinstance(link, OSError) and link.errno == errno.ENOMEM:
            return True
        if isinstance(link, ImportError | RuntimeError) and _NO_MEMORY.search(str(link)):
            return True
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return False


def check_platform() -> None:
    """Check that this system has what run folders need.

    Raises:
        ResourceError: it has no file locks of POSIX, such as Windows.
    """
    try:
        importlib.import_module("fcntl")
    except ImportError as error:
        raise ResourceError(
            "this Python has no module fcntl: batchgen runs on Linux and macOS",
            hint="On Windows, run it in WSL, the Windows Subsystem for Linux.",
        ) from error


class StateError(BatchgenError):
    """A run folder that is damaged or belongs to another job."""

    exit_code = ExitCode.STATE


class LockedError(BatchgenError):
    """Another run has locked the output folder."""

    exit_code = ExitCode.RUN_AGAIN


class UnavailableError(BatchgenError):
    """A server has stayed unreachable."""

    exit_code = ExitCode.RUN_AGAIN


@dataclass(frozen=True, slots=True)
class Problem:
    """One error in a job file.

    Attributes:
        line, column: from 1; 0 if the problem has no position in the file, as with `--set`.
        file: the base file that contains it; empty for the job file itself.
        value_line, value_column: where it is in the text that is the value of the key, from 1; 0: not known.
    """

    key: str
    message: str
    hint: str = ""
    line: int = 0
    column: int = 0
    file: str = ""
    value_line: int = 0
    value_column: int = 0

    def located(self, file: str) -> str:
        """Where it is, in the job file `file` or its own, and what it is."""
        file = self.file or file
        position = f"{file}:{self.line}:{self.column}" if self.line else file
        return (
            f"{position}: {self.key}: {self.message}" if self.key else f"{position}: {self.message}"
        )


class JobFileError(BatchgenError):
    """All errors of a job file, in the order of its lines, followed by those of its base files.

    `texts` has the text of each base file by name, to quote the lines.
    """

    exit_code = ExitCode.USAGE

    def __init__(
        self,
        problems: Sequence[Problem],
        *,
        file: str,
        text: str = "",
        texts: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.problems = tuple(
            sorted(problems, key=lambda p: (p.file not in ("", file), p.file, p.line, p.column))
        )
        self.file = file
        lines = {name: content.splitlines() for name, content in {**texts, file: text}.items()}
        shown = [_shown(p, file, lines.get(p.file or file, [])) for p in self.problems]
        super().__init__("\n".join(shown))


_PASSWORD = re.compile(r"(?<=://)[^\s/@]+(?=@)|(?<=[?&])[\w-]+=[^\s\"']+")
"""The user and the password of an address, and what a signed address has after the question mark."""


def _shown(problem: Problem, file: str, lines: list[str]) -> str:
    shown = [problem.located(file)]
    if 0 < problem.line <= len(lines):
        # The caret is under the character only if tabs and control characters take one column each.
        source = "".join(c if c.isprintable() else " " for c in lines[problem.line - 1])[:160]
        source = _PASSWORD.sub(lambda found: "*" * len(found[0]), source)
        shown.append(f"{problem.line:>6} | {source}")
        if problem.column <= len(source) + 1:
            shown.append(" " * 6 + " | " + " " * (problem.column - 1) + "^")
    if problem.hint:
        shown.append(f"{'':6} = hint: {problem.hint}")
    return "\n".join(shown)
