"""`batchgen bench`: compares the engines on this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from batchgen.cli.options import JOB, PROFILE, SET, console_reporter, json_option, print_json
from batchgen.cli.render.terminal import format_count, printable
from batchgen.models.demo import DEMO_MODEL

if TYPE_CHECKING:
    from batchgen.bench.bench import Benchmark, EngineResult


@click.command()
@click.argument("job", type=JOB, required=False)
@click.option("--model", metavar="MODEL", help=f"Default: the job's model, or {DEMO_MODEL}.")
@click.option(
    "--rows",
    type=click.IntRange(1),
    default=48,
    show_default=True,
    metavar="N",
    help="Measure the first N rows.",
)
@click.option(
    "--openvino",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Also measure OpenVINO with this folder, the same model converted.",
)
@click.option(
    "--server",
    multiple=True,
    metavar="URL",
    help="Also measure this server of the same model, up to and including /v1; may be repeated.",
)
@SET
@PROFILE
@json_option
def bench(  # noqa: PLR0913  # click passes each option by its name
    *,
    job: Path | None,
    model: str | None,
    rows: int,
    openvino: Path | None,
    server: tuple[str, ...],
    overrides: tuple[str, ...],
    profile: str | None,
    as_json: bool,
) -> None:
    """Compare the engines on this machine.

    Measures our two tiers (continuous and static batching), plain length-sorted `generate` and, where they are
    present, vLLM, OpenVINO and servers, with the first rows of JOB or with built-in rows: one after the other, on the
    same token ids, on one GPU even if there are several. Writes nothing. Leave the machine idle while it runs.
    """
    from batchgen.bench.bench import bench as measure
    from batchgen.bench.bench_work import OtherForms
    from batchgen.bench.workload import built_in_workload, job_workload

    if model is not None and (model.startswith((".", "~")) or Path(model).is_dir()):
        # Otherwise it would be relative to the folder of the job file.
        model = str(Path(model).expanduser().absolute())
    with TemporaryDirectory(prefix="batchgen-bench-") as folder:
        if job is not None:
            loaded = job_workload(job, model=model, rows=rows, overrides=overrides, profile=profile)
        else:
            model = model or DEMO_MODEL
            loaded = built_in_workload(Path(folder), model=model, rows=rows, overrides=overrides)
        with console_reporter() as reporter:
            elsewhere = OtherForms(openvino.absolute() if openvino else None, server)
            benchmark = measure(loaded, others=elsewhere, reporter=reporter)
    if as_json:
        print_json(**summary(benchmark))
        return
    for line in lines(benchmark):
        click.echo(printable(line))


def lines(benchmark: "Benchmark") -> list[str]:
    """The results as a table."""
    from batchgen.bench.bench import EngineResult

    machine, work = benchmark.machine, benchmark.workload
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
    base = benchmark.engines.get("generate")
    plain = base.new_tokens_per_second if isinstance(base, EngineResult) else None
    for name, one in benchmark.engines.items():
        if isinstance(one, EngineResult):
            shown.append(_row(name, _cells(one, plain)))
        else:
            shown.append(f"{name:<10}{one.reason}")
    return [
        *shown,
        "",
        "generate: plain `model.generate`, longest prompts first, batches of 48 rows. MFU: useful FLOPs a second as a",
        "share of the machine's matrix products above; shared prefixes count once, padding does not count.",
        "n/a: not known, or the matrix products were measured too slow.",
    ]


def _cells(one: "EngineResult", plain: float | None) -> Sequence[str]:
    speed = one.new_tokens_per_second
    times_faster = f"{speed / plain:.2f}" if plain else ""
    useful = "" if one.useful_token_share is None else f"{one.useful_token_share:.0%}"
    shares = useful, "n/a" if one.mfu is None else f"{one.mfu:.0%}"
    return f"{speed:,.1f}", times_faster, *shares, f"{one.seconds:,.1f}", f"{one.load_seconds:,.1f}"


def _row(name: str, cells: Sequence[str]) -> str:
    widths = (9, 12, 15, 7, 9, 9)
    return f"{name:<10}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))


def summary(benchmark: "Benchmark") -> Mapping[str, Any]:
    """The object that `bench --json` prints."""
    from batchgen.bench.bench import EngineResult

    engines: dict[str, Any] = {}
    for name, one in benchmark.engines.items():
        if isinstance(one, EngineResult):
            engines[name] = {**asdict(one), "new_tokens_per_second": one.new_tokens_per_second}
        else:
            engines[name] = {"not_measured": one.reason}
    machine, workload = asdict(benchmark.machine), asdict(benchmark.workload)
    return {"machine": machine, "workload": workload, "engines": engines}
