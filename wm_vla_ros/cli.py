"""`wm-vla`: every file in commands/ is a command, imported only when it is asked for."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from wm_vla_ros import __version__, commands


class CommandFolder(TyperGroup):
    """Finds commands by file name; running one imports that file and no other."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self._files())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        file = self._files().get(cmd_name)
        if file is None:
            return None
        module = importlib.import_module(f"{commands.__name__}.{file}")
        group = getattr(module, "app", None)
        if group is None:
            group = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            group.command(cmd_name)(module.command)
        command = typer.main.get_command(group)
        command.name = cmd_name
        return command

    @staticmethod
    def _files() -> dict[str, str]:
        """Module name by command name."""
        return {
            module.name.replace("_", "-"): module.name for module in pkgutil.iter_modules(commands.__path__)
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None:
            ctx.fail(f"unknown command {args[0]!r}; there are: {', '.join(self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=CommandFolder,
    help="A robot arm controlled by a slow VLA policy and a fast world-model MPC on ROS 2.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


def main() -> None:
    """Entry point. Bad input is one line on stderr and exit code 2; WM_VLA_TRACEBACK=1 shows where."""
    try:
        app()
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        if os.environ.get("WM_VLA_TRACEBACK"):
            raise
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
