"""Parameters from a frozen dataclass: one place for name, type, default, bounds and description.

    @dataclass(frozen=True)
    class Settings:
        rate: float = setting(50.0, "control rate, Hz", low=1.0, high=1000.0)

    parameters = Parameters(node, Settings)
    parameters.value.rate

`setting` is in `wm_vla_ros.settings`. Everything is read-only after start unless it is declared `live=True`.
A value out of bounds, not finite, of another type or not among the choices is refused and the old one kept.
A name in the parameter file that no field carries is an error at start: a misspelt limit must not fall back
to its default in silence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, get_type_hints

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

_TYPES = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
    tuple[str, ...]: Parameter.Type.STRING_ARRAY,
    tuple[float, ...]: Parameter.Type.DOUBLE_ARRAY,
}
# Declared by rclpy itself, or consumed by it before they become parameters.
_OF_RCLPY = ("use_sim_time", "start_type_description_service", "qos_overrides.")


class ParameterError(ValueError):
    """A parameter's value, type or name that the node refuses."""


def _descriptor(entry: Field, kind: type) -> ParameterDescriptor:
    meta = entry.metadata
    text = meta["description"]
    if meta["choices"]:
        text += f"; one of {', '.join(meta['choices'])}"
    descriptor = ParameterDescriptor(description=text, type=_TYPES[kind].value, read_only=not meta["live"])
    low, high = meta["low"], meta["high"]
    if low is not None and high is not None:
        if kind is int:
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
        else:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(low), to_value=float(high))
            ]
    return descriptor


class Parameters[T]:
    """The declared parameters of `node` and, in `value`, the current settings.

    `value` is replaced as a whole after an accepted change; a reader in another thread sees the old
    settings or the new ones.

    Raises ParameterError at construction, naming the parameter and what is valid.
    """

    def __init__(self, node: Node, settings: type[T]) -> None:
        self._node = node
        self._class = settings
        self._fields = {entry.name: entry for entry in fields(settings)}  # type: ignore[arg-type]
        hints = get_type_hints(settings)
        self._kinds = {name: hints[name] for name in self._fields}
        self._refuse_unknown_names()
        node.add_on_set_parameters_callback(self._judge)
        for name, entry in self._fields.items():
            self._declare(name, entry)
        self.value: T = self._read()
        node.add_post_set_parameters_callback(self._adopt)

    def _refuse_unknown_names(self) -> None:
        given = self._node._parameter_overrides
        unknown = [name for name in given if name not in self._fields and not name.startswith(_OF_RCLPY)]
        if unknown:
            raise ParameterError(
                f"{self._node.get_name()}: unknown parameter(s) {', '.join(sorted(unknown))}; "
                f"valid: {', '.join(sorted(self._fields))}"
            )

    def _declare(self, name: str, entry: Field) -> None:
        if entry.default is MISSING:
            raise TypeError(f"{self._class.__name__}.{name} needs a default")
        default = list(entry.default) if isinstance(entry.default, tuple) else entry.default
        kind = self._kinds[name]
        try:
            self._node.declare_parameter(name, default, _descriptor(entry, kind))
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            wanted = _TYPES[kind].name.lower()
            raise ParameterError(
                f"{self._node.get_name()}: parameter '{name}' ({wanted}): {error}"
            ) from error

    def _judge(self, changes: list[Parameter]) -> SetParametersResult:
        for change in changes:
            reason = self._reason_against(change)
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _reason_against(self, change: Parameter) -> str:
        entry = self._fields.get(change.name)
        if entry is None or change.type_ is not _TYPES[self._kinds[change.name]]:
            return ""  # not ours, or rclpy has its own word on the type
        values = change.value if isinstance(change.value, Sequence) else [change.value]
        if any(isinstance(item, float) and not math.isfinite(item) for item in values):
            return f"{change.name} must be finite, got {change.value}"
        low, high = entry.metadata["low"], entry.metadata["high"]
        if isinstance(change.value, int | float):
            if low is not None and change.value < low:
                return f"{change.name} must be at least {low}, got {change.value}"
            if high is not None and change.value > high:
                return f"{change.name} must be at most {high}, got {change.value}"
        choices = entry.metadata["choices"]
        if choices and (wrong := [item for item in _items(change.value) if item not in choices]):
            return f"{change.name} has no choice {wrong[0]!r}; valid: {', '.join(choices)}"
        return ""

    def _adopt(self, changes: list[Parameter]) -> None:
        if any(change.name in self._fields for change in changes):
            self.value = self._read()

    def _read(self) -> T:
        read = {name: self._node.get_parameter(name).value for name in self._fields}
        return self._class(**{n: tuple(v) if isinstance(v, list) else v for n, v in read.items()})


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
