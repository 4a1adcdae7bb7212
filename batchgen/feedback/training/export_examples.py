"""`batchgen feedback export`: votes, scores and verdicts as training data.

votes, scores ──> examples ── filters ──> rows ── split by prompt ──> FILE, or FILE-train and FILE-test
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen.errors import UsageError
from batchgen.feedback.run_votes import RunVotes, load_run_votes
from batchgen.feedback.training.choose_examples import ExportOptions, choose_examples
from batchgen.feedback.training.example_notes import (
    balance_notes,
    check_not_evaluation,
    count_labels,
    count_lengths,
    prompt_form,
    vote_notes,
)
from batchgen.feedback.training.examples import (
    AnswerContents,
    AnswerRef,
    Example,
    LabelledAnswer,
    Preference,
    Side,
)
from batchgen.feedback.training.few_shot import write_few_shot
from batchgen.feedback.training.filters import ExampleFilter
from batchgen.feedback.training.formats import FEW_SHOT, LABELLED, PREFERENCES, PromptForm, Row
from batchgen.feedback.training.from_votes import other_ref, ref_of
from batchgen.feedback.training.write_rows import check_target, write_rows
from batchgen.jobfile.load import load_stored_job
from batchgen.output.published_run import PublishedRun


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What was written.

    Attributes:
        files: rows by file.
        sources: rows by source.
        left_out: examples by the reason why they are in no file.
        lengths: of preferences: mean characters of the chosen and the rejected texts, and how often the chosen one is longer.
        labels: of single texts: how many are good, and bad.
        notes: what a reader should know before training.
    """

    files: Mapping[str, int]
    sources: Mapping[str, int]
    left_out: Mapping[str, int]
    lengths: Mapping[str, float]
    labels: Mapping[str, int]
    notes: Sequence[str]


def export_examples(
    runs: Sequence[PublishedRun], target: Path, options: ExportOptions
) -> ExportSummary:
    """Write training data made of one or two runs.

    Raises:
        UsageError: a source or a format is unknown, prompts belong to an evaluation set, or there is nothing to write.
        StateError: a file of a run or of its votes is damaged.
    """
    if options.format != FEW_SHOT:
        check_target(target)
    notes = check_not_evaluation(runs, allowed=options.allow_eval_set)
    form = prompt_form(runs)
    votes = [load_run_votes(run) for run in runs]
    notes += vote_notes(votes)
    examples = list(choose_examples(runs, votes, options))
    texts = AnswerContents(runs)
    texts.load({side.ref for example in examples for side in example.sides})
    flagged = {ref_of(vote) for one in votes for vote in one.of_kind("flag")}
    example_filter = ExampleFilter(options.filters, texts, flagged)
    current = [one for one in examples if _is_current(one, votes, texts)]
    example_filter.left_out["the other answer has changed"] += len(examples) - len(current)
    kept = example_filter.apply(current)
    left_out = {reason: n for reason, n in sorted(example_filter.left_out.items()) if n}
    if not kept:
        raise _nothing(options, left_out)
    if options.format == FEW_SHOT:
        kept = kept[: options.examples]
        files = _write_few_shot(target, kept, texts, runs[0])
    else:
        rows = [(_row(one, texts, form, options), example_filter.prompt(one)) for one in kept]
        files = _write(_split(rows, target, options.split), options)
    return ExportSummary(
        files=files,
        sources=dict(Counter(one.origin.source for one in kept)),
        left_out=left_out,
        lengths=count_lengths(kept, texts),
        labels=count_labels(kept),
        notes=[*notes, *balance_notes(kept, texts)],
    )


def _is_current(example: Example, votes: Sequence[RunVotes], texts: AnswerContents) -> bool:
    """Whether the other answer of a pair is the one that people saw; that of their own run was checked before."""
    if example.origin.source != "pairs":
        return True
    shas = _other_shas(votes)
    for side in example.sides:
        found, expected = texts.get(side.ref), shas.get(side.ref)
        if found is not None and expected is not None and found.sha not in expected:
            return False
    return True


def _other_shas(votes: Sequence[RunVotes]) -> dict[AnswerRef, set[str]]:
    found: dict[AnswerRef, set[str]] = {}
    for one in votes:
        for vote in one.of_kind("pair"):
            found.setdefault(other_ref(vote), set()).add(vote.other_response_sha or "")
    return found


def _write(files: Mapping[Path, Sequence[Row]], options: ExportOptions) -> dict[str, int]:
    for path, rows in files.items():
        write_rows(path, rows, options.format)
    return {str(path): len(rows) for path, rows in files.items()}


def _write_few_shot(
    target: Path, kept: Sequence[Example], texts: AnswerContents, run: PublishedRun
) -> dict[str, int]:
    examples = [one for one in kept if isinstance(one, LabelledAnswer)]
    write_few_shot(target, examples, texts, load_stored_job(run.folder.job).job.prompt)
    return {str(target): len(examples)}


def _nothing(options: ExportOptions, left_out: Mapping[str, int]) -> UsageError:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in left_out.items())
    return UsageError(
        f"nothing to export as {options.format} from {', '.join(options.sources)}"
        f"{f': left out: {reasons}' if reasons else ''}",
        hint="See what there is with `batchgen feedback stats RUN`; choose with --source, --margin and the filters.",
    )


def _row(example: Example, texts: AnswerContents, form: PromptForm, options: ExportOptions) -> Row:
    found = texts.get(example.sides[0].ref)
    if found is None:
        raise ValueError("an example without its answer")
    messages = found.messages
    if isinstance(example, Preference):
        chosen, rejected = map(texts.text, example.sides)
        row = PREFERENCES[options.format](messages, chosen, rejected, form)
        sides = {"chosen": example.chosen, "rejected": example.rejected}
    else:
        text = texts.text(example.side)
        row = LABELLED[options.format](messages, text, example.label, form)
        sides = {"answer": example.side}
    return row | _provenance(example, found.prompt_hash, sides)


def _provenance(example: Example, prompt_hash: str, sides: Mapping[str, Side]) -> Row:
    origin = example.origin
    row: dict[str, Any] = {
        "source": origin.source,
        "raters": origin.raters,
        "agreement": origin.agreement,
        "score_difference": origin.difference,
        "row_id": example.sides[0].ref.id,
        "prompt_hash": prompt_hash,
    }
    for name, side in sides.items():
        row[f"{name}_run"] = side.ref.run_id
        row[f"{name}_sample"] = side.ref.sample
        row[f"{name}_edited"] = side.edited
    return row


def _split(rows: Sequence[tuple[Row, str]], target: Path, share: float) -> dict[Path, list[Row]]:
    """The rows of each file. All rows of a prompt are in one file, also in the next export."""
    if not share:
        return {target: [row for row, _ in rows]}
    files: dict[Path, list[Row]] = {
        target.with_name(f"{target.stem}-{name}{target.suffix}"): [] for name in ("train", "test")
    }
    train, test = files.values()
    for row, prompt in rows:
        digest = hashlib.sha256(prompt.encode()).digest()
        (test if int.from_bytes(digest[:8]) < share * 2**64 else train).append(row)
    return files
