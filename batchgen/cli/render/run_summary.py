"""The summary at the end of a run, and single answers, as text for a terminal."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pyarrow.compute as pc

from batchgen.cli.render.answer_view import print_first_answers
from batchgen.cli.render.confusion_table import confusion_lines
from batchgen.cli.render.metric_table import gate_lines, metric_lines, score_summary, unscored_lines
from batchgen.cli.render.terminal import format_answers, format_count, printable, wrapped_line
from batchgen.errors import ExitCode
from batchgen.evaluation.confusion import read_confusion_matrices
from batchgen.inspection.answer_table import open_answer_table
from batchgen.inspection.status import status as read_status
from batchgen.run.result import RunResult
from batchgen.state.identity import read_identity
from batchgen.state.parts import Counts
from batchgen.state.run_folder import RunFolder

SHOWN_ANSWERS = 2
SHOWN_CHARACTERS = 600


def print_summary(result: RunResult, *, resume: str) -> None:
    """Print the summary of a run on stderr; `resume` is the command that resumes it."""
    click.echo("\n".join(_lines(result, resume)), err=True)


def result_lines(result: RunResult) -> list[str]:
    """What a result shows in Python."""
    if not result.folder.path.is_dir():
        return [f"{result.outcome}: {_outcomes(result.counts)}; {result.folder.path} is gone"]
    metrics = ["", *metric_lines(result.metrics)] if result.metrics else []
    return [*_lines(result, "the same call"), *metrics]


def _lines(result: RunResult, resume: str) -> list[str]:
    """The summary; its first word stands for the exit code."""
    counts, path = result.counts, result.folder.path
    if result.outcome == "stopped":
        return _stopped_lines(result, resume)
    if result.outcome == "sealed":
        return _sealed_lines(result)
    made = format_answers(counts.rows, result.samples)
    rows = f"{made}{_pace(result)} · {_outcomes(counts)}"
    if result.outcome in ("already complete", "published again"):
        rows = f"{result.outcome}: {rows}"
    lines = [f"{'rows' if result.exit_code else 'done':<6} {rows}"]
    if result.outcome == "done":
        lines += _machine_use(result.engine)
        lines += _server_use(result)
    if (reused := result.incremental) is not None:
        new = f"generated {reused.generated:,} · dropped {reused.dropped:,} of run {reused.run_id}"
        lines.append(f"reused {reused.reused:,} · {new}")
    lines += _failures(result)
    if counts.cut_by_length:
        # Only this line is wrapped here: paths and commands of the others are copied whole.
        lines.append(wrapped_line(f"hint   {_cut_answers(result)}", 7, err=True))
    lines += unscored_lines(result.metrics, _scores(result))
    lines += gate_lines(result.gates)
    if result.outcome == "withheld":
        lines.append(f"       {path} is unchanged; new answers: {result.folder.staged}")
        lines.append("       run again to re-check the gates, or with --fresh to regenerate")
    else:
        lines.append(f"{'output' if result.outcome == 'already complete' else 'wrote':<6} {path}")
        lines += [f"upload {printable(result.uploaded)}"] if result.uploaded else []
        lines += [f"next   {_command('status', path)}"] if counts.failed else []
    return [*_verdict(result), *lines]


def _verdict(result: RunResult) -> list[str]:
    """The first line of a complete run that does not end with 0."""
    if result.exit_code == ExitCode.TOO_MANY_FAILED_ROWS:
        failed, noun = result.counts.failed, _noun(result)
        limit = f"{result.max_failed:,} allowed ({result.error_limit})"
        return [f"FAILED {format_count(failed, noun)} failed, {limit}: exit code 3"]
    if result.exit_code == ExitCode.GATE_FAILED:
        failed = sum(not gate.passed for gate in result.gates)
        gates = format_count(len(result.gates), "gate")
        return [f"GATE FAILED {failed:,} of {gates} did not pass: exit code 4"]
    return []


def _sealed_lines(result: RunResult) -> list[str]:
    made = format_answers(result.counts.rows, result.samples)
    return [
        f"sealed shard {result.shard}: {made}{_pace(result)} · {_outcomes(result.counts)}",
        *_machine_use(result.engine),
        *_server_use(result),
        *_failures(result),
        f"wrote  parts in {result.folder.path}; nothing is published yet",
        "next   the same command with --merge in place of --shard, once all shards have ended",
    ]


def _stopped_lines(result: RunResult, resume: str) -> list[str]:
    counts, path = result.counts, result.folder.path
    expected = format_answers(result.expected_rows, result.samples)
    saved = f"{counts.rows:,} of {expected} are saved in {path}"
    if not result.stopped_by_failures:
        why = f"{result.why_stopped}: " if result.why_stopped else ""
        return [f"STOPPED {why}{saved}", *_server_use(result), f"resume {printable(resume)}"]
    why = f"stopped early: {_noun(result)}s: {result.why_stopped}"
    return [
        f"FAILED {why}: exit code 3",
        *_failures(result),
        f"       {saved}; failed {_noun(result)}s are kept",
        f"next   {_command('status', path)}",
        "       then run again with --retry-errors, which generates them again, or with a higher",
        "       limit, which keeps them; with changed settings, start over with --fresh",
    ]


def _command(name: str, path: Path) -> str:
    return printable(shlex.join(["batchgen", name, str(path)]))


def _noun(result: RunResult) -> str:
    return "row" if result.samples == 1 else "answer"


def _failures(result: RunResult) -> list[str]:
    """The commonest reasons, each with an id."""
    if not result.counts.failed:
        return []
    found = [one for one in read_status(result.folder.path).failed if one.finish_reason == "error"]
    shown = [f"{one.count:,} {one.code}, such as id {one.examples[0]}" for one in found[:3]]
    more = [f"{format_count(len(found) - 3, 'other reason')}"] if len(found) > 3 else []
    return [f"failed {printable(' · '.join([*shown, *more]))}"] if shown else []


def _cut_answers(result: RunResult) -> str:
    counts, recorded = result.counts, read_identity(result.folder)
    answers = counts.rows - counts.failed - counts.skipped
    form = None if recorded is None else recorded.settings["decoding"].get("response_format")
    unfinished = 0 if form is None else _unfinished_forms(result, form)
    cut = f"{unfinished or counts.cut_by_length:,} of {format_count(answers, 'answer')}"
    if unfinished and form is not None:
        mark = form["after"]
        other = f", or see whether the model writes {mark!r}, after which the form begins"
        return (
            f"{cut} reached decoding.max_new_tokens before the end of their response_format and are unfinished: "
            "raise it (with --fresh or another --output), or bound the form, such as with maxLength and maxItems"
            f"{other if mark else ''}"
        )
    return (
        f"{cut} reached decoding.max_new_tokens and may lack their end: raise it "
        "(with --fresh or another --output), or ask for shorter answers"
    )


def _unfinished_forms(result: RunResult, form: Mapping[str, Any]) -> int:
    """How many of the cut answers have a form; 0 if only some rows have one and its column is not kept."""
    if form["kind"] is not None:
        return result.counts.cut_by_length
    table = open_answer_table(result.folder.path)
    (column,), reason = form["columns"].values(), f"{table.prefix}finish_reason"
    if column not in table.schema.names:
        return 0
    return sum(
        pc.sum(pc.and_(pc.equal(part[reason], "length"), part[column].is_valid())).as_py() or 0
        for part in table.tables([reason, column])
    )


def _outcomes(counts: Counts) -> str:
    kinds = {"failed": counts.failed, "skipped": counts.skipped}
    kinds |= {"reached max_new_tokens": counts.cut_by_length}
    ok = counts.rows - counts.failed - counts.skipped
    return " · ".join([f"{ok:,} ok", *(f"{n:,} {kind}" for kind, n in kinds.items() if n)])


def _pace(result: RunResult) -> str:
    if result.outcome not in ("done", "sealed") or not result.seconds:
        return ""
    new = result.counts.rows - result.resumed_rows
    machines = result.engine.get("machines")
    if result.resumed_rows and not (machines and not new):
        return f" ({new:,} in {result.seconds:.1f} s, the others earlier)"
    if result.incremental is not None:
        return f" in {result.seconds:.1f} s"
    rate = result.counts.output_tokens / result.seconds
    by = f" by {format_count(len(machines), 'shard')}" if machines else ""
    return f" in {result.seconds:.1f} s{by} · {rate:,.0f} tok/s"


def _machine_use(facts: Mapping[str, Any]) -> list[str]:
    """The tier, the workers and the utilization of this start; nothing without a model."""
    lines = []
    if "tier" in facts:
        workers = f"{format_count(facts['workers'], 'worker')} ({facts['workers_reason']})"
        lines.append(f"tier   {facts['tier']} · {workers}")
    if fallback := facts.get("tier_fallback"):
        lines.append(f"slower {fallback}")
    for kernel, used in facts.get("kernels", {}).items():
        if used.startswith("torch: "):
            lines.append(f"slower {kernel} without its compiled kernel: {used[len('torch: ') :]}")
    mfu, share = facts.get("mfu"), facts.get("useful_token_share")
    if share is not None:
        peak = "MFU not measurable: the measured peak is too low"
        used = peak if mfu is None else f"{mfu:.0%} of the machine's peak (MFU)"
        lines.append(f"used   {used} · {share:.0%} of computed tokens useful")
    return lines


def _server_use(result: RunResult) -> list[str]:
    """What servers were sent in this start, and the cost of all answers; nothing if a model on this machine answered."""
    common = dict(result.engine)
    engines = [{**common, **machine} for machine in common.get("machines", ())] or [common]
    if "requests_at_once" not in engines[0]:
        return []
    requests, again, at_once = (
        sum(one[key] for one in engines) for key in ("requests", "retries", "requests_at_once")
    )
    counts = result.counts
    parts = [
        format_count(requests, "request") + (f", {again:,} of them again" if again else ""),
        f"up to {at_once:,} at once",
        f"{counts.input_tokens:,} prompt and {counts.output_tokens:,} new tokens",
    ]
    if (cost := result.cost) is not None:
        parts.append(f"cost {cost:,.4g}")
    return [f"sent   {' · '.join(parts)}"]


def summary(result: RunResult) -> Mapping[str, Any]:
    """The object that `run --json` prints."""
    counts = result.counts
    return {
        "ok": result.exit_code == ExitCode.DONE,
        "exit_code": int(result.exit_code),
        "outcome": result.outcome,
        "why_stopped": result.why_stopped,
        **({"shard": result.shard} if result.shard else {}),
        "run_id": result.run_id,
        "output": str(result.folder.path),
        "uploaded": result.uploaded or None,
        "rows": {
            "total": result.expected_rows,
            "ok": counts.rows - counts.failed - counts.skipped,
            "failed": counts.failed,
            "skipped": counts.skipped,
            "resumed": result.resumed_rows,
        },
        "samples": result.samples,
        "tokens": {"input": counts.input_tokens, "output": counts.output_tokens},
        "cost": result.cost,
        "seconds": round(result.seconds, 3),
        "load_seconds": round(result.load_seconds, 3),
        "engine": dict(result.engine),
        **score_summary(result.metrics, result.gates, _scores(result)),
        "incremental": asdict(result.incremental) if result.incremental else None,
    }


def print_metrics(result: RunResult) -> None:
    """Print the metrics and the confusion matrices, if there are any, on stdout."""
    if result.metrics:
        matrices = confusion_lines(read_confusion_matrices(_scores(result)))
        click.echo("\n".join(["", *metric_lines(result.metrics), *matrices]))


def _scores(result: RunResult) -> Path:
    """The file scores.parquet of the answers that the result is about."""
    folder = result.folder
    where = folder.staged if result.outcome == "withheld" else folder.path
    return where / folder.scores.name


def print_answers(folder: RunFolder) -> None:
    """Print the first answers, on stdout."""
    print_first_answers(open_answer_table(folder.path), SHOWN_ANSWERS, SHOWN_CHARACTERS)
    click.echo(f"\nMore: {_command('show', folder.path)}")
