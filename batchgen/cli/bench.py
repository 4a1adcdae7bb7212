"""`batchgen bench`: compares the engines on this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from batchgen.cli.options import JOB, PROFILE, SET, console_reporter, json_option
from batchgen.cli.render.terminal import format_count, json_line, printable

if TYPE_CHECKING:
    from batchgen.bench.bench import Benchmark, EngineResult

DEMO_MODEL = "demo:smollm2-135m"


@click.command()
@click.argument("job", type=JOB, required=False)
@click.option(
    "--model", metavar="MODEL", help=f"Model to measure. Default: the job's, or {DEMO_MODEL}."
)
@click.option(
    "--rows",
    type=click.IntRange(1),
    default=48,
    show_default=True,
    metavar="N",
    help="Measure the first N rows.",
)
@SET
@PROFILE
@json_option
def bench(
    *,
    job: Path | None,
    model: str | None,
    rows: int,
    sets: tuple[str, ...],
    profile: str | None,
    as_json: bool,
) -> None:
    """Compare the engines on this machine.

    Measures our two tiers, plain length-sorted `generate` and, if installed, vLLM with the first rows of JOB, or with
    built-in rows: one after the other, on the same token ids, on one GPU even if there are several. Writes nothing.
    Leave the machine idle while it runs.
    """
    from batchgen.bench.bench import bench as measure
    from batchgen.bench.workload import built_in_workload, job_workload

    with TemporaryDirectory(prefix="batchgen-bench-") as folder:
        if job is None:
            loaded = built_in_workload(
                Path(folder), model=model or DEMO_MODEL, rows=rows, sets=sets
            )
        else:
            loaded = job_workload(job, model=model, rows=rows, sets=sets, profile=profile)
        found = measure(loaded, reporter=console_reporter())
    if as_json:
        click.echo(json_line(summary(found)))
        return
    for line in lines(found):
        click.echo(printable(line))


def lines(found: "Benchmark") -> list[str]:
    """The results as a table."""
    from batchgen.bench.bench import EngineResult

    machine, work = found.machine, found.workload
    threads = f" · {format_count(machine.threads, 'thread')}" if machine.threads else ""
    size = f"{format_count(work.rows, 'row')} · {work.prompt_tokens:,} prompt tokens · at most {work.most_new_tokens:,} new"
    failed = f" · {work.refused:,} failed (see `batchgen plan`)" if work.refused else ""
    shown = [
        f"Machine   {machine.device}{threads} · {machine.peak / 1e9:,.0f} GFLOP/s {work.dtype} matrix products · "
        f"{machine.bandwidth / 1e9:,.0f} GB/s memory reads",
        f"Model     {work.model} · {work.parameters / 1e6:,.0f}M parameters",
        f"Work      {work.name} · {size}{failed}",
        "",
        _row("", ("new tok/s", "x generate", "useful tokens", "MFU", "seconds", "loading")),
    ]
    base = found.engines.get("generate")
    plain = base.new_tokens_per_second if isinstance(base, EngineResult) else None
    for name, one in found.engines.items():
        if isinstance(one, EngineResult):
            shown.append(_row(name, _cells(one, plain)))
        else:
            shown.append(f"{name:<10}{one.reason}")
    return [
        *shown,
        "",
        "generate: plain `model.generate`, longest prompts first, batches of 48 rows. MFU: useful FLOPs a second as a",
        "share of the machine's matrix products above; shared prefixes count once, padding does not count.",
    ]


def _cells(one: "EngineResult", plain: float | None) -> Sequence[str]:
    speed = one.new_tokens_per_second
    return (
        f"{speed:,.1f}",
        f"{speed / plain:.2f}" if plain else "",
        _share(one.useful_token_share),
        _share(one.mfu),
        f"{one.seconds:,.1f}",
        f"{one.load_seconds:,.1f}",
    )


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _row(name: str, cells: Sequence[str]) -> str:
    widths = (9, 12, 15, 7, 9, 9)
    return f"{name:<10}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))


def summary(found: "Benchmark") -> Mapping[str, Any]:
    """The object that `bench --json` prints."""
    from batchgen.bench.bench import EngineResult

    return {
        "ok": True,
        "machine": asdict(found.machine),
        "workload": asdict(found.workload),
        "engines": {
            name: {**asdict(one), "new_tokens_per_second": one.new_tokens_per_second}
            if isinstance(one, EngineResult)
            else {"not_measured": one.reason}
            for name, one in found.engines.items()
        },
    }
