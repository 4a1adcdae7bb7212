"""`batchgen bench`: what the engines make of a job on this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from batchgen.cli.options import JOB, PROFILE, SET, json_option, terminal
from batchgen.cli.render.terminal import format_count, json_line, printable

if TYPE_CHECKING:
    from batchgen.bench.bench import Benchmark, EngineResult

STARTER = "demo:smollm2-135m"


@click.command()
@click.argument("job", type=JOB, required=False)
@click.option(
    "--model", metavar="MODEL", help=f"Measure this one. Default: the job's, or {STARTER}."
)
@click.option(
    "--rows",
    type=click.IntRange(1),
    default=48,
    show_default=True,
    metavar="N",
    help="How many rows, the first ones.",
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
    """Measure this machine and every engine on it with the first rows of JOB, or with built-in ones.

    Compares our two tiers, plain length-sorted `generate` and, where it is installed, vLLM: each by itself, on the
    same token ids, on one GPU where there are several. Writes nothing. Leave the machine alone meanwhile.
    """
    from batchgen.bench.bench import bench as measure
    from batchgen.bench.workload import built_in_workload, job_workload

    with TemporaryDirectory(prefix="batchgen-bench-") as folder:
        if job is None:
            loaded = built_in_workload(Path(folder), model=model or STARTER, rows=rows, sets=sets)
        else:
            loaded = job_workload(job, model=model, rows=rows, sets=sets, profile=profile)
        found = measure(loaded, say=lambda text: click.echo(text, err=True), terminal=terminal())
    if as_json:
        click.echo(json_line(summary(found)))
        return
    for line in lines(found):
        click.echo(printable(line))


def lines(found: "Benchmark") -> list[str]:
    """What was found, as a table."""
    from batchgen.bench.bench import EngineResult

    machine, work = found.machine, found.workload
    threads = f" · {format_count(machine.threads, 'thread')}" if machine.threads else ""
    asked = f"{format_count(work.rows, 'row')} · {work.prompt_tokens:,} prompt tokens · at most {work.most_new_tokens:,} new"
    refused = f" · {work.refused:,} refused: `batchgen plan` says why" if work.refused else ""
    shown = [
        f"Machine   {machine.device}{threads} · {machine.peak / 1e9:,.0f} GFLOP/s in {work.dtype} products · "
        f"{machine.bandwidth / 1e9:,.0f} GB/s read from memory",
        f"Model     {work.model} · {work.parameters / 1e6:,.0f}M parameters",
        f"Work      {work.name} · {asked}{refused}",
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
        "generate: plain `model.generate`, longest prompts first, 48 rows together. MFU: the share of the machine's",
        "products that useful arithmetic reached, where shared beginnings count once and padding not at all.",
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
            else {"absent": one.reason}
            for name, one in found.engines.items()
        },
    }
