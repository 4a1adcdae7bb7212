"""`batchgen models`: lists, downloads, checks, pins and removes models."""

from dataclasses import asdict
from pathlib import Path

import click

from batchgen.cli.options import console_reporter, json_option, print_json, setting_options


@click.group()
def models() -> None:
    """List, download, check, pin and remove models."""


@models.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the models on this machine."""
    from batchgen.cli.render.terminal import format_bytes
    from batchgen.models.catalog import list_models

    listed = list_models()
    if as_json:
        print_json(models=[{**asdict(m), "folder": m.folder and str(m.folder)} for m in listed])
        return
    width = max(len(model.name) for model in listed)
    for model in listed:
        facts = [model.state, format_bytes(model.bytes), model.note, str(model.folder or "")]
        click.echo(f"{model.name:<{width}}  {' · '.join(filter(None, facts))}")


@models.command()
@click.argument("model")
@click.option("--revision", metavar="COMMIT", help="Commit, tag or branch of a hub model.")
@json_option
def get(model: str, revision: str | None, as_json: bool) -> None:
    """Download MODEL, so that later runs can work offline."""
    from batchgen.models.catalog import get_model

    resolved = get_model(model, revision=revision, reporter=console_reporter())
    if as_json:
        print_json(**{**asdict(resolved), "folder": str(resolved.folder)})
        return
    click.echo(f"{resolved.name}  {resolved.folder}")


@models.command()
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Delete the model NAME from the caches of this machine.

    NAME is as `models list` shows it: a demo model, a model of the hub, which other programs may use too, or a GGUF file, whose
    conversion is deleted; the file itself stays.
    """
    from batchgen.models.catalog import remove_models

    removed = remove_models(name)
    if as_json:
        print_json(removed=[str(folder) for folder in removed])
        return
    for folder in removed:
        click.echo(f"removed {folder}")


@models.command()
@click.argument("model")
@click.option("--revision", metavar="COMMIT", help="Commit, tag or branch of a hub model.")
@json_option
def check(model: str, revision: str | None, as_json: bool) -> int:
    """Check that MODEL's files and tokenizer are complete."""
    from batchgen.cli.render.terminal import printable
    from batchgen.errors import ExitCode
    from batchgen.models.catalog import check_model

    checked = check_model(model, revision=revision, reporter=console_reporter())
    code = ExitCode.DONE if checked.usable else ExitCode.ENVIRONMENT
    if as_json:
        print_json(code, findings=[asdict(item) for item in checked.items])
        return int(code)
    click.echo(f"{checked.resolved.name}  {checked.resolved.folder}")
    for item in checked.items:
        click.echo(f"{item.verdict:<8} {item.topic}: {printable(item.text)}")
    return int(code)


@models.command()
@setting_options
@click.option("--check", is_flag=True, help="Compare the files with JOB.lock.json; write nothing.")
@json_option
def pin(
    *, job: Path, overrides: tuple[str, ...], profile: str | None, check: bool, as_json: bool
) -> None:
    """Write the hashes of JOB's models to JOB.lock.json.

    The file has the commit and the SHA-256 of every file of each model. `run` rejects models that differ from it.
    """
    from batchgen.cli.render.terminal import format_bytes, format_count
    from batchgen.engines.engine_registry import required_weights
    from batchgen.jobfile.load import load_job
    from batchgen.models.local_model import check_pins, pin_models

    loaded = load_job(job, overrides=overrides, profile=profile)
    pinned = (check_pins if check else pin_models)(
        loaded, weights=required_weights, reporter=console_reporter()
    )
    if as_json:
        models = [{"name": m.name, **asdict(m.pin)} for m in pinned.models]
        print_json(lock=str(pinned.lock), models=models)
        return
    for model in pinned.models:
        version = f" · {model.pin.source} {model.pin.revision[:12]}" if model.pin.revision else ""
        files = f"{format_count(len(model.pin.files), 'file')}, {format_bytes(model.pin.bytes)}"
        click.echo(f"{'same' if check else 'pinned':<8}{model.name} · {files}{version}")
    click.echo(f"{'matches' if check else 'wrote':<8}{pinned.lock}")
