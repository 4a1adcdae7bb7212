"""`batchgen feedback`: what people say about answers, as statistics, scores and training data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchgen.cli.options import RunPath, VotedRunPath, json_option, print_json

if TYPE_CHECKING:
    from batchgen.feedback.training.export_examples import ExportSummary

RUN = VotedRunPath(path_type=Path, exists=True, file_okay=False)
ANY_RUN = RunPath(path_type=Path, exists=True, file_okay=False)


@click.group()
def feedback() -> None:
    """Import, measure and export the votes of reviewers."""


@feedback.command("import")
@click.argument("run", type=RUN)
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--other",
    "others",
    multiple=True,
    type=RUN,
    metavar="RUN2",
    help="A run of which the files also have votes, such as the other run of an A|B review. Repeatable.",
)
@click.option(
    "--same-answers",
    is_flag=True,
    help="Also take votes about other runs, where RUN has the same answer to the row.",
)
@click.option(
    "--skip-changed",
    is_flag=True,
    help="Leave out votes about answers that have changed or are gone, and import the others.",
)
@json_option
def import_(
    run: Path,
    files: Sequence[Path],
    *,
    others: Sequence[Path],
    same_answers: bool,
    skip_changed: bool,
    as_json: bool,
) -> None:
    """Add the votes of ratings files to RUN.

    Exported review pages save such files. All files are imported, or none. Votes that RUN has already are counted, so that a file may be imported again.
    """
    from batchgen.cli.render.terminal import format_count
    from batchgen.feedback.import_votes import ImportOptions, import_votes
    from batchgen.output.published_run import PublishedRun
    from batchgen.state.open_folder import open_folder

    named, *rest = (PublishedRun(open_folder(path)) for path in (run, *others))
    done = import_votes(named, files, ImportOptions(rest, same_answers, skip_changed))
    if as_json:
        print_json(
            added=sum(done.added.values()),
            by_reviewer=done.added,
            repeated=done.repeated,
            left_out=done.left_out,
            notes=list(done.notes),
        )
        return
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    by = ", ".join(f"{name} {count:,}" for name, count in sorted(done.added.items()))
    click.echo(
        f"added     {format_count(sum(done.added.values()), 'vote')}{f': {by}' if by else ''}"
    )
    click.echo(f"repeated  {done.repeated:,} (already there)")
    if done.left_out:
        click.echo(f"left out  {done.left_out:,} about answers that have changed or are gone")


@feedback.command()
@click.argument("run", type=RUN)
@click.option(
    "--by",
    multiple=True,
    metavar="COLUMN",
    help="Also by the values of this column. Repeatable. Default: evaluate.slices of the job.",
)
@click.option(
    "--where",
    metavar="SQL",
    default="",
    help="Only answers that fulfil it, such as \"lang = 'zh'\".",
)
@json_option
def stats(run: Path, *, by: Sequence[str], where: str, as_json: bool) -> None:
    """Count votes, and measure how far people agree.

    With each other, and with each judge and metric. kappa is Cohen's, alpha Krippendorff's; 1 is full agreement, 0 that of chance. Intervals are bootstrapped over prompts.
    A metric's range is mapped to that of the votes; metrics without a range are left out.
    """
    from batchgen.cli.render.vote_table import vote_lines
    from batchgen.evaluation.agreement.vote_statistics import as_json as to_json
    from batchgen.evaluation.agreement.vote_statistics import vote_statistics
    from batchgen.output.published_run import PublishedRun
    from batchgen.state.open_folder import open_folder

    found = vote_statistics(PublishedRun(open_folder(run)), by=by, where=where)
    if as_json:
        print_json(**to_json(found))
        return
    for note in found.votes.notes:
        click.echo(f"note: {note}", err=True)
    for line in vote_lines(found):
        click.echo(line)


@feedback.command()
@click.argument("run", type=RUN)
@click.option(
    "--votes",
    type=click.Choice(["rating", "pass", "label", "pair"]),
    help="Which votes. Default: those of the job's metric human, or ratings.",
)
@click.option("--label", metavar="LABEL", help="The label to count, with --votes label.")
@click.option("--rubric", metavar="NAME", help="Only ratings and passes by this rubric.")
@click.option("--name", metavar="NAME", help="Name of the metric. Default: human.")
@json_option
def join(run: Path, *, as_json: bool, **options: str | None) -> int:
    """Score RUN again, with the votes of people.

    Adds the columns score_human (mean) and score_human_raters next to the other scores. The answers stay as they are. The scores enter gates, compare and report. The same as `batchgen score RUN` with the
    metric human; judges are queried again only if their verdicts are not cached.
    """
    from batchgen.cli.options import console_reporter
    from batchgen.cli.render import metric_table
    from batchgen.evaluation.scoring.score import score
    from batchgen.jobfile.load import load_stored_job
    from batchgen.report.write_report import stage_report
    from batchgen.state.open_folder import open_folder

    given = {key: value for key, value in options.items() if value is not None}
    own = load_stored_job(open_folder(run).job).job.evaluate.metrics
    has_one = any(metric.type == "human" for metric in own)
    metrics = [{"type": "human", **given}] if given or not has_one else []
    with console_reporter() as reporter:
        done = score(run, metrics, reporter=reporter, add_report=stage_report)
    if as_json:
        scores = metric_table.score_summary(done.metrics, done.gates, done.folder.scores)
        print_json(done.exit_code, output=str(done.folder.path), **scores)
        return int(done.exit_code)
    for line in metric_table.metric_lines(done.metrics):
        click.echo(line)
    for line in (*metric_table.gate_lines(done.gates), f"wrote  {done.folder.path}"):
        click.echo(line, err=True)
    return int(done.exit_code)


@feedback.command()
@click.argument("run", type=ANY_RUN)
@click.argument("other", metavar="[RUN2]", required=False, type=ANY_RUN)
@click.option(
    "--format",
    "format_name",
    required=True,
    type=click.Choice(
        [
            "trl-dpo",
            "trl-kto",
            "trl-reward",
            "trl-sft",
            "llamafactory-dpo",
            "llamafactory-kto",
            "few-shot",
        ]
    ),
    help="What reads the file. few-shot: a base file for `extends`, with edited answers as examples in the prompt.",
)
@click.option(
    "-o",
    "--output",
    "target",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A .jsonl or .parquet file; .yaml for few-shot.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="SOURCE",
    help="One of pairs, ratings, passes, edits, metric:NAME or judge:NAME. Repeatable. Default: all votes.",
)
@click.option(
    "--margin", default=1.0, show_default=True, help="Least difference of two ratings or scores."
)
@click.option(
    "--good", default=4.0, show_default=True, help="Ratings from which an answer is good."
)
@click.option("--bad", default=2.0, show_default=True, help="Ratings up to which an answer is bad.")
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Only examples that this share of their reviewers agree with.",
)
@click.option(
    "--max-per-prompt", type=click.IntRange(1), metavar="N", help="At most N examples of a prompt."
)
@click.option(
    "--max-length-ratio",
    type=click.FloatRange(1),
    metavar="R",
    help="Only pairs of which no text is more than R times as long as the other one.",
)
@click.option(
    "--split",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    metavar="SHARE",
    help="Write FILE-train and FILE-test; about this share of the prompts is in FILE-test.",
)
@click.option(
    "--examples",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    metavar="N",
    help="With few-shot: at most N.",
)
@click.option("--keep-truncated", is_flag=True, help="Keep answers that ended at max_new_tokens.")
@click.option("--keep-flagged", is_flag=True, help="Keep answers that a reviewer flagged.")
@click.option("--keep-personal-data", is_flag=True, help="Keep examples with personal data.")
@click.option(
    "--allow-eval-set",
    is_flag=True,
    help="Also export prompts of an evaluation set (input.role: evaluation of the job).",
)
@json_option
def export(
    run: Path,
    other: Path | None,
    *,
    target: Path,
    format_name: Any,  # noqa: ANN401  # one of FormatName
    sources: Sequence[str],
    as_json: bool,
    **options: Any,  # noqa: ANN401  # fields of ExportOptions and ExampleFilters
) -> None:
    """Write training data for TRL or LLaMA-Factory.

    Preferences (dpo, reward) come from votes about pairs, from two ratings of one prompt, from edited answers, from answers
    that pass and fail a metric, and from a pairwise judge that prefers one answer in both orders. Single texts (kto, sft)
    come from the same. RUN2 has the other answers to the same prompts. Every row names its source, row, runs and raters.
    """
    from batchgen.feedback.training.choose_examples import VOTE_SOURCES, ExportOptions
    from batchgen.feedback.training.export_examples import export_examples
    from batchgen.feedback.training.filters import ExampleFilters
    from batchgen.output.published_run import PublishedRun
    from batchgen.state.open_folder import open_folder

    filters = ExampleFilters(
        **{
            name: not options.pop(f"keep_{name}")
            for name in ("truncated", "flagged", "personal_data")
        },
        **{
            name: options.pop(name)
            for name in ("min_agreement", "max_per_prompt", "max_length_ratio")
        },
    )
    chosen = ExportOptions(format_name, sources or VOTE_SOURCES, filters=filters, **options)
    runs = [PublishedRun(open_folder(path)) for path in (run, other) if path is not None]
    done = export_examples(runs, target, chosen)
    if as_json:
        print_json(**asdict(done))
        return
    for line in _export_lines(done):
        click.echo(line, err=True)


def _export_lines(done: "ExportSummary") -> Iterator[str]:
    for path, rows in done.files.items():
        yield f"wrote     {rows:,} rows to {path}"
    yield f"sources   {_counts(done.sources)}"
    if done.labels:
        yield f"labels    {_counts(done.labels)}"
    if done.lengths:
        yield (
            f"length    chosen {done.lengths['chosen']:,.0f} characters, rejected {done.lengths['rejected']:,.0f} (means); "
            f"the chosen text is longer in {done.lengths['chosen_longer']:.0%}"
        )
    if done.left_out:
        yield f"left out  {_counts(done.left_out)}"
    yield from (f"note: {note}" for note in done.notes)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
