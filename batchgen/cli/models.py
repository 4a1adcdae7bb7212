"""`batchgen models`: which models are here, fetching one ahead of time, a look at one, and pinning a job's."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from batchgen.cli.options import json_option, setting_options, terminal
from batchgen.cli.render.terminal import json_line


@click.group()
def models() -> None:
    """List, fetch, check and pin models."""


@models.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the starter models and those in the hub's cache."""
    from batchgen.cli.render.terminal import format_bytes
    from batchgen.models.catalog import list_models

    found = list_models()
    if as_json:
        _print({"ok": True, "models": [_plain(asdict(model)) for model in found]})
        return
    width = max(len(model.name) for model in found)
    for model in found:
        place = f" · {model.folder}" if model.folder else ""
        click.echo(
            f"{model.name:<{width}}  {model.state} · {format_bytes(model.bytes)} · {model.note}{place}"
        )


@models.command()
@click.argument("model")
@click.option("--revision", metavar="COMMIT", help="Commit, tag or branch of a hub model.")
@json_option
def get(model: str, revision: str | None, as_json: bool) -> None:
    """Fetch MODEL now, so that tonight's run finds it on this machine."""
    from batchgen.models.catalog import get_model

    found = get_model(
        model,
        revision=revision,
        say=lambda text: click.echo(text, err=True),
        terminal=terminal(),
    )
    if as_json:
        _print({"ok": True, **_plain(asdict(found))})
        return
    click.echo(f"{found.name}  {found.folder}")


@models.command()
@click.argument("model")
@click.option("--revision", metavar="COMMIT", help="Commit, tag or branch of a hub model.")
@json_option
def check(model: str, revision: str | None, as_json: bool) -> int:
    """Look at MODEL's files and tokenizer: is what a run needs there? Reads no weights."""
    from batchgen.cli.render.terminal import printable
    from batchgen.errors import ExitCode
    from batchgen.models.catalog import check_model

    found = check_model(model, revision=revision, say=lambda text: click.echo(text, err=True))
    code = ExitCode.DONE if found.usable else ExitCode.ENVIRONMENT
    if as_json:
        findings = [asdict(finding) for finding in found.findings]
        _print({"ok": found.usable, "exit_code": int(code), "findings": findings})
        return int(code)
    click.echo(f"{found.resolved.name}  {found.resolved.folder}")
    for finding in found.findings:
        click.echo(f"{finding.verdict:<8} {finding.topic}: {printable(finding.text)}")
    return int(code)


@models.command()
@setting_options
@click.option(
    "--check", is_flag=True, help="Write nothing; read every byte and compare with the lock file."
)
@json_option
def pin(
    *, job: Path, sets: tuple[str, ...], profile: str | None, check: bool, as_json: bool
) -> None:
    """Write commit and SHA-256 of every file of JOB's models to JOB.lock.json, which `run` then holds them to."""
    from batchgen.cli.render.terminal import format_bytes, format_count
    from batchgen.jobfile.load import load_job
    from batchgen.models.local_model import check_pins, pin_models

    act = check_pins if check else pin_models
    pinned = act(
        load_job(job, sets=sets, profile=profile),
        say=lambda text: click.echo(text, err=True),
        terminal=terminal(),
    )
    if as_json:
        listed = [{"name": m.name, **asdict(m.pin)} for m in pinned.models]
        _print({"ok": True, "exit_code": 0, "lock": str(pinned.lock), "models": listed})
        return
    for model in pinned.models:
        version = f" · {model.pin.source} {model.pin.revision[:12]}" if model.pin.revision else ""
        files = f"{format_count(len(model.pin.files), 'file')}, {format_bytes(model.pin.bytes)}"
        click.echo(f"{'same' if check else 'pinned':<8}{model.name} · {files}{version}")
    click.echo(f"{'as' if check else 'wrote':<8}{pinned.lock}")


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {k: str(v) if isinstance(v, Path) else v for k, v in record.items()}


def _print(content: dict[str, Any]) -> None:
    click.echo(json_line(content))
