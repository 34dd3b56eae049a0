"""The command ``creemson completion``."""

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print a script that completes commands and options in a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script for SHELL with which Tab completes commands, options and files.

    In ~/.bashrc: eval "$(creemson completion bash)"; in ~/.zshrc: eval "$(creemson completion zsh)"; in
    ~/.config/fish/config.fish: creemson completion fish | source
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "creemson", "_CREEMSON_COMPLETE").source())
