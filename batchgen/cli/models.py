"""`batchgen models`: which models are here, fetching one ahead of time, and a look at what a run would need."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from batchgen.cli.options import json_option


@click.group()
def models() -> None:
    """List, fetch and check models."""


@models.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the starter models and those in the hub's cache."""
    from batchgen.cli.text import size
    from batchgen.models.catalog import list_models

    found = list_models()
    if as_json:
        _print({"ok": True, "models": [_plain(asdict(model)) for model in found]})
        return
    width = max(len(model.name) for model in found)
    for model in found:
        place = f" · {model.folder}" if model.folder else ""
        click.echo(
            f"{model.name:<{width}}  {model.state} · {size(model.bytes)} · {model.note}{place}"
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
        terminal=sys.stderr if sys.stderr.isatty() else None,
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
    from batchgen.cli.text import printable
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


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {k: str(v) if isinstance(v, Path) else v for k, v in record.items()}


def _print(content: dict[str, Any]) -> None:
    click.echo(json.dumps(content, ensure_ascii=False))
