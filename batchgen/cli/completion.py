"""`batchgen completion`: completes commands and options in a shell."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    \b
      bash   eval "$(batchgen completion bash)"            in ~/.bashrc
      zsh    eval "$(batchgen completion zsh)"             in ~/.zshrc
      fish   batchgen completion fish > ~/.config/fish/completions/batchgen.fish
    """  # noqa: D301  # click's \b keeps these lines as they are
    kind = get_completion_class(shell)
    if kind is None:
        raise AssertionError(f"click has no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "batchgen", "_BATCHGEN_COMPLETE").source())
