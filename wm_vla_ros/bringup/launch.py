"""A stack description as launch_ros actions: the same nodes, arguments and rules as `wm-vla up`.

launch and launch_ros come with a ROS 2 install, not with the wheels, so they are imported when asked for.
"""

from __future__ import annotations

from typing import Any

from wm_vla_ros.bringup.stack import PACKAGE, NodeSpec, OnExit, StackKind, StackSpec, parse, stack_kind
from wm_vla_ros.config import defaults
from wm_vla_ros.robots.spec import load_robot

_RESTART_DELAY = 1.0


def describe(name: str) -> Any:
    """The LaunchDescription of the stack called `name`. Raises ValueError for an unknown one."""
    from launch import LaunchDescription
    from launch.actions import DeclareLaunchArgument, OpaqueFunction

    kind = stack_kind(name)
    declared = [DeclareLaunchArgument("namespace", default_value="", description="one robot each")]
    declared += [
        DeclareLaunchArgument(argument.name, default_value="", description=argument.description)
        for argument in kind.arguments
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_start, args=[kind])])


def _start(context: Any, kind: StackKind) -> list[Any]:
    given = context.launch_configurations
    chosen = {
        argument.name: parse(argument, given[argument.name])
        for argument in kind.arguments
        if given.get(argument.name)
    }
    stack = kind.build(given.get("namespace", ""), **chosen)
    return [*(_node(node, stack) for node in stack.nodes), *_robot_state_publisher(stack, chosen)]


def _node(node: NodeSpec, stack: StackSpec) -> Any:
    from launch.actions import LogInfo, Shutdown
    from launch_ros.actions import Node

    reactions = {
        OnExit.STOP: {"on_exit": Shutdown(reason=f"cannot go on without {node.name}")},
        OnExit.REPORT: {"on_exit": LogInfo(msg=f"{node.name} has ended")},
        OnExit.RESTART: {"respawn": True, "respawn_delay": _RESTART_DELAY},
    }
    return Node(
        package=PACKAGE,
        executable=node.executable,
        name=node.name,
        namespace=stack.namespace,
        parameters=[str(node.parameters_file), dict(node.parameters)],
        remappings=list(node.remappings),
        additional_env=dict(node.environment),
        output="screen",
        **reactions[node.on_exit],
    )


def _robot_state_publisher(stack: StackSpec, chosen: dict[str, Any]) -> list[Any]:
    """robot_state_publisher where it is installed: on a ROS 2 install, not with the wheels."""
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix
    from launch_ros.actions import Node

    package = "robot_state_publisher"
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return []
    spec = load_robot(chosen.get("robot", defaults().robot))
    description = {"robot_description": spec.urdf.read_text(encoding="utf-8")}
    if "use_sim_time" in chosen:
        description["use_sim_time"] = chosen["use_sim_time"]
    return [
        Node(
            package=package,
            executable=package,
            namespace=stack.namespace,
            parameters=[description],
            output="screen",
        )
    ]
