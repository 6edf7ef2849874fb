"""A stack's arguments as command-line options: name, type and help are the stack description's own."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Annotated, Any

import typer

from wm_vla_ros.bringup.stack import StackKind

NAMESPACE = Annotated[str, typer.Option(help="Namespace: each gives one robot of its own.")]


def stack_parameters(kind: StackKind, without: Collection[str] = ()) -> list[inspect.Parameter]:
    """Keyword parameters for a typer command; None where nothing was chosen. without: names left out."""
    return [
        inspect.Parameter(
            argument.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[argument.kind | None, typer.Option(help=_sentence(argument.description))],
        )
        for argument in kind.arguments
        if argument.name not in without
    ]


def with_stack_options(command: Any, kind: StackKind, without: Collection[str] = ()) -> Any:
    """`command`, whose **chosen typer shall see as the options of `kind`, but for those in `without`."""
    own = inspect.signature(command, eval_str=True)
    kept = [item for item in own.parameters.values() if item.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = [*kept, *stack_parameters(kind, without)]
    command.__signature__ = own.replace(parameters=parameters)
    command.__annotations__ = {item.name: item.annotation for item in parameters}
    return command


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
