"""The one description of a stack: its nodes, their parameters, environment, and what a death means.

`wm-vla up` runs it (runner.py); launch/*.launch.py turns it into launch_ros actions. Pure data: no ROS.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from wm_vla_ros import paths
from wm_vla_ros.config import defaults

Value = bool | int | float | str
PACKAGE = "wm_vla_ros"


class OnExit(Enum):
    """What follows when a node ends by itself. REPORT: say so, the rest goes on and the driver holds."""

    REPORT = "report"
    RESTART = "restart"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Argument:
    """One value that whoever starts a stack may choose.

    kind: bool, int, float or str. targets: (node, parameter) pairs that take it. Without a value the
    parameter file's holds, so no default is written twice. meanings: what a value becomes as a parameter
    where that is not the value itself; None leaves the parameter as it is.
    """

    name: str
    kind: type
    description: str
    targets: tuple[tuple[str, str], ...]
    meanings: Mapping[Value, Value | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One process. executable: entry point, and module in wm_vla_ros.nodes.

    parameters: override the file's.
    """

    name: str
    executable: str
    on_exit: OnExit
    parameters_file: Path
    parameters: Mapping[str, Value] = field(default_factory=dict)
    remappings: tuple[tuple[str, str], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StackSpec:
    """Nodes that are started together. namespace: "" or a name; each gives one robot of its own."""

    name: str
    namespace: str
    nodes: tuple[NodeSpec, ...]


@dataclass(frozen=True, slots=True)
class StackKind:
    """What `build` fills in: nodes as they are without a choice, and the choices."""

    name: str
    description: str
    nodes: tuple[NodeSpec, ...]
    arguments: tuple[Argument, ...]

    def build(self, namespace: str = "", **chosen: Value | None) -> StackSpec:
        """The stack under `namespace` with the arguments that are not None.

        Raises ValueError for an unknown argument (listing the known ones) or a value of another type.
        """
        known = {argument.name: argument for argument in self.arguments}
        unknown = sorted(set(chosen) - set(known))
        if unknown:
            raise ValueError(f"unknown argument(s) {', '.join(unknown)}; valid: {', '.join(known)}")
        overrides: dict[str, dict[str, Value]] = {node.name: {} for node in self.nodes}
        for name, value in chosen.items():
            if value is None:
                continue
            typed = _checked(known[name], value)
            meant = known[name].meanings.get(typed, typed)
            for node, parameter in known[name].targets if meant is not None else ():
                overrides[node][parameter] = meant
        nodes = tuple(
            NodeSpec(
                name=node.name,
                executable=node.executable,
                on_exit=node.on_exit,
                parameters_file=node.parameters_file,
                parameters={**node.parameters, **overrides[node.name]},
                remappings=node.remappings,
                environment=node.environment,
            )
            for node in self.nodes
        )
        return StackSpec(self.name, namespace.strip("/"), nodes)


def parse(argument: Argument, text: str) -> Value:
    """The value of `argument` from the text of a launch argument. Raises ValueError naming what is valid."""
    if argument.kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{argument.name} must be true or false, got {text!r}")
        return text.lower() == "true"
    try:
        return argument.kind(text)
    except ValueError:
        raise ValueError(f"{argument.name} must be of type {argument.kind.__name__}, got {text!r}") from None


def _checked(argument: Argument, value: Value) -> Value:
    if argument.kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not argument.kind:
        raise ValueError(f"{argument.name} must be of type {argument.kind.__name__}, got {value!r}")
    return value


DRIVER, CAMERAS, FAST, SLOW = "driver_node", "sim_camera_node", "mpc_node", "vla_node"
# One thread per numerical library and for Mesa's software renderer: two of them on a busy machine wait for
# each other a hundred times longer than they work.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    # OpenCV and the tokenizers have pools of their own, which OpenMP's variables do not reach.
    "OPENCV_FOR_THREADS_NUM": "1",
    "RAYON_NUM_THREADS": "1",
    "LP_NUM_THREADS": "0",
}


def _simulation() -> StackKind:
    config = paths.config_dir()
    environment = {
        **_ONE_THREAD,
        # Images between processes: without shared memory of this size a frame costs four times as much.
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(config / "fastdds.xml"),
    }

    names = defaults()

    def node(name: str, on_exit: OnExit, models: Mapping[str, Value], **extra: str) -> NodeSpec:
        chosen = {"robot": names.robot, **models}
        return NodeSpec(
            name, name, on_exit, config / "sim.yaml", chosen, environment={**environment, **extra}
        )

    everyone = (DRIVER, CAMERAS, FAST, SLOW)
    arguments = (
        Argument("robot", str, "robot spec, by name", tuple((n, "robot") for n in everyone)),
        Argument("seed", int, "where cubes and pads lie, how light and camera differ", ((DRIVER, "seed"),)),
        Argument("layout_for", str, "instruction whose way the layout keeps free", ((DRIVER, "layout_for"),)),
        Argument("speed", float, "simulated seconds per second; needs use_sim_time", ((DRIVER, "speed"),)),
        Argument(
            "use_sim_time",
            bool,
            "every node runs on the driver's /clock",
            ((DRIVER, "publish_clock"), *((n, "use_sim_time") for n in (CAMERAS, FAST, SLOW))),
        ),
        Argument("width", int, "image width, pixels", ((CAMERAS, "width"),)),
        Argument("height", int, "image height, pixels", ((CAMERAS, "height"),)),
        Argument(
            "world_model", str, "world model, name or folder", ((FAST, "world_model"), (SLOW, "world_model"))
        ),
        Argument("policy", str, "LeRobot policy: name in models/, folder or hub id", ((SLOW, "policy"),)),
        Argument("vla_latency", float, "extra latency of the slow loop, s", ((SLOW, "vla_latency"),)),
        Argument("vla_rate", float, "inferences per second of the slow loop, at most", ((SLOW, "rate"),)),
        Argument("rate", float, "plans per second, a multiple of the control rate", ((FAST, "rate"),)),
        Argument(
            "realtime",
            bool,
            "SCHED_FIFO where it is permitted, each node at its own priority",
            (*((n, "realtime_priority") for n in (DRIVER, CAMERAS, FAST)), (SLOW, "planner_priority")),
            meanings={True: None, False: 0},
        ),
    )
    nodes = (
        node(DRIVER, OnExit.STOP, {}),
        node(CAMERAS, OnExit.RESTART, {}, MUJOCO_GL=os.environ.get("MUJOCO_GL", "egl")),
        node(FAST, OnExit.REPORT, {"world_model": names.world_model}),
        node(SLOW, OnExit.REPORT, {"world_model": names.world_model, "policy": names.policy}),
    )
    return StackKind("sim", "one arm in MuJoCo with both loops", nodes, arguments)


_KINDS = {"sim": _simulation}
KINDS = tuple(_KINDS)


def stack_kind(name: str) -> StackKind:
    """The kind of stack called `name`. Raises ValueError listing the valid ones."""
    if name not in _KINDS:
        raise ValueError(f"unknown stack {name!r}; valid: {', '.join(KINDS)}")
    return _KINDS[name]()
