"""The options with which `run` reports its end to other programs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from batchgen.cli.render.terminal import printable

if TYPE_CHECKING:
    from batchgen.run.notices.announce import Announcer

Command = TypeVar("Command", bound=Callable[..., Any])

NOTICE_OPTIONS = frozenset({"notify", "notify_format", "prometheus"})


def notice_options(command: Command) -> Command:
    """`--notify`, `--notify-format` and `--prometheus`."""
    notify = click.option(
        "--notify",
        metavar="URL",
        envvar="BATCHGEN_NOTIFY",
        show_envvar=True,
        help="When the run ends, post its outcome, counts, gates and exit code as JSON to this address: no text of a row. "
        "An address that fails changes no result.",
    )
    kinds = click.Choice(["json", "slack", "feishu", "dingtalk", "wecom"])
    kind = click.option(
        "--notify-format", type=kinds, help="Body of that request. Default: that of the host."
    )
    prometheus = click.option(
        "--prometheus",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="When the run ends, write its numbers for the textfile collector of Prometheus, such as batchgen.prom.",
    )
    return notify(kind(prometheus(command)))


def open_announcer(options: dict[str, Any]) -> "Announcer":
    """The announcer of these options, which are removed from `options`; checked."""
    from batchgen.run.notices.announce import Announcer
    from batchgen.run.notices.notification import Notification

    given = {name: options.pop(name) for name in NOTICE_OPTIONS}
    url = given["notify"]
    announcer = Announcer(
        Notification(url, given["notify_format"]) if url else None,
        given["prometheus"],
        lambda text: click.echo(printable(text), err=True),
    )
    announcer.check()
    return announcer
