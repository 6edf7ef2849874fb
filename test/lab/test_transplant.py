"""A demonstration carried over to another scene: what it is about, and that nothing but the scene changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.lab.transplant import About, Demonstration, about, approach, transplant

SCALE, BEHIND, STEP = 0.02, 0.03, 0.003


def pushed(cube: np.ndarray, pad: np.ndarray, start: np.ndarray, task: str = "push") -> Demonstration:
    """The tip goes behind the cube in a straight line, pushes it onto the pad, and stays for 10 ticks."""
    along = (pad - cube) / np.linalg.norm(pad - cube)
    tips = [start, *line(start, cube - BEHIND * along), *line(cube - BEHIND * along, pad - BEHIND * along)]
    tip = np.array([*tips, *[tips[-1]] * 10], np.float32)
    along_push = np.maximum((tip - cube) @ along + BEHIND, 0.0)
    behind = np.linalg.norm(np.cross(tip - cube, along), axis=1) < 1e-4
    objects = np.repeat(np.array([[cube, pad, [0.3, -0.2, 0.0]]], np.float32), len(tip), axis=0)
    objects[:, 0] += (along_push * behind)[:, None] * along
    actions = np.zeros((len(tip), 7), np.float32)
    actions[:-1, :3] = np.diff(tip, axis=0) / SCALE
    return Demonstration(task, tip, objects, actions, np.zeros(len(tip), bool))


def line(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    count = round(float(np.linalg.norm(last - first)) / STEP)
    return first + np.linspace(0, 1, count + 1)[1:, None] * (last - first)


def flat(x: float, y: float, z: float = 0.0) -> np.ndarray:
    return np.array([x, y, z], np.float32)


SHOWN = pushed(flat(0.2, 0.0), flat(0.3, 0.0), flat(0.05, 0.0, 0.06))
WHAT = About(0, 1)


def test_it_is_read_off_a_push_what_is_pushed_where_to() -> None:
    assert about([SHOWN]) == {"push": WHAT}


def test_one_that_moves_nothing_is_about_what_it_ends_at() -> None:
    still = replace(SHOWN, task="touch", objects=np.repeat(SHOWN.objects[:1], len(SHOWN.tip), axis=0))
    assert about([still]) == {"touch": About(1, None)}


def test_the_majority_of_a_task_decides() -> None:
    """One demonstration that swept another cube away must not change what the task is about."""
    astray = replace(SHOWN, objects=SHOWN.objects[:, [2, 1, 0]])
    assert about([SHOWN, astray, SHOWN])["push"] == WHAT


@given(angle=st.floats(-3.1, 3.1), length=st.floats(0.05, 0.2), x=st.floats(0.1, 0.3), y=st.floats(-0.2, 0.2))
def test_it_ends_at_the_target_of_whatever_scene(angle: float, length: float, x: float, y: float) -> None:
    """The thing comes to its target, the hand stays behind it, and the actions lead along the route."""
    cube, tip = flat(x, y), flat(0.1, -0.1, 0.08)
    along = flat(np.cos(angle), np.sin(angle))
    objects = np.stack([cube, cube + length * along, flat(0.4, 0.4)])
    entry = approach(SHOWN, 0)
    assert entry is not None
    route = transplant(SHOWN, WHAT, entry, tip, objects, SCALE)
    assert route is not None
    np.testing.assert_allclose(route.thing[-1], objects[1], atol=2e-3)
    np.testing.assert_allclose(route.tip[-1], objects[1] - BEHIND * along, atol=2e-3)
    led = tip + SCALE * np.cumsum(route.actions[:, :3], axis=0)
    assert np.linalg.norm(led - route.tip, axis=1).max() < 2 * STEP
    speeds = np.linalg.norm(np.diff(route.tip, axis=0), axis=1)
    assert speeds.max() < 1.1 * STEP, "a longer push takes longer and goes no faster"


def test_the_way_there_is_told_from_what_was_shown() -> None:
    entry = approach(SHOWN, 0)
    route = transplant(SHOWN, WHAT, entry, flat(0.0, 0.1, 0.1), SHOWN.objects[0], SCALE)
    joined = int((route.row < 0).sum())
    assert joined > 0
    assert np.all(route.row[:joined] == -1)
    assert route.row[joined] == entry
    assert np.all(np.diff(route.row[joined:]) >= 0)


def test_in_its_own_scene_it_is_what_it_was() -> None:
    route = transplant(SHOWN, WHAT, 5, SHOWN.tip[5], SHOWN.objects[5], SCALE)
    np.testing.assert_allclose(route.tip, SHOWN.tip[6:], atol=1e-5)
    np.testing.assert_allclose(route.actions, SHOWN.actions[5:-1], atol=1e-5)


def test_what_disturbed_the_expert_is_not_carried_over() -> None:
    disturbed = np.zeros(len(SHOWN.tip), bool)
    disturbed[30:40] = True
    route = transplant(replace(SHOWN, disturbed=disturbed), WHAT, 10, SHOWN.tip[10], SHOWN.objects[10], SCALE)
    assert route.row.max() < 30
    assert len(route.row) == 19


@pytest.mark.parametrize("pad", [flat(0.205, 0.0), flat(0.9, 0.0)])
def test_a_scene_in_which_it_is_done_or_out_of_reach_is_left_out(pad: np.ndarray) -> None:
    objects = SHOWN.objects[0].copy()
    objects[1] = pad
    assert transplant(SHOWN, WHAT, 5, SHOWN.tip[5], objects, SCALE) is None


def test_a_recording_that_begins_at_the_thing_shows_no_approach() -> None:
    near = pushed(flat(0.2, 0.0), flat(0.3, 0.0), flat(0.18, 0.05))
    assert approach(near, 0) is None
