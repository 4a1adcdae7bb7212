"""`batchgen metrics`: the metrics, and the options of each."""

import re
import textwrap
from dataclasses import asdict
from difflib import get_close_matches

import click

from batchgen.cli.options import json_option, print_json
from batchgen.cli.render.terminal import window_width

_ARROWS = {True: "↑", False: "↓", None: " "}


@click.command()
@click.argument("kind", metavar="[TYPE]", required=False)
@json_option
def metrics(kind: str | None, as_json: bool) -> None:
    """List the metrics, or the options of one TYPE."""
    from batchgen.errors import UsageError
    from batchgen.jobfile.docs.metric_docs import describe_judge, describe_metrics
    from batchgen.jobfile.renamed_keys import explain_renamed_type

    documented = [*describe_metrics(), describe_judge()]
    described = [one for one in documented if kind in (None, one.type)]
    if not described:
        near = get_close_matches(kind or "", [one.type for one in documented], 1)
        meant = f"Did you mean {near[0]}? " if near else ""
        unknown = f"unknown metric {kind!r}", f"{meant}List the metrics with `batchgen metrics`."
        message, hint = explain_renamed_type(kind) or unknown
        raise UsageError(message, hint=hint)
    if as_json:
        print_json(metrics=[asdict(one) for one in described])
        return
    if kind is None:
        width = max(len(one.type) for one in described)
        for one in described:
            head = f"{one.type:<{width}}  {one.unit:<8} {_ARROWS[one.higher_is_better]}  "
            click.echo(_wrapped(head + _first_sentence(one.measures), len(head)))
        click.echo(
            "\n↑ higher is better, ↓ lower is. Options of a metric: batchgen metrics TYPE", err=True
        )
        return
    (one,) = described
    click.echo(_wrapped(f"{one.type}  {one.unit} {_ARROWS[one.higher_is_better]}".rstrip(), 0))
    click.echo(_wrapped(one.measures, 0))
    for option in one.options:
        default = f" (default {option.default})" if option.default else ""
        click.echo(_wrapped(f"\n{option.name}: {option.expects}{default}", 4))
        click.echo(_wrapped(f"    {option.meaning}", 4))


def _first_sentence(text: str) -> str:
    return re.split(r"(?<!\bal)\. ", text, maxsplit=1)[0].rstrip(".") + "."


def _wrapped(text: str, indent: int) -> str:
    start = "\n" if text.startswith("\n") else ""
    wrapper = textwrap.TextWrapper(window_width(), subsequent_indent=" " * indent)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return start + wrapper.fill(text.removeprefix("\n"))
