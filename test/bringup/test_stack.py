"""The stack description: what it builds, what it refuses, and that it names only what exists."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from itertools import pairwise

import pytest
import yaml

from wm_vla_ros.bringup.runner import command_line
from wm_vla_ros.bringup.stack import KINDS, OnExit, parse, stack_kind


@pytest.fixture(params=KINDS)
def kind(request):
    return stack_kind(request.param)


def node(stack, name):
    return next(node for node in stack.nodes if node.name == name)


def settings_of(executable: str) -> set[str]:
    module = import_module(f"wm_vla_ros.nodes.{executable}")
    (settings,) = (
        each for name, each in vars(module).items() if name.endswith("Settings") and name != "NodeSettings"
    )
    return {entry.name for entry in fields(settings)}


def test_an_unknown_stack_lists_the_valid_ones():
    with pytest.raises(ValueError, match="'arm'; valid: sim"):
        stack_kind("arm")


def test_every_argument_reaches_a_parameter_that_its_nodes_declare(kind):
    """An argument whose target nobody declares would be refused by the node only when it starts."""
    executables = {node.name: node.executable for node in kind.nodes}
    for argument in kind.arguments:
        for name, parameter in argument.targets:
            known = settings_of(executables[name]) | {"use_sim_time"}
            assert parameter in known, f"{argument.name} -> {name}.{parameter}"


def test_the_parameter_file_holds_only_parameters_that_exist_and_under_any_namespace(kind):
    for one in kind.nodes:
        raw = yaml.safe_load(one.parameters_file.read_text())
        given = raw[f"/**/{one.name}"]["ros__parameters"]
        assert set(given) <= settings_of(one.executable)


def test_files_and_environment_exist(kind):
    for one in kind.nodes:
        assert one.parameters_file.is_file()
        for library in ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM", "RAYON_NUM_THREADS"):
            assert one.environment[library] == "1"


def test_without_a_choice_the_parameter_file_holds(kind):
    stack = kind.build()
    assert "seed" not in node(stack, "driver_node").parameters
    assert stack.namespace == ""


def test_choices_override_in_every_target(kind):
    stack = kind.build("/left/", world_model="other", seed=7, speed=2)
    assert stack.namespace == "left"
    assert node(stack, "mpc_node").parameters["world_model"] == "other"
    assert node(stack, "vla_node").parameters["world_model"] == "other"
    assert node(stack, "driver_node").parameters["seed"] == 7
    assert node(stack, "driver_node").parameters["speed"] == 2.0
    assert isinstance(node(stack, "driver_node").parameters["speed"], float)


def test_building_does_not_change_the_kind(kind):
    kind.build(seed=7)
    assert "seed" not in node(kind.build(), "driver_node").parameters


def test_an_unknown_argument_lists_the_valid_ones(kind):
    with pytest.raises(ValueError, match="sede; valid: robot, seed"):
        kind.build(sede=7)


@pytest.mark.parametrize("name, value", [("seed", "7"), ("seed", True), ("seed", 1.5), ("speed", "fast")])
def test_a_value_of_another_type_is_refused_by_name(kind, name, value):
    with pytest.raises(ValueError, match=name):
        kind.build(**{name: value})


def test_the_arm_never_goes_on_without_its_driver_and_never_restarts_it_by_itself(kind):
    assert node(kind, "driver_node").on_exit is OnExit.STOP


def test_launch_arguments_are_parsed_to_their_type(kind):
    by_name = {argument.name: argument for argument in kind.arguments}
    assert parse(by_name["seed"], "7") == 7
    assert parse(by_name["speed"], "0.5") == 0.5
    assert parse(by_name["use_sim_time"], "True") is True
    for name, text in (("seed", "x"), ("use_sim_time", "yes")):
        with pytest.raises(ValueError, match=name):
            parse(by_name[name], text)


def test_the_command_line_carries_names_parameters_and_file_as_ros_arguments(kind):
    stack = kind.build("left", seed=7, layout_for='push the "red" cube', use_sim_time=True)
    driver = node(stack, "driver_node")
    line = command_line(driver, stack.namespace)
    assert line[1:4] == ["-m", "wm_vla_ros.nodes.driver_node", "--ros-args"]
    for pair in (
        ("-r", "__ns:=/left"),
        ("-r", "__node:=driver_node"),
        ("-p", "seed:=7"),
        ("-p", "publish_clock:=true"),
        ("-p", 'layout_for:="push the \\"red\\" cube"'),
        ("--params-file", str(driver.parameters_file)),
    ):
        assert pair in pairwise(line)
