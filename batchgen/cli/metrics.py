"""`batchgen metrics`: what can be measured, and what a job may say about each."""

import json
from dataclasses import asdict

import click

from batchgen.cli.options import json_option


@click.command()
@click.argument("kind", metavar="[TYPE]", required=False)
@json_option
def metrics(kind: str | None, as_json: bool) -> None:
    """List what `evaluate` can measure, or the options of one TYPE of metric."""
    from batchgen.errors import UsageError
    from batchgen.metrics.catalog import CATALOG

    if kind is not None and kind not in CATALOG:
        raise UsageError(
            f"no metric is called {kind!r}", hint="batchgen metrics lists those there are"
        )
    chosen = [CATALOG[kind]] if kind is not None else list(CATALOG.values())
    described = [entry.described() for entry in chosen]
    if as_json:
        listed = [asdict(one) for one in described]
        click.echo(json.dumps({"ok": True, "metrics": listed}, ensure_ascii=False))
        return
    width = max(len(one.type) for one in described)
    for one in described:
        better = {True: "↑", False: "↓", None: " "}[one.higher_is_better]
        click.echo(f"{one.type:<{width}}  {one.unit:<8} {better}  {one.measures}")
    if kind is not None:
        for option in described[0].options:
            default = f" (default {option.default})" if option.default else ""
            click.echo(f"\n  {option.name}: {option.expects}{default}\n      {option.meaning}")
