"""The tree of failures that end a command. Each carries its exit code and, where there is one, the way out.

    BatchgenError               1   a bug, or something unforeseen
    ├── JobFileError            2   the job file: every problem at once, with file, line and column
    ├── UsageError              2   the command line
    ├── DataError               5   input that cannot be read, or says something impossible
    │   └── JobKeyError         5   a key of the job that does not go with it; becomes a JobFileError
    ├── ModelError              5   a model or tokenizer that cannot be found or loaded
    ├── ResourceError           5   memory, disk, device
    │   └── DeathError          5   a process that answered rows has died: those in flight are suspects
    ├── StateError              6   saved state that belongs to another job, or is damaged
    └── LockedError            75   another run holds the output folder: run again later

A row that fails is not here: it is data (`records.Failure`). Knows nothing of jobs, files or models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType


class ExitCode(IntEnum):
    """What a command ends with. Stable: scripts and schedulers rely on the numbers."""

    DONE = 0
    BUG = 1
    USAGE = 2
    TOO_MANY_FAILED_ROWS = 3
    GATE_FAILED = 4
    ENVIRONMENT = 5
    STATE = 6
    RUN_AGAIN = 75


class BatchgenError(Exception):
    """A failure with words for the user: the place, what was found, what was expected; `hint` is the way out."""

    exit_code: ExitCode = ExitCode.BUG

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(BatchgenError):
    """The command line asks for something that cannot be."""

    exit_code = ExitCode.USAGE


class DataError(BatchgenError):
    """Input that cannot be read, or says something impossible."""

    exit_code = ExitCode.ENVIRONMENT


class JobKeyError(DataError):
    """A key of the job that does not go with the input; whoever knows the job file adds the line.

    Until then it counts as a failure of the input.
    """

    def __init__(self, key: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{key}: {message}", hint=hint)
        self.problem = Problem(key, message, hint)


class ModelError(BatchgenError):
    """A model or tokenizer that cannot be found, fetched or loaded."""

    exit_code = ExitCode.ENVIRONMENT


class ResourceError(BatchgenError):
    """Not enough memory or disk, or no such device."""

    exit_code = ExitCode.ENVIRONMENT


class DeathError(ResourceError):
    """A process that answered rows has died. To the rows in flight it is as if this one had."""


class StateError(BatchgenError):
    """A run folder that was made by another job, or is damaged."""

    exit_code = ExitCode.STATE


class LockedError(BatchgenError):
    """Another run holds the output folder."""

    exit_code = ExitCode.RUN_AGAIN


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a job file.

    `line` and `column` count from 1; they are 0 where the problem has no place in the file, as with `--set`.
    `file` is the base file that holds it; empty for the job file itself.
    """

    key: str
    message: str
    hint: str = ""
    line: int = 0
    column: int = 0
    file: str = ""


class JobFileError(BatchgenError):
    """Everything that is wrong with a job file, in the order of its lines; then its base files.

    `texts` holds the text of each base file by its name, to show the lines in question.
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
        lines = {name: known.splitlines() for name, known in {**texts, file: text}.items()}
        names = [p.file or file for p in self.problems]
        shown = [_shown(p, n, lines.get(n, [])) for p, n in zip(self.problems, names, strict=True)]
        super().__init__("\n".join(shown))


def _shown(problem: Problem, file: str, lines: list[str]) -> str:
    place = f"{file}:{problem.line}:{problem.column}" if problem.line else file
    key = f"{problem.key}: " if problem.key else ""
    shown = [f"{place}: {key}{problem.message}"]
    if 0 < problem.line <= len(lines):
        # The caret stands under the character only if tabs and control characters take one column each.
        source = "".join(c if c.isprintable() else " " for c in lines[problem.line - 1])[:160]
        shown.append(f"{problem.line:>6} | {source}")
        if problem.column <= len(source) + 1:
            shown.append(" " * 6 + " | " + " " * (problem.column - 1) + "^")
    if problem.hint:
        shown.append(f"{'':6} = hint: {problem.hint}")
    return "\n".join(shown)
