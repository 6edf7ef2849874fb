"""Instructions, and when they are fulfilled."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.tasks.task import (
    CUBES,
    INSTRUCTIONS,
    OBJECT_STATE_NAMES,
    PADS,
    TASKS,
    from_instruction,
    task_for_seed,
)

FAR = np.array([0.3, 0.3, 0.3])
REACH = from_instruction("touch the red cube")
PUSH = from_instruction("push the blue cube to the green pad")


def test_every_cube_and_pad_has_its_instruction() -> None:
    assert {task.cube for task in TASKS["reach"]} == set(CUBES)
    assert {(task.cube, task.pad) for task in TASKS["push"]} == {
        (cube, pad) for cube in CUBES for pad in PADS
    }
    assert all(from_instruction(text) is task for text, task in INSTRUCTIONS.items())
    assert {task.name for task in TASKS["push"]} == {"push"}


@pytest.mark.parametrize("text", ["Touch the RED cube", "  touch the  red cube . ", "touch the red cube"])
def test_case_spacing_and_full_stop_do_not_matter(text: str) -> None:
    assert from_instruction(text) is REACH


@pytest.mark.parametrize("text", ["", "touch the purple cube", "touch the red cube and the blue one"])
def test_an_unknown_instruction_lists_the_valid_ones(text: str) -> None:
    with pytest.raises(ValueError, match="unknown instruction") as refusal:
        from_instruction(text)
    assert all(valid in str(refusal.value) for valid in INSTRUCTIONS)


def test_an_unknown_task_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="unknown task 'juggle'; valid: reach, push"):
        task_for_seed("juggle", 1)


def test_a_seed_always_means_the_same_instruction_and_seeds_use_all() -> None:
    for name, tasks in TASKS.items():
        chosen = [task_for_seed(name, seed) for seed in range(60)]
        assert chosen == [task_for_seed(name, seed) for seed in range(60)]
        assert set(chosen) == set(tasks)


@pytest.mark.parametrize("height, touched", [(0.019, True), (0.0201, False)])
def test_reach_is_the_tip_within_2_cm_of_the_cube(height: float, touched: bool) -> None:
    cubes = dict.fromkeys(CUBES, FAR) | {"red": np.array([0.2, 0.0, 0.0])}
    tip = np.array([0.2, 0.0, height])
    assert REACH.success(tip, cubes, {}) is touched
    assert REACH.distance(tip, cubes, {}) == pytest.approx(height)
    assert (REACH.tolerance, REACH.time_limit) == (0.02, 6.0)


def test_touching_another_cube_is_no_success() -> None:
    cubes = dict.fromkeys(CUBES, FAR) | {"green": np.array([0.2, 0.0, 0.0])}
    assert not REACH.success(np.array([0.2, 0.0, 0.0]), cubes, {})


@pytest.mark.parametrize("off, there", [(0.029, True), (0.0301, False)])
def test_push_is_the_cube_within_3_cm_of_the_pad_whatever_its_height(off: float, there: bool) -> None:
    cubes = dict.fromkeys(CUBES, FAR) | {"blue": np.array([0.2 + off, 0.0, 0.0125])}
    pads = {"green": np.array([0.2, 0.0, 0.0]), "yellow": FAR}
    assert PUSH.success(FAR, cubes, pads) is there
    assert PUSH.distance(FAR, cubes, pads) == pytest.approx(off)
    assert (PUSH.tolerance, PUSH.time_limit) == (0.03, 15.0)


def test_the_other_pad_does_not_count() -> None:
    cubes = dict.fromkeys(CUBES, FAR) | {"blue": np.array([0.2, 0.0, 0.0125])}
    assert not PUSH.success(FAR, cubes, {"green": FAR, "yellow": np.array([0.2, 0.0, 0.0])})


def test_object_state_names_are_three_coordinates_per_object() -> None:
    assert len(OBJECT_STATE_NAMES) == 3 * (len(CUBES) + len(PADS))
    assert len(set(OBJECT_STATE_NAMES)) == len(OBJECT_STATE_NAMES)
