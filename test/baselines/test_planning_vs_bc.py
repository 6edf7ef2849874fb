"""Planning against imitation: what is asked for, what is counted, and who wins. Episodes are stood in for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros.baselines.planning_vs_bc import IMITATION, PLANNING, Contest, figures_of, plot
from wm_vla_ros.rig.rig import EpisodeResult, Rig, RigConditions
from wm_vla_ros.rig.task_types import PRECISE, TASK_TYPES
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.tasks.task import task_for_seed


def results(shares: dict[str, float], n: int = 100) -> dict:
    """`n` episodes of a type per controller, of which the first share succeeds."""
    return {
        ("push", name): [EpisodeResult(i, "", i < share * n, 2.0, 0.0) for i in range(n)]
        for name, share in shares.items()
    }


@pytest.mark.parametrize(
    ("planning", "bc", "ensemble", "favours"),
    [
        (0.95, 0.7, 0.6, "planning"),
        (0.95, 0.7, 0.9, "neither"),
        (0.5, 0.5, 0.9, "imitation"),
        (0.9, 0.9, 0.9, "neither"),
    ],
)
def test_a_side_is_favoured_when_its_interval_is_clear_of_the_others(
    planning: float, bc: float, ensemble: float, favours: str
) -> None:
    found = figures_of("push", results({PLANNING: planning, "bc": bc, "bc_ensemble": ensemble}))
    figures = {figure.name: figure for figure in found}
    assert figures["push.favours"].value == favours
    assert figures["push.planning.success"].value == planning
    gain = figures["push.gain_over_bc"]
    assert gain.value == pytest.approx(planning - bc)
    assert gain.low <= gain.value <= gain.high
    assert (gain.low > 0) == (planning > bc)


def test_a_gain_is_drawn_by_seed() -> None:
    """The same seeds fail under both: there is no doubt that neither gains, however few succeed."""
    found = figures_of("push", results({PLANNING: 0.5, "bc": 0.5, "bc_ensemble": 0.5}))
    gain = next(figure for figure in found if figure.name == "push.gain_over_bc")
    assert (gain.low, gain.value, gain.high) == (0.0, 0.0, 0.0)


def test_the_faster_side_is_named_though_all_succeed() -> None:
    def timed(mean: float) -> list[EpisodeResult]:
        return [EpisodeResult(i, "", True, mean + 0.01 * (i % 7), 0.0) for i in range(40)]

    for ours, theirs, faster in ((1.0, 2.0, "planning"), (2.0, 1.0, "imitation"), (1.0, 1.0, "neither")):
        found = {("push", PLANNING): timed(ours)} | {("push", name): timed(theirs) for name in IMITATION}
        figures = {figure.name: figure.value for figure in figures_of("push", found)}
        assert (figures["push.faster"], figures["push.favours"]) == (faster, "neither")


def test_types_ask_for_what_they_are_called() -> None:
    for seed in range(1000, 1050):
        (precise,) = TASK_TYPES["precise"].instructions(seed)
        (push,) = TASK_TYPES["push"].instructions(seed)
        touch, then = TASK_TYPES["long"].instructions(seed)
        assert precise.tolerance == PRECISE < push.tolerance
        assert precise.instruction == push.instruction == then.instruction
        assert touch.pad is None
        assert touch.cube != then.cube
    assert TASK_TYPES["moving"].target_speed > 0.0


def test_unknown_types_are_refused_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="unknown task types juggle; valid: reach, push, precise, long"):
        Contest(("juggle",), (1,), "so101", "p", "w", RigConditions())


def test_picture_is_a_png(tmp_path: Path) -> None:
    figures = figures_of("push", results(dict.fromkeys((PLANNING, *IMITATION), 0.5)))
    plot(("push",), figures, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


class Told:
    """Does nothing; remembers its instructions."""

    def __init__(self) -> None:
        self.tasks: list = []

    def start(self, task) -> None:
        self.tasks.append(task)

    def on_observation(self, observation, now: float) -> None: ...

    def on_applied(self, applied) -> None: ...

    def on_tip(self, tip, at: float) -> None: ...

    def tick(self, now: float) -> None:
        return None


class Done:
    """A task that is done when so many ticks have passed; otherwise as `task`."""

    def __init__(self, task, ticks: int) -> None:
        self._task, self._left = task, ticks

    def __getattr__(self, name: str):
        return getattr(self._task, name)

    def success(self, *positions) -> bool:
        self._left -= 1
        return self._left < 0


def test_the_next_instruction_comes_when_the_one_before_is_done(rig: Rig, spec: RobotSpec) -> None:
    touch, push = TASK_TYPES["long"].instructions(1000)
    told = Told()
    result = rig.run(1000, Done(touch, 5), told, RigConditions(), then=[Done(push, 10)])
    assert [task.instruction for task in told.tasks] == [touch.instruction, push.instruction]
    assert result.success
    assert result.instruction == push.instruction
    assert result.time == pytest.approx(16 * spec.dt, abs=spec.dt)


def test_all_instructions_share_one_time_limit(rig: Rig) -> None:
    touch, push = TASK_TYPES["long"].instructions(1000)
    result = rig.run(1000, Done(touch, 5), Told(), RigConditions(), then=[push])
    assert not result.success
    assert result.time == touch.time_limit + push.time_limit


def test_the_scene_leaves_room_for_the_push_that_comes_second(rig: Rig) -> None:
    touch, push = TASK_TYPES["long"].instructions(1003)
    rig.run(1003, Done(touch, 0), Told(), RigConditions(), then=[Done(push, 0)])
    together = rig.world.layout
    rig.run(1003, Done(push, 0), Told(), RigConditions())
    assert together.cubes == rig.world.layout.cubes
    np.testing.assert_array_equal(together.tip, rig.world.layout.tip)
    assert task_for_seed("push", 1003) == push
