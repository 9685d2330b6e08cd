"""`outloop completion`: what makes a shell complete commands, options, workspaces, services, keys and ids."""

from __future__ import annotations

import click

PROGRAM = "outloop"
VARIABLE = "_OUTLOOP_COMPLETE"  # click's own choice for a program of that name


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the lines that make SHELL complete commands, workspaces, services, keys and recent audit ids.

    \b
    Example, for the file that your shell reads at its start:
      eval "$(outloop completion bash)"
      eval "$(outloop completion zsh)"
      outloop completion fish | source
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None, shell
    click.echo(found(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE).source())
