"""The summary at the end of a run, and single answers, as text for a terminal."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click
import polars as pl

from batchgen.cli.render.metric_table import gate_lines, metric_lines, score_summary, unscored_lines
from batchgen.cli.render.terminal import format_count, printable, shorten
from batchgen.errors import ExitCode
from batchgen.inspection.status import AnswerView, find_answers
from batchgen.run.result import RunResult
from batchgen.state.parts import Counts
from batchgen.state.run_folder import RunFolder

SHOWN_ANSWERS = 2
SHOWN_CHARACTERS = 600


def print_summary(result: RunResult) -> None:
    """Print the summary of a run on stderr."""
    click.echo("\n".join(_lines(result)), err=True)


def _lines(result: RunResult) -> list[str]:
    counts, path = result.counts, result.folder.path
    if result.outcome == "stopped":
        why = f"{result.why_stopped}: " if result.why_stopped else ""
        return [
            f"stopped  {why}{counts.rows:,} of {result.expected_rows:,} rows are saved in {path}",
            "         run the same command to resume",
        ]
    rows = f"{format_count(counts.rows, 'row')}{_pace(result)} · {_outcomes(counts)}"
    if result.outcome == "done":
        lines = [f"done   {rows}", *_machine_use(result.engine)]
    else:
        lines = [f"{result.outcome}  {rows}"]
    if (made := result.incremental) is not None:
        new = f"generated {made.generated:,} · dropped {made.dropped:,} of run {made.run_id}"
        lines.append(f"reused {made.reused:,} · {new}")
    if result.exit_code == ExitCode.TOO_MANY_FAILED_ROWS:
        failed = f"{format_count(counts.failed, 'row')} failed, {result.max_failed:,} allowed"
        lines.append(f"failed {failed} ({result.error_limit}): exit code 3")
    where = result.folder.staged if result.outcome == "withheld" else result.folder.path
    lines += unscored_lines(result.metrics, where / result.folder.scores.name)
    lines += gate_lines(result.gates)
    if result.exit_code == ExitCode.GATE_FAILED:
        lines.append("failed a gate did not pass: exit code 4")
    if result.outcome == "withheld":
        lines.append(f"       {path} is unchanged; new answers: {result.folder.staged}")
        lines.append("       run again to re-check the gates, or with --fresh to regenerate")
        return lines
    lines.append(f"{'wrote' if result.outcome == 'done' else 'output':<6} {path}")
    if counts.failed:
        lines.append(f"next   batchgen status {path}")
    return lines


def _outcomes(counts: Counts) -> str:
    kinds = {"failed": counts.failed, "skipped": counts.skipped}
    kinds |= {"reached max_new_tokens": counts.cut_by_length}
    ok = counts.rows - counts.failed - counts.skipped
    return " · ".join([f"{ok:,} ok", *(f"{n:,} {kind}" for kind, n in kinds.items() if n)])


def _pace(result: RunResult) -> str:
    if result.outcome != "done" or not result.seconds:
        return ""
    new = result.counts.rows - result.resumed_rows
    if result.resumed_rows:
        return f" ({new:,} in {result.seconds:.1f} s, the others earlier)"
    if result.incremental is not None:
        return f" in {result.seconds:.1f} s"
    rate = result.counts.output_tokens / result.seconds
    return f" in {result.seconds:.1f} s · {rate:,.0f} tok/s"


def _machine_use(facts: Mapping[str, Any]) -> list[str]:
    """The tier, the workers and the utilization of this start; nothing without a model."""
    lines = []
    if "tier" in facts:
        workers = f"{format_count(facts['workers'], 'worker')} ({facts['workers_reason']})"
        lines.append(f"tier   {facts['tier']} · {workers}")
    for kernel, used in facts.get("kernels", {}).items():
        if used.startswith("torch: "):
            lines.append(f"slower {kernel} without its compiled kernel: {used[len('torch: ') :]}")
    mfu, share = facts.get("mfu"), facts.get("useful_token_share")
    if mfu is not None and share is not None:
        useful = f"{share:.0%} of computed tokens useful"
        lines.append(f"used   {mfu:.0%} of the machine's peak (MFU) · {useful}")
    return lines


def summary(result: RunResult) -> Mapping[str, Any]:
    """The object that `run --json` prints."""
    counts = result.counts
    return {
        "ok": result.exit_code == ExitCode.DONE,
        "exit_code": int(result.exit_code),
        "outcome": result.outcome,
        "run_id": result.run_id,
        "output": str(result.folder.path),
        "rows": {
            "total": result.expected_rows,
            "ok": counts.rows - counts.failed - counts.skipped,
            "failed": counts.failed,
            "skipped": counts.skipped,
            "resumed": result.resumed_rows,
        },
        "tokens": {"input": counts.input_tokens, "output": counts.output_tokens},
        "seconds": round(result.seconds, 3),
        "load_seconds": round(result.load_seconds, 3),
        "engine": dict(result.engine),
        **score_summary(result.metrics, result.gates),
        "incremental": asdict(result.incremental) if result.incremental else None,
    }


def print_metrics(result: RunResult) -> None:
    """Print the metrics, if there are any, on stdout."""
    if result.metrics:
        click.echo("\n".join(["", *metric_lines(result.metrics)]))


def print_answers(folder: RunFolder) -> None:
    """Print the first answers, on stdout."""
    for answer in find_answers(folder, pl.lit(value=True), SHOWN_ANSWERS):
        click.echo()
        print_answer(answer, SHOWN_CHARACTERS)
    click.echo(f"\nMore: batchgen show {folder.path}")


def print_answer(answer: AnswerView, characters: int) -> None:
    """Print one answer: the messages, the response, and why it ended; at most so many characters of each text."""

    def line(label: str, text: str) -> None:
        text = shorten(printable(text.strip()), characters).replace("\n", "\n" + " " * 11)
        click.echo(f"{label:<11}{text}")

    rule = f"── id {answer.id}" + (f" · sample {answer.sample}" if answer.sample else "")
    click.echo(printable(f"{rule} {'─' * max(4, 60 - len(rule))}"))
    for message in answer.messages:
        line(f"{message.role}:", message.content)
    if answer.reasoning:
        line("reasoning:", answer.reasoning)
    if answer.response is None:
        click.echo(f"{'no answer:':<11}{answer.error_code}: {printable(answer.error)}")
    else:
        line("answer:", answer.response)
        tokens = format_count(answer.output_tokens, "token")
        click.echo(f"{'':<11}({answer.finish_reason}, {tokens})")
