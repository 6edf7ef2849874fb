"""The launch file says what the stack description says; launch itself comes with a ROS 2 install only.

Stand-ins for launch and launch_ros keep what they are constructed with.
"""

from __future__ import annotations

import runpy
import sys
import types

import pytest

from wm_vla_ros import paths
from wm_vla_ros.bringup.stack import OnExit, stack_kind


class Made:
    """Any action: remembers its arguments."""

    def __init__(self, *args, **kwargs) -> None:
        self.args, self.kwargs = args, kwargs


class Context:
    def __init__(self, **given: str) -> None:
        self.launch_configurations = given


@pytest.fixture
def installed(monkeypatch) -> set[str]:
    """launch as far as it is used; returns the set of ROS packages that are installed."""
    packages: set[str] = set()

    class PackageNotFoundError(Exception):
        pass

    def prefix(name: str) -> str:
        if name not in packages:
            raise PackageNotFoundError(name)
        return "/somewhere"

    contents = {
        "launch": {"LaunchDescription": list},
        "launch.actions": {
            name: type(name, (Made,), {})
            for name in ("DeclareLaunchArgument", "LogInfo", "OpaqueFunction", "Shutdown")
        },
        "launch_ros": {},
        "launch_ros.actions": {"Node": type("Node", (Made,), {})},
        "ament_index_python": {},
        "ament_index_python.packages": {
            "PackageNotFoundError": PackageNotFoundError,
            "get_package_prefix": prefix,
        },
    }
    for name, members in contents.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return packages


def describe() -> list:
    return runpy.run_path(str(paths.launch_dir() / "sim.launch.py"))["generate_launch_description"]()


def start(description: list, **given: str) -> list:
    opaque = description[-1]
    return opaque.kwargs["function"](Context(**given), *opaque.kwargs["args"])


def test_the_launch_arguments_are_the_options_of_wm_vla_up(installed):
    declared = {action.args[0]: action.kwargs for action in describe()[:-1]}
    kind = stack_kind("sim")
    assert set(declared) == {"namespace", *(argument.name for argument in kind.arguments)}
    for argument in kind.arguments:
        assert declared[argument.name]["description"] == argument.description


def test_the_nodes_are_those_of_the_description_with_the_chosen_parameters(installed):
    actions = start(describe(), namespace="left", seed="7", speed="", use_sim_time="true")
    stack = stack_kind("sim").build("left", seed=7, use_sim_time=True)
    assert len(actions) == len(stack.nodes)
    for action, node in zip(actions, stack.nodes, strict=True):
        made = action.kwargs
        assert (made["package"], made["executable"], made["name"]) == (
            "wm_vla_ros",
            node.executable,
            node.name,
        )
        assert made["namespace"] == "left"
        assert made["parameters"] == [str(node.parameters_file), dict(node.parameters)]
        assert made["additional_env"] == dict(node.environment)
        assert made.get("respawn", False) == (node.on_exit is OnExit.RESTART)
        ends_all = type(made.get("on_exit")).__name__ == "Shutdown"
        assert ends_all == (node.on_exit is OnExit.STOP)


def test_robot_state_publisher_comes_along_where_it_is_installed(installed):
    assert len(start(describe())) == 4
    installed.add("robot_state_publisher")
    *_, publisher = start(describe(), namespace="left")
    assert publisher.kwargs["executable"] == "robot_state_publisher"
    assert publisher.kwargs["namespace"] == "left"
    assert "<robot" in publisher.kwargs["parameters"][0]["robot_description"]


def test_a_bad_value_is_refused_by_name(installed):
    with pytest.raises(ValueError, match="seed must be of type int, got 'x'"):
        start(describe(), seed="x")
