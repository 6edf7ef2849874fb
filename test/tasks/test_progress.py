"""Progress from grounded positions: the task's own distance, and how sure the stack may be of it."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.tasks.progress import TaskProgress
from wm_vla_ros.tasks.task import INSTRUCTIONS, OBJECT_STATE_NAMES, from_instruction

NAMES = ("tip.x", "tip.y", "tip.z", *OBJECT_STATE_NAMES)


def grounded(**positions) -> np.ndarray:
    """Everything a metre apart, but for what is given."""
    things = dict.fromkeys(name.rpartition(".")[0] for name in NAMES)
    places = {thing: (float(index), 0.0, 0.0) for index, thing in enumerate(things)} | positions
    return np.array([places[n.rpartition(".")[0]]["xyz".index(n[-1])] for n in NAMES], np.float32)


@pytest.mark.parametrize(
    "instruction, first, second",
    [
        ("touch the blue cube", "tip", "blue_cube"),
        ("push the red cube to the yellow pad", "red_cube", "yellow_pad"),
    ],
)
def test_the_distance_is_the_tasks_own_between_the_things_it_names(instruction, first, second):
    progress = TaskProgress(from_instruction(instruction), NAMES, 0.005)
    places = grounded(**{first: (0.1, 0.2, 0.0), second: (0.1, 0.24, 0.0)})
    assert progress.distance(places) == pytest.approx(0.04, abs=1e-6)


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_at_the_tolerance_success_is_as_likely_as_not_and_grows_with_nearness(instruction):
    task = from_instruction(instruction)
    progress = TaskProgress(task, NAMES, 0.005)
    pair = ("tip", f"{task.cube}_cube") if task.pad is None else (f"{task.cube}_cube", f"{task.pad}_pad")

    def at(distance: float) -> float:
        return progress.probability(
            grounded(**{pair[0]: (0.1, 0.0, 0.0), pair[1]: (0.1 + distance, 0.0, 0.0)})
        )

    assert at(task.tolerance) == pytest.approx(0.5, abs=0.01)
    assert at(task.tolerance - 0.01) > 0.97
    assert at(task.tolerance + 0.01) < 0.03


def test_a_world_model_that_does_not_ground_the_task_is_refused_with_what_it_grounds():
    with pytest.raises(ValueError, match="red_cube.x, red_cube.y, red_cube.z; it grounds tip.x"):
        TaskProgress(from_instruction("touch the red cube"), NAMES[:3], 0.005)
