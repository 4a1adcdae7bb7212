"""By what answers are judged: a file, the rubric of a judge of the run, or a general text."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import UsageError
from batchgen.evaluation.judging.prompt_texts import JUDGE_TEMPLATES
from batchgen.report.page_text import LANGUAGES
from batchgen.review.queue.reviewed_run import ReviewedRun
from batchgen.storage.durable import read_errors
from batchgen.storage.entries import is_file

_MAX_CHARACTERS = 20_000
_GENERAL = "general 1"
_GENERAL_PAIR = "general pair 1"
"""Names of the general texts: raise the number when a text changes."""


@dataclass(frozen=True, slots=True)
class Rubric:
    """A rubric by language, and its name in votes: votes by another rubric do not replace these."""

    name: str
    texts: Mapping[str, str]


def choose_rubric(run: ReviewedRun, file: Path | None, *, pairs: bool) -> Rubric:
    """The rubric of a review.

    Raises:
        UsageError: the file is not a text.
        ResourceError: it cannot be read.
    """
    if file is not None:
        return _named(_read(file))
    mode = "pairwise" if pairs else "rubric"
    for options in run.judges.values():
        if options.get("mode", "rubric") == mode and options.get("rubric"):
            return _named(str(options["rubric"]))
    if pairs:
        texts = {
            "en": JUDGE_TEMPLATES["en"].compare_rubric,
            "zh": JUDGE_TEMPLATES["zh"].compare_rubric,
        }
        return Rubric(_GENERAL_PAIR, texts)
    return Rubric(
        _GENERAL, {"en": JUDGE_TEMPLATES["en"].rubric, "zh": JUDGE_TEMPLATES["zh"].rubric}
    )


def _named(text: str) -> Rubric:
    name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Rubric(name, dict.fromkeys(LANGUAGES, text))


def _read(file: Path) -> str:
    if not is_file(file):
        raise UsageError(f"--rubric: {file} is not a file", hint="Give a text file.")
    with read_errors(file):
        content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"--rubric: {file} is not UTF-8", hint="Save the file as UTF-8."
        ) from error
    if not 0 < len(text) <= _MAX_CHARACTERS:
        raise UsageError(
            f"--rubric: {file} has {len(text):,} characters; expected 1 to {_MAX_CHARACTERS:,}",
            hint="Write in a few sentences what a good answer is.",
        )
    return text
