"""The map between 7-D actions and joints: what goes in comes out, and limits hold whatever goes in."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_vla_ros.robots.action_map import ActionMap, Unreachable, rotation_vector

# What demonstrations move by, metres per tick.
DEMONSTRATED = 0.0035
START = st.integers(0, 17)
DIRECTION = st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3).map(np.array)
ACTION = st.tuples(*[st.floats(-1.0, 1.0)] * 6, st.floats(0.0, 1.0)).map(np.array)


def move(xyz, turn=(0.0, 0.0, 0.0), gripper: float = 0.0) -> np.ndarray:
    return np.array([*xyz, *turn, gripper])


def drive(action_map: ActionMap, action: np.ndarray) -> np.ndarray:
    """One tick of an arm that follows at once; stands still where no motion is left. Returns the target."""
    try:
        target = action_map.step(action, action_map.commanded)
    except Unreachable:
        target = action_map.commanded
    action_map.commit(target)
    return target


@pytest.mark.parametrize("seed", range(4))
def test_at_the_workspaces_edge_the_elbow_does_not_fold_over(spec, action_map, seed: int) -> None:
    """It passed the stretched pose and pushed on, elbow down at its limit, where no motion was left."""
    rng = np.random.default_rng(seed)
    elbow = spec.joint_names.index("elbow_flex")
    low, _ = spec.ik_limits["elbow_flex"]
    stretched = False
    for _ in range(40):
        # Outwards and down to the table, about the edge, in some direction, and on.
        motion = rng.uniform((-0.05, -0.3, -0.45), (0.55, 0.3, 0.15))
        for _ in range(8):
            angle = drive(action_map, move(motion))[elbow]
            assert angle >= low - 1e-6
            stretched |= angle < low + 0.1
    assert stretched
    before = action_map.tip_position(action_map.commanded)
    for _ in range(20):
        drive(action_map, move([-0.3, 0.0, 0.1]))
    assert np.linalg.norm(action_map.tip_position(action_map.commanded) - before) > 0.05


@pytest.mark.parametrize("aside", [0.0, 0.1, -0.1])
def test_a_pitch_that_was_given_up_at_the_edge_is_made_up_for_slowly(spec, action_map, aside: float) -> None:
    """Told to stay, elbow and wrist swung through at once: motion that no action asked for."""
    action_map.reset(spec.home)
    for _ in range(21):
        drive(action_map, move((0.0, 0.0, -0.25)))
    for _ in range(70):
        stretched = drive(action_map, move((0.12, aside, 0.0)))
    assert stretched[spec.joint_names.index("elbow_flex")] == pytest.approx(spec.ik_limits["elbow_flex"][0])
    before = stretched
    for _ in range(30):
        target = drive(action_map, move((0.0, 0.0, 0.0)))
        assert np.abs(target - before).max() < 0.01  # rad, half a radian per second
        before = target
    assert np.abs(before - stretched).max() > 0.02  # but it is made up for


def test_an_arm_that_begins_beyond_the_edge_may_come_back(spec, action_map) -> None:
    elbow = spec.joint_names.index("elbow_flex")
    low, _ = spec.ik_limits["elbow_flex"]
    start = np.array([0.0, 1.2, low - 0.2, 1.3, 0.0, 0.0])
    action_map.reset(start)
    angles = [start[elbow]]
    for _ in range(40):
        target = action_map.step(move([-0.1, 0.0, 0.15]), action_map.commanded)  # Unreachable would fail
        action_map.commit(target)
        angles.append(target[elbow])
    assert min(angles) >= start[elbow] - 1e-6


@settings(max_examples=60)
@given(start=START, steps=st.lists(DIRECTION, min_size=1, max_size=6))
def test_what_is_asked_for_is_what_was_done(spec, action_map, starts, start: int, steps) -> None:
    """Away from limits, at demonstrated speeds, translation comes back to a tenth of a millimetre."""
    action_map.reset(starts[start])
    for step in steps:
        asked = move(step * DEMONSTRATED / np.sqrt(3) / spec.translation_scale)
        done = action_map.commit(action_map.step(asked, action_map.commanded))
        assert np.linalg.norm((done - asked)[:3]) * spec.translation_scale < 1e-4


@settings(max_examples=30)
@given(start=START, turn=st.floats(-0.05, 0.05), axis=st.sampled_from(["roll", "pitch"]))
def test_turns_that_the_arm_can_make_come_back(
    spec, kinematics, action_map, starts, start: int, turn: float, axis: str
) -> None:
    """Roll about the tool and its pitch are the two rotations that five joints keep."""
    action_map.reset(starts[start])
    rotation, _ = kinematics.tip_pose(starts[start])
    asked = move((0.0, 0.0, 0.0), rotation[:, 0 if axis == "roll" else 1] * turn)
    done = action_map.commit(action_map.step(asked, action_map.commanded))
    np.testing.assert_allclose((rotation.T @ (done - asked)[3:6])[:2], 0.0, atol=1e-2)
    assert np.linalg.norm(done[:3]) * spec.translation_scale < 2e-4


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_turns_add_up_and_stay(kinematics, action_map, starts, axis: int, sign: float) -> None:
    """Each tick's turn was once taken back by the next: the orientation in command was never moved on."""
    action_map.reset(starts[8])
    rotation, position = kinematics.tip_pose(starts[8])
    turn = sign * rotation[:, axis] * 0.1
    for _ in range(8):
        done = action_map.commit(action_map.step(move((0.0, 0.0, 0.0), turn), action_map.commanded))
        np.testing.assert_allclose(done[3:6], turn, atol=5e-3)
    for _ in range(5):
        drive(action_map, np.zeros(7))
    turned, moved = kinematics.tip_pose(action_map.commanded)
    expected = np.zeros(3)
    expected[axis] = sign * 8 * 0.1 * action_map.spec.rotation_scale
    np.testing.assert_allclose(rotation_vector(rotation.T @ turned), expected, atol=5e-3)
    np.testing.assert_allclose(moved, position, atol=1e-3)


def test_a_turn_against_a_limit_does_not_wind_up(spec, kinematics, action_map, starts) -> None:
    """10 rad asked for beyond the last joint's end: the way back begins within the leash of 0.35 rad."""
    action_map.reset(starts[8])
    rotation, _ = kinematics.tip_pose(starts[8])
    for _ in range(260):
        drive(action_map, move((0.0, 0.0, 0.0), rotation[:, 0] * 0.25))
    stopped = action_map.commanded[4]
    assert stopped == pytest.approx(spec.upper[4] - spec.limit_margin, abs=1e-3)
    for _ in range(12):
        drive(action_map, move((0.0, 0.0, 0.0), -rotation[:, 0] * 0.25))
    assert action_map.commanded[4] < stopped - 0.05


def test_of_a_turn_that_the_gate_cut_only_the_part_counts(kinematics, action_map, starts) -> None:
    action_map.reset(starts[8])
    rotation, _ = kinematics.tip_pose(starts[8])
    proposed = action_map.step(move((0.0, 0.0, 0.0), rotation[:, 0] * 0.2), starts[8])
    half = starts[8] + 0.5 * (proposed - starts[8])
    assert (rotation.T @ action_map.commit(half)[3:6])[0] == pytest.approx(0.1, abs=2e-3)
    after = action_map.step(np.zeros(7), half)
    np.testing.assert_allclose(after, half, atol=1e-4)


def test_a_turn_that_the_arm_gives_up_is_not_kept_for_later(kinematics, action_map, starts) -> None:
    """2 rad of sideways tilt asked for in vain would mix roll into the next change of pitch."""
    action_map.reset(starts[8])
    rotation, _ = kinematics.tip_pose(starts[8])
    for _ in range(20):
        drive(action_map, move((0.0, 0.0, 0.0), rotation[:, 2] * 0.5))
    np.testing.assert_allclose(action_map.commanded, starts[8], atol=1e-5)
    asked = move((0.0, 0.0, 0.0), rotation[:, 1] * 0.1)
    done = action_map.commit(action_map.step(asked, action_map.commanded))
    np.testing.assert_allclose(rotation.T @ done[3:6], [0.0, 0.1, 0.0], atol=2e-3)


@settings(max_examples=40)
@given(
    start=START,
    actions=st.lists(st.tuples(ACTION, st.integers(1, 12)), min_size=1, max_size=4),
)
def test_limits_hold_for_any_stream_of_actions(spec, action_map, starts, start: int, actions) -> None:
    """Joint limits less the margin, the velocity limit, and the fingers above the table's clearance."""
    action_map.reset(starts[start])
    before = starts[start]
    for action, ticks in actions:
        for _ in range(ticks):
            target = drive(action_map, action)
            assert np.all(target >= spec.lower + spec.limit_margin - 1e-9)
            assert np.all(target <= spec.upper - spec.limit_margin + 1e-9)
            assert np.all(np.abs(target - before) <= spec.velocity_limit * spec.dt + 1e-9)
            assert abs(target[-1] - before[-1]) <= spec.gripper_speed * spec.dt + 1e-9
            assert lowest_point(action_map) >= spec.table_height + spec.table_clearance - 6e-4
            before = target


def lowest_point(action_map: ActionMap) -> float:
    """Metres above the table of the lowest part that collides, by MuJoCo's own distance."""
    kinematics = action_map._kinematics
    kinematics.tip_pose(action_map.commanded)
    model, data, table = kinematics.model, kinematics._data, kinematics.model.geom("table").id
    moving = [i for i in range(model.ngeom) if model.geom_contype[i] and model.geom_bodyid[i] > 1]
    return min(mujoco.mj_geomDistance(model, data, table, i, 1.0, None) for i in moving)


@pytest.mark.parametrize("speed", [0.15, 0.5, 1.0])
@pytest.mark.parametrize("slide", [(0.0, 0.0), (0.08, 0.0), (0.0, -0.08)])
def test_pressing_on_the_table_neither_goes_through_nor_sticks(spec, action_map, speed: float, slide) -> None:
    """The linear collision limit alone let the tip creep 2 mm into the table while it slid."""
    action_map.reset(spec.home)
    for _ in range(40):
        drive(action_map, move((0.0, 0.0, -speed)))
    before = action_map.tip_position(action_map.commanded)
    for _ in range(30):
        drive(action_map, move((*slide, -speed)))
        assert lowest_point(action_map) >= spec.table_height + spec.table_clearance - 6e-4
    moved = action_map.tip_position(action_map.commanded) - before
    np.testing.assert_allclose(moved[:2], np.array(slide) * spec.translation_scale * 30, atol=2e-3)
    drive(action_map, move((0.0, 0.0, 0.1)))
    assert action_map.tip_position(action_map.commanded)[2] > before[2] + moved[2] + 0.0015


@settings(max_examples=30)
@given(start=START, direction=DIRECTION.filter(lambda d: np.linalg.norm(d) > 0.3), size=st.floats(0.1, 1.0))
def test_the_command_leads_a_stuck_arm_by_the_leash_at_most(
    spec, kinematics, action_map, starts, start: int, direction, size: float
) -> None:
    action_map.reset(starts[start])
    stuck = starts[start]
    direction = direction / np.linalg.norm(direction) * size
    for _ in range(int(2 * spec.leash / (spec.translation_scale * size)) + 5):
        try:
            action_map.commit(action_map.step(move(direction), stuck))
        except Unreachable:
            break
        lead = kinematics.tip_position(action_map.commanded) - kinematics.tip_position(stuck)
        assert np.linalg.norm(lead) <= spec.leash + 1e-3


def test_the_leash_is_used_to_its_end(spec, kinematics, action_map, starts) -> None:
    action_map.reset(starts[9])
    for _ in range(60):
        action_map.commit(action_map.step(move((0.0, 0.0, 0.2)), starts[9]))
    lead = kinematics.tip_position(action_map.commanded) - kinematics.tip_position(starts[9])
    assert np.linalg.norm(lead) == pytest.approx(spec.leash, abs=1e-3)


def pitch(action_map: ActionMap) -> float:
    """Degrees between the tool and straight down."""
    rotation, _ = action_map._kinematics.tip_pose(action_map.commanded)
    return float(np.degrees(np.arccos(-rotation[2, 0])))


@settings(max_examples=12)
@given(seed=st.integers(0, 1000))
def test_the_tool_keeps_its_pitch_over_a_random_walk(spec, action_map, seed: int) -> None:
    """Five joints give one rotation up; pitch, which decides what touches a cube, is not the one."""
    action_map.reset(spec.home)
    rng = np.random.default_rng(seed)
    velocity = np.zeros(3)
    for _ in range(120):
        away = action_map.tip_position(action_map.commanded) - [0.21, 0.0, 0.045]
        pull = -0.0006 * (np.abs(away) > [0.05, 0.08, 0.02]) * np.sign(away)
        velocity = np.clip(velocity + rng.normal(0.0, 0.0004, 3) + pull, -0.0025, 0.0025)
        drive(action_map, move(velocity / spec.translation_scale))
        assert pitch(action_map) == pytest.approx(25.0, abs=4.0)


def test_nothing_winds_up_over_many_rounds(spec, action_map) -> None:
    """Joints come back with the tip: no error of the given-up rotation is kept for later."""
    action_map.reset(spec.home)
    for _ in range(40):
        drive(action_map, move((0.0, 0.0, -0.1)))
    after = []
    for tick in range(601):
        angle = 2.0 * np.pi * tick / 60
        if tick % 60 == 0:
            after.append(action_map.commanded)
        drive(action_map, move((0.2 * np.cos(angle), 0.2 * np.sin(angle), 0.0)))
    np.testing.assert_allclose(after[1:], np.tile(after[1], (10, 1)), atol=5e-3)


@given(action=ACTION)
@settings(max_examples=30)
def test_a_step_that_is_not_committed_changes_nothing(spec, action_map, starts, action) -> None:
    """The gate may refuse what the map proposes: then the arm was never there."""
    action_map.reset(starts[3])
    proposed = action_map.step(action, starts[3])
    np.testing.assert_array_equal(action_map.commanded, starts[3])
    np.testing.assert_array_equal(action_map.step(action, starts[3]), proposed)


def test_commit_takes_what_was_applied_not_what_was_proposed(spec, action_map, starts) -> None:
    action_map.reset(starts[3])
    proposed = action_map.step(move((0.2, 0.0, 0.0)), starts[3])
    half = starts[3] + 0.5 * (proposed - starts[3])
    done = action_map.commit(half)
    assert done[0] == pytest.approx(0.1, abs=5e-3)
    np.testing.assert_array_equal(action_map.commanded, half)
    assert action_map.commit(half)[:6] == pytest.approx(np.zeros(6), abs=1e-9)


def test_reset_forgets_the_past(spec, action_map, starts) -> None:
    action_map.reset(starts[0])
    for _ in range(5):
        drive(action_map, move((0.5, 0.3, 0.2), (0.3, 0.3, 0.3), 1.0))
    action_map.reset(starts[3])
    again = action_map.step(move((0.1, 0.0, 0.0)), starts[3])
    fresh = ActionMap(spec)
    fresh.reset(starts[3])
    np.testing.assert_allclose(again, fresh.step(move((0.1, 0.0, 0.0)), starts[3]), atol=1e-9)


@pytest.mark.parametrize("opening", [0.0, 0.4, 1.0])
def test_the_gripper_opens_to_its_share_at_its_own_speed(spec, action_map, opening: float) -> None:
    action_map.reset(spec.home)
    wanted = spec.gripper_closed + opening * (spec.gripper_open - spec.gripper_closed)
    positions = []
    for _ in range(80):
        done = action_map.commit(
            action_map.step(move((0.0, 0.0, 0.0), gripper=opening), action_map.commanded)
        )
        positions.append(action_map.commanded[-1])
    assert positions[-1] == pytest.approx(wanted)
    assert done[6] == pytest.approx(opening)
    assert np.max(np.abs(np.diff(positions))) <= spec.gripper_speed * spec.dt + 1e-9


@pytest.mark.parametrize(
    "bad",
    [np.zeros(6), np.zeros(8), np.zeros((1, 7)), np.full(7, np.nan), move((np.inf, 0.0, 0.0)), np.zeros(0)],
)
def test_an_action_is_seven_finite_numbers(spec, action_map, bad) -> None:
    action_map.reset(spec.home)
    with pytest.raises(ValueError, match="7 finite numbers"):
        action_map.step(bad, spec.home)
    np.testing.assert_array_equal(action_map.commanded, spec.home)


def test_a_measurement_that_is_not_finite_is_refused(spec, action_map) -> None:
    """The leash is measured from it: a NaN would have let the command run away from the arm."""
    action_map.reset(spec.home)
    with pytest.raises(ValueError, match="6 finite numbers"):
        action_map.step(move((0.1, 0.0, 0.0)), np.full(6, np.nan))
