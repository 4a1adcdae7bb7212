"""`batchgen review`: a page on which people judge answers."""

import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchgen.cli.options import RunPath
from batchgen.cli.render.terminal import format_bytes, format_count, printable

if TYPE_CHECKING:
    from batchgen.review.queue.review_setup import ReviewSetup

_FOLDER = RunPath(path_type=Path, exists=True, file_okay=False)


class Share(click.ParamType[float]):
    """A share such as 20% or 0.2."""

    name = "share"

    def convert(
        self,
        value: Any,  # noqa: ANN401  # as click declares it
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.fail(f"{value!r} is not a share between 0% and 100%, such as 20%", param, ctx)
        return share


def _split(context: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    del context, option
    return tuple(label.strip() for label in value.split(",") if label.strip())


@click.command()
@click.argument("run", metavar="RUN", type=_FOLDER)
@click.argument("other", metavar="[RUN2]", type=_FOLDER, required=False)
@click.option("--where", metavar="SQL", default="", help='A condition, such as "score_exact = 0".')
@click.option(
    "--sample", type=click.IntRange(1), metavar="N", help="Review N answers. Default: up to 1,000."
)
@click.option(
    "--by", metavar="COLUMN", default="", help="Take answers of each value of this column in turn."
)
@click.option(
    "--order",
    type=click.Choice(["random", "uncertain", "file"]),
    default="random",
    show_default=True,
    help="Order of the answers. uncertain: first those where a judge changed its verdict with the order, judge and metric "
    "disagree, or a score is close to a gate.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of the random order and of the sides.",
)
@click.option(
    "--overlap",
    type=Share(),
    metavar="SHARE",
    help="This share, such as 20%, goes to every reviewer; each other answer to one. Default: all answers go to all.",
)
@click.option("--reviewer", metavar="NAME", default="", help="Default: entered on the page.")
@click.option(
    "--labels", metavar="A,B", default="", callback=_split, help="Labels to give, at most 9."
)
@click.option(
    "--rubric",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Text that describes a good answer. Default: that of the run's first judge, or a general one.",
)
@click.option("--mask", "masked", is_flag=True, help="Mask personal data in all texts.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="N",
    help="Listen on this port. Default: a free one.",
)
@click.option("--no-open", is_flag=True, help="Do not open the page in the browser.")
@click.option(
    "--export",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the page as one HTML file that works without batchgen, and serve nothing.",
)
def review(  # noqa: PLR0913  # click passes each option by its name
    run: Path,
    other: Path | None,
    *,
    reviewer: str,
    labels: Sequence[str],
    rubric: Path | None,
    masked: bool,
    overlap: float | None,
    port: int,
    no_open: bool,
    file: Path | None,
    **queue: Any,  # noqa: ANN401  # the fields of QueueOptions
) -> None:
    """Judge answers on a page in the browser.

    RUN is the folder of a complete run. With RUN2, a run of the same prompts, two answers are shown side by side, without
    their origin. The page is served on this machine only, to those who have its link. Votes are appended to
    RUN/feedback/REVIEWER.jsonl; each is on disk before the page shows it as saved. A restart with the same options on the
    same day has the same link. --mask changes what people see and edit, not the run; ids are not masked.
    """
    from batchgen.errors import UsageError
    from batchgen.review.queue.review_queue import QueueOptions
    from batchgen.review.queue.review_setup import ReviewOptions, prepare_review
    from batchgen.review.review_page import export_review
    from batchgen.review.server.review_packages import check_review_packages

    if file is None:
        check_review_packages()
    elif overlap is not None:
        raise UsageError(
            "--overlap has no effect with --export: a file does not know what others have rated",
            hint="Leave --overlap out, or give each person a page with another --where.",
        )
    options = ReviewOptions(QueueOptions(**queue), reviewer, labels, rubric, masked)
    setup = prepare_review(run, other, options)
    _print_queue(setup)
    if file is not None:
        size = export_review(setup, file)
        click.echo(f"wrote  {printable(str(file))} ({format_bytes(size)})", err=True)
        return
    _serve(setup, overlap, port, opens=not no_open)


def _print_queue(setup: "ReviewSetup") -> None:
    """What will be reviewed, and what was left out."""
    queue = setup.queue
    shown = format_count(len(queue.answers), "answer" if setup.other is None else "pair")
    text = shown if len(queue.answers) == queue.found else f"{shown} of {queue.found:,}"
    click.echo(f"queue  {text}", err=True)
    left_out = (
        (queue.unanswered, "without an answer"),
        (queue.changed_prompts, "whose prompts differ"),
        (queue.equal, "whose answers are equal"),
    )
    for count, why in left_out:
        if count:
            click.echo(f"       {format_count(count, 'row')} {why}: left out", err=True)
    if setup.options.masked:
        counts = (f"{kind} {count:,}" for kind, count in sorted(setup.masked.items()))
        click.echo(f"masked {', '.join(counts) or 'no personal data was found'}", err=True)


def _serve(setup: "ReviewSetup", overlap: float | None, port: int, *, opens: bool) -> None:
    from batchgen.review.server.review_session import ReviewSession
    from batchgen.review.server.serve_review import open_review

    session = ReviewSession(setup, overlap)
    for note in session.notes:
        click.echo(f"note   {printable(note)}", err=True)
    server = open_review(session, port)

    def started() -> None:
        click.echo(server.url)
        click.echo("       Ctrl-C ends it; every vote that was saved stays", err=True)
        if opens and not webbrowser.open(server.url):
            click.echo("       no browser was found to open the link in", err=True)

    with suppress(KeyboardInterrupt):  # Ctrl-C is how a review ends
        server.serve(started)
    for name, done in session.counts().items():
        click.echo(f"{name}: {format_count(done, 'answer')} done", err=True)
