"""Where things lie at the start: the same for the same seed, nothing overlapping, every task possible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_vla_ros.sim.layout import APPROACH, sample_appearance, sample_layout
from wm_vla_ros.sim.scene import PAD_RADIUS
from wm_vla_ros.tasks.task import CUBE_SIZE, TASKS, task_for_seed

SEED = st.integers(0, 2**31)
HALF_DIAGONAL = CUBE_SIZE / np.sqrt(2)


def pairs(points):
    return [np.linalg.norm(a - b) for i, a in enumerate(points) for b in points[:i]]


@given(seed=SEED, name=st.sampled_from(["reach", "push"]))
@settings(max_examples=60)
def test_nothing_overlaps_and_all_is_within_reach(seed: int, name: str) -> None:
    layout = sample_layout(seed, task_for_seed(name, seed))
    cubes = [np.array(pose[:2]) for pose in layout.cubes.values()]
    pads = [np.array(xy) for xy in layout.pads.values()]
    assert min(pairs(cubes)) > 2 * HALF_DIAGONAL
    assert min(pairs(pads)) > 2 * PAD_RADIUS
    assert min(np.linalg.norm(a - b) for a in cubes for b in pads) > PAD_RADIUS + HALF_DIAGONAL
    for point in (*cubes, *pads):
        assert 0.15 < np.linalg.norm(point) < 0.30
        assert point[0] > 0.1
    assert 0.08 < layout.tip[2] < 0.14


@given(seed=SEED)
@settings(max_examples=60)
def test_the_way_of_a_push_is_free_and_its_start_reachable(seed: int) -> None:
    """From behind the cube to the pad, no other cube nearer than a tool and half a cube."""
    task = task_for_seed("push", seed)
    layout = sample_layout(seed, task)
    start, end = np.array(layout.cubes[task.cube][:2]), np.array(layout.pads[task.pad])
    along = (end - start) / np.linalg.norm(end - start)
    behind = start - along * APPROACH
    assert 0.06 < np.linalg.norm(end - start) < 0.16
    assert 0.12 < np.linalg.norm(behind) < 0.32
    others = [np.array(pose[:2]) for name, pose in layout.cubes.items() if name != task.cube]
    way = behind + np.linspace(0.0, 1.0, 60)[:, None] * (end - behind)
    for other in others:
        assert np.linalg.norm(way - other, axis=1).min() > CUBE_SIZE + HALF_DIAGONAL - 1e-3


@pytest.mark.parametrize("task", [None, *TASKS["push"]])
def test_a_seed_means_one_layout(task) -> None:
    first, again, other = sample_layout(7, task), sample_layout(7, task), sample_layout(8, task)
    assert (first.cubes, first.pads) == (again.cubes, again.pads)
    np.testing.assert_array_equal(first.tip, again.tip)
    assert first.cubes != other.cubes


def test_layouts_spread_over_the_table() -> None:
    """A policy trained on a corner of the table would pass a test on the same corner."""
    points = np.array([pose[:2] for seed in range(100) for pose in sample_layout(seed).cubes.values()])
    assert np.ptp(points, axis=0) == pytest.approx([0.145, 0.29], abs=0.02)
    assert np.std(points, axis=0) == pytest.approx([0.04, 0.08], abs=0.02)


@given(seed=SEED)
def test_an_appearance_is_reproducible_and_within_what_cameras_bear(seed: int) -> None:
    look, again = sample_appearance(seed), sample_appearance(seed)
    np.testing.assert_array_equal(look.camera_turn, again.camera_turn)
    np.testing.assert_array_equal(look.table_rgb, again.table_rgb)
    assert look.light_diffuse == again.light_diffuse
    assert np.all((look.table_rgb >= 0) & (look.table_rgb <= 1))
    assert np.linalg.norm(look.camera_shift) < 0.008
    assert 0.6 < look.light_diffuse + look.light_ambient < 1.3
