"""`wm-vla bench delay`: its contestants with a policy that sees the truth, its settings, one real run."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from wm_vla_ros.baselines.chunk_merging import Newest
from wm_vla_ros.baselines.delay_bench import DelaySettings, parse_values
from wm_vla_ros.baselines.delay_controllers import CONTESTANTS, AsyncChunks, StateRollForward, contestant
from wm_vla_ros.baselines.delay_figures import figures
from wm_vla_ros.rig.motion_trace import MotionTrace
from wm_vla_ros.rig.rig import Rig, RigConditions
from wm_vla_ros.robots.proprio import proprio
from wm_vla_ros.tasks.task import from_instruction, task_for_seed
from wm_vla_ros.types import AppliedAction, Observation, Plan

DT = 0.02
SETTINGS = DelaySettings(
    tasks=("reach",), observation_tasks=("reach",), contestants=("sync", "ours"), seeds=(1000, 1001),
    latencies=(0.0, 0.3), delays=(), jitters=(), drops=(), robot="so101",
    policy="so101_keypoint_chunk", world_model="so101_latent_dynamics",
)  # fmt: skip


@pytest.fixture(scope="module")
def rig(spec):
    rig = Rig(spec, (), (96, 96))
    yield rig
    rig.world.close()


class Straight:
    """Leads the commanded tip to the cube of the instruction at 3 mm a tick; keeps the states it got."""

    chunk_size, n_action_steps, dt = 48, 24, DT
    cameras = ()

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.states: list[np.ndarray] = []

    def infer(self, images, state, instruction: str) -> np.ndarray:
        self.states.append(np.array(state))
        goal = self._rig.world.cubes()[from_instruction(instruction).cube] + [0.0, 0.0, 0.0145]
        at, actions = state[15:18].astype(float), np.zeros((48, 7), np.float32)
        for action in actions:
            step = goal - at
            step *= min(1.0, 0.003 / max(np.linalg.norm(step), 1e-9))
            action[:3] = step / 0.02
            at = at + step
        return actions


@pytest.mark.parametrize("name", [name for name in CONTESTANTS if not name.startswith("ours_")])
def test_every_contestant_reaches_the_cube_under_latency(name: str, rig, linear_model, spec) -> None:
    """A gap shorter than the delay must close: rows are not lost with the motion they stand for."""
    driver = contestant(name, Straight(rig), linear_model, spec, 0.3)
    for seed in (1000, 1003):
        result = rig.run(seed, task_for_seed("reach", seed), driver, RigConditions(vla_latency=0.3))
        assert result.success, result
        assert set(result.faults) <= {"rate_limited", "starved"}


@pytest.mark.parametrize("latency", [0.0, 0.1, 0.3])
def test_the_state_is_rolled_forward_to_where_the_arm_will_be(rig, spec, latency: float) -> None:
    """The commanded tip that the policy is given is the one in force when its chunk takes over."""
    policy = Straight(rig)
    driver = AsyncChunks(policy, spec, latency, Newest(), StateRollForward(spec))
    trace = MotionTrace(driver, spec)
    commands: list[np.ndarray] = []
    taken: list[tuple[int, np.ndarray]] = []

    def watch(world, now: float) -> None:
        commands.append(rig._kinematics.tip_position(world.joint_targets()))
        taken.append((driver.chunk, commands[-1]))

    rig.run(1000, task_for_seed("reach", 1000), trace, RigConditions(vla_latency=latency), watch)
    checked = 0
    for (before, _), (chunk, command) in pairwise(taken):
        if chunk > max(before, 1):
            np.testing.assert_allclose(policy.states[chunk - 1][15:18], command, atol=1e-3)
            checked += 1
    assert checked >= (1 if latency else 5)


def test_rolling_forward_nothing_changes_nothing(spec, kinematics) -> None:
    home = np.array(spec.home)
    state = proprio(kinematics, home + 0.01, home)
    still = np.zeros((0, 7), np.float32)
    np.testing.assert_allclose(StateRollForward(spec)(state, home, still), state, atol=1e-5)


def test_an_unknown_contestant_lists_the_valid_ones(rig, linear_model, spec) -> None:
    with pytest.raises(ValueError, match="unknown contestant 'best'; valid: sync, newest, .*ours_no_goal"):
        contestant("best", Straight(rig), linear_model, spec, 0.1)


class Chunked:
    """Two plans of one action each, of chunks 1 and 2."""

    def start(self, task) -> None:
        self.chunk = 0

    def on_observation(self, observation: Observation, now: float) -> None: ...

    def on_applied(self, applied) -> None: ...

    def on_tip(self, tip, at: float) -> None: ...

    def tick(self, now: float) -> Plan | None:
        self.chunk += 1
        return Plan(now, 10 * self.chunk, "mpc", now, DT, np.zeros((1, 7), np.float32))


def test_seams_and_jerk_are_those_of_the_motion(spec) -> None:
    trace = MotionTrace(Chunked(), spec)
    trace.start(task_for_seed("reach", 1000))
    trace.tick(0.0), trace.tick(DT)
    # Chunk 1 twice, a hold, chunk 2: one seam, from the hold's standstill to 0.5 of a scale per tick.
    for tick, (sequence, speed) in enumerate([(10, 0.2), (10, 0.4), (-1, 0.0), (20, 0.5)]):
        action = np.zeros(7, np.float32)
        action[0] = speed
        trace.on_applied(AppliedAction(tick * DT, sequence, "mpc", action, ("j",), np.zeros(1)))
        trace.on_tip(np.array([0.0, 0.0, (tick * DT) ** 3]), tick * DT)
    assert trace.seam_jumps() == pytest.approx((0.5 * spec.translation_scale / DT,))
    assert trace.smooth_change() == pytest.approx(0.2 * spec.translation_scale / DT)
    assert trace.jerk() == pytest.approx(6.0)


def test_cells_are_what_their_conditions_say() -> None:
    settings = replace(SETTINGS, tasks=("moving", "drift"), delays=(0.04,), jitters=(0.05,), drops=(0.1,))
    cells = {f"{cell.task}.{cell.contestant}.{cell.label}": cell for cell in settings.cells(0.0123)}
    # 2 tasks x 2 latencies x 2, three observation conditions x 2, and the own latency but for drift.
    assert len(cells) == 8 + 6 + 2
    assert cells["moving.ours.300ms"].conditions() == RigConditions(vla_latency=0.3, target_speed=0.03)
    assert cells["drift.sync.0ms"].conditions() == RigConditions(vla_latency=0.0, drift_speed=0.075)
    assert cells["reach.ours.obs_40ms"].conditions() == RigConditions(observation_delay=0.04)
    assert cells["reach.ours.jitter_50ms"].conditions() == RigConditions(observation_jitter=0.05)
    assert cells["reach.ours.drop_10pct"].conditions() == RigConditions(drop_ratio=0.1)
    assert cells["moving.sync.own"].conditions().vla_latency == 0.0123


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"tasks": ("pour",)}, "unknown tasks pour; valid: reach, push, moving, drift"),
        ({"contestants": ("ours", "best")}, "unknown contestants best; valid: sync, newest"),
        ({"observation_tasks": ("",)}, "valid: reach, push"),
        ({"latencies": (-0.1,)}, "latencies: -0.1 is not between 0 and 10"),
        ({"latencies": (math.nan,)}, "latencies: nan"),
        ({"drops": (1.0,)}, "drops: 1 is not between 0 and 0.95"),
    ],
)
def test_bad_settings_are_refused_by_name(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **fields)


def test_values_are_a_list_in_the_given_unit_or_none() -> None:
    assert parse_values("latencies", "0, 100,300,100", 1e-3) == (0.0, 0.1, 0.3)
    assert parse_values("delays", "none", 1e-3) == ()
    for text in ("", "a", "1;2", "1,,2"):
        with pytest.raises(ValueError, match="drops must be a comma list of numbers, or none"):
            parse_values("drops", text, 1e-2)


@pytest.mark.slow
def test_a_real_run_of_both_loops_and_the_policy_alone(tmp_path) -> None:
    """Shipped models, two seeds: ours is the faster one under latency, and everything has its figure."""
    from wm_vla_ros.baselines.delay_bench import run

    told, shares = [], []
    results, calibration = run(
        SETTINGS, 1, lambda episodes, seconds: told.append((episodes, seconds)), shares.append
    )
    found = {figure.name: figure for figure in figures(results)}
    assert told[0][0] == 12
    assert told[0][1] > 0.0
    assert shares[-1] == 1.0
    assert 0.0 < calibration.policy_latency < 2.0
    assert found["delay.success.reach.ours.300ms"].value == 1.0
    assert found["delay.time.reach.ours.300ms"].value < found["delay.time.reach.sync.300ms"].value
    assert found["delay.time_ratio_async_sync"].n == 2
