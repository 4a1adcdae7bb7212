"""The answers of the run that a judge compares with: found by id and sample, if the prompt is the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen.errors import UsageError
from batchgen.output.published_run import PublishedRun
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """Id and sample of an answer, and the hash of its prompt; None where that is unknown."""

    id: str
    sample: int
    prompt_hash: str | None


@dataclass(frozen=True, slots=True)
class BaselineAnswer:
    """The baseline's answer to one key.

    `different_prompt` if there is one, to another prompt; not `readable` if its cell is not a text or a number.
    """

    text: str | None
    different_prompt: bool = False
    readable: bool = True


def open_baseline(path: Path) -> PublishedRun:
    """Open a run and check its answers."""
    folder = RunFolder(path.absolute())
    if not exists(folder.manifest):
        problem = f"{path} is not the output folder of a complete run"
        raise UsageError(problem, hint="Give the output folder of a complete run.")
    run = PublishedRun(folder)
    run.check(only_responses=True)
    return run


def baseline_record(run: PublishedRun) -> dict[str, Any]:
    """Identify the answers of a run, for a fingerprint: `finished_at` changes if failed rows are retried."""
    return {"run_id": run.manifest.run_id, "finished_at": run.manifest.content["finished_at"]}


def find_baseline_answers(run: PublishedRun, keys: Sequence[AnswerKey]) -> list[BaselineAnswer]:
    """The baseline's answer to each key."""
    rows = run.find([(key.id, key.sample) for key in keys], ["prompt_hash", "response"])
    answers = []
    for key, row in zip(keys, rows, strict=True):
        different = row is not None and key.prompt_hash not in (None, row["prompt_hash"])
        text = None if row is None or different else row["response"]
        answers.append(BaselineAnswer(text, different))
    return answers
