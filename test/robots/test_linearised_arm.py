"""Capsules around the links, and where joints and capsules go under actions: against true kinematics."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_vla_ros.robots.action_map import ActionMap, Unreachable
from wm_vla_ros.robots.capsules import capsule_model
from wm_vla_ros.robots.linearised_arm import Lineariser

H = 10


@pytest.fixture(scope="module")
def lineariser(spec) -> Lineariser:
    return Lineariser(spec)


@pytest.fixture(scope="module")
def model(spec, kinematics):
    return capsule_model(spec, kinematics.model)


ANGLES = st.lists(st.floats(-1.6, 1.6), min_size=6, max_size=6).map(np.array)


@given(q=ANGLES)
def test_jacobians_are_the_derivatives_of_positions(kinematics, q) -> None:
    bodies = np.array([int(kinematics.model.body(name).id) for name in ("wrist", "jaw", "upper_arm")])
    offsets = np.array([[0.03, 0.0, 0.01], [0.07, -0.01, 0.0], [0.0, 0.02, 0.1]])
    _, jacobians = kinematics.points(q, bodies, offsets)
    tip = kinematics.tip_jacobian(q)
    step = 1e-6
    for joint in range(6):
        moved = q + step * (np.arange(6) == joint)
        after, before = (kinematics.points(each, bodies, offsets)[0] for each in (moved, q))
        np.testing.assert_allclose((after - before) / step, jacobians[:, :, joint], atol=1e-5)
        (turned, there), (rotation, here) = kinematics.tip_pose(moved), kinematics.tip_pose(q)
        np.testing.assert_allclose((there - here) / step, tip[:3, joint], atol=1e-5)
        spin = (turned @ rotation.T - np.eye(3)) / step
        np.testing.assert_allclose([spin[2, 1], spin[0, 2], spin[1, 0]], tip[3:, joint], atol=1e-4)


def test_capsules_hold_the_geometry_that_collides(spec, kinematics, model) -> None:
    """Points on the surface of every colliding geom of every link that is to keep clear."""
    arm, rng = kinematics.model, np.random.default_rng(0)
    links = {link for pair in spec.collision_pairs for group in pair for link in group} - {"table"}
    seen = 0
    for geom in range(arm.ngeom):
        body = int(arm.geom_bodyid[geom])
        if arm.body(body).name not in links or not int(arm.geom_contype[geom]):
            continue
        seen += 1
        centre, half = arm.geom_aabb[geom][:3], arm.geom_aabb[geom][3:]
        points = centre + half * rng.uniform(-1, 1, (400, 3))
        if int(arm.geom_type[geom]) == int(mujoco.mjtGeom.mjGEOM_CYLINDER):
            points = points[np.linalg.norm(points[:, :2], axis=1) <= arm.geom_size[geom][0]]
        if int(arm.geom_type[geom]) == int(mujoco.mjtGeom.mjGEOM_SPHERE):
            points = points[np.linalg.norm(points, axis=1) <= arm.geom_size[geom][0]]
        rotation = np.empty(9)
        mujoco.mju_quat2Mat(rotation, arm.geom_quat[geom])
        points = arm.geom_pos[geom] + points @ rotation.reshape(3, 3).T
        outside = np.full(len(points), np.inf)
        for capsule in model.capsules:
            if capsule.body == body:
                way = capsule.ends[1] - capsule.ends[0]
                along = np.clip((points - capsule.ends[0]) @ way / (way @ way), 0.0, 1.0)
                off = np.linalg.norm(points - capsule.ends[0] - along[:, None] * way, axis=1)
                outside = np.minimum(outside, off - capsule.radius)
        assert outside.max() < 1e-9
    assert seen >= 10


def test_links_that_touch_by_design_are_no_pair(spec, kinematics) -> None:
    neighbours = (("upper_arm", "gripper_body"), ("lower_arm", "upper_arm", "wrist"))
    model = capsule_model(replace(spec, collision_pairs=(neighbours,)), kinematics.model)
    names = {
        frozenset(kinematics.model.body(model.capsules[i].body).name for i in pair) for pair in model.pairs
    }
    assert names == {
        frozenset(pair)
        for pair in (("upper_arm", "wrist"), ("gripper_body", "lower_arm"), ("gripper_body", "upper_arm"))
    }
    assert len(model.above_table) == 0


def test_an_unknown_link_is_refused_by_name(spec, kinematics) -> None:
    with pytest.raises(ValueError, match="no link 'elbow'; valid: table, base"):
        capsule_model(replace(spec, collision_pairs=((("elbow",), ("base",)),)), kinematics.model)
    with pytest.raises(ValueError, match="no links that could be kept apart"):
        Lineariser(replace(spec, collision_pairs=((("wrist",), ("lower_arm",)),)))


def test_at_rest_clearance_is_mujocos(spec, kinematics, model, lineariser) -> None:
    """Of the same capsules; folded poses included, where they overlap."""
    arm = mujoco.MjSpec()
    for i, capsule in enumerate(model.capsules):
        body = arm.worldbody.add_body(name=f"c{i}", mocap=True)
        body.add_geom(
            name=f"c{i}", type=mujoco.mjtGeom.mjGEOM_CAPSULE, size=[capsule.radius, 0, 0],
            fromto=[*capsule.ends[0], *capsule.ends[1]],
        )  # fmt: skip
    world = arm.compile()
    data = mujoco.MjData(world)
    rng = np.random.default_rng(1)
    near = 0
    for _ in range(60):
        q = rng.uniform(spec.lower, spec.upper)
        kinematics.tip_pose(q)
        for i, capsule in enumerate(model.capsules):
            data.mocap_pos[i] = kinematics._data.xpos[capsule.body]
            data.mocap_quat[i] = kinematics._data.xquat[capsule.body]
        mujoco.mj_kinematics(world, data)
        expected = min(mujoco.mj_geomDistance(world, data, int(a), int(b), 2.0, None) for a, b in model.pairs)
        for index in model.above_table:
            capsule = model.capsules[index]
            ends = data.xmat[index + 1].reshape(3, 3) @ capsule.ends.T + data.xpos[index + 1][:, None]
            expected = min(expected, ends[2].min() - capsule.radius)
        rest = np.zeros((1, 1, 7), np.float32)
        rest[..., 6] = (q[-1] - spec.gripper_closed) / (spec.gripper_open - spec.gripper_closed)
        found = clearance(lineariser.at(q), rest)[0, 0]
        if expected > 0.0:  # overlapping capsules have a depth, overlapping segments only touch
            assert found == pytest.approx(expected, abs=1e-5)
            near += 1
        else:
            assert found < 1e-5
    assert near > 5


def clearance(arm, actions) -> np.ndarray:
    return arm.clearance(arm.joints(actions))


def driven(spec, action_map: ActionMap, start, actions) -> np.ndarray | None:
    """Joints after `actions`, by the robot's own inverse kinematics; None where a limit is in the way."""
    action_map.reset(start)
    wanted = action_map.tip_position(start) + actions[:, :3].sum(axis=0) * spec.translation_scale
    try:
        for action in actions:
            action_map.commit(action_map.step(action, action_map.commanded))
    except Unreachable:
        return None
    reached = np.linalg.norm(action_map.tip_position(action_map.commanded) - wanted) < 1e-3
    return action_map.commanded if reached else None


@pytest.mark.parametrize(
    "speed, joint_error, end_error, height_error",
    [(0.005, 0.0015, 0.0001, 0.00005), (0.1, 0.03, 0.004, 0.001), (0.2, 0.11, 0.010, 0.002)],
)
def test_over_ten_ticks_joints_and_capsules_are_where_inverse_kinematics_puts_them(
    spec, kinematics, action_map, starts, lineariser, speed, joint_error, end_error, height_error
) -> None:
    """All directions from poses all over the workspace; the bounds hold for nine of ten, as documented."""
    rng = np.random.default_rng(0)
    bodies = np.repeat([capsule.body for capsule in lineariser._model.capsules], 2)
    offsets = np.concatenate([capsule.ends for capsule in lineariser._model.capsules])
    fingers = np.isin(bodies, [int(kinematics.model.body(name).id) for name in ("gripper_body", "jaw")])
    errors = []
    for start in starts:
        for _ in range(5):
            way = rng.normal(size=3)
            actions = np.zeros((H, 7), np.float32)
            actions[:, :3] = way / np.linalg.norm(way) * speed * spec.dt / spec.translation_scale
            joints = driven(spec, action_map, start, actions)
            if joints is None:
                continue
            arm = lineariser.at(start)
            ends = arm.ends(arm.joints(actions[None]))[0, -1].reshape(-1, 3)
            off = ends - kinematics.points(joints, bodies, offsets)[0]
            errors.append(
                (
                    np.abs(arm.joints(actions[None])[0, -1] - joints)[:5].max(),
                    np.linalg.norm(off, axis=1).max(),
                    np.abs(off[fingers, 2]).max(),
                )
            )
    assert len(errors) > 50
    assert np.all(np.quantile(errors, 0.9, axis=0) < [joint_error, end_error, height_error])


def test_actions_on_their_way_count_like_those_to_come(spec, lineariser) -> None:
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.2, 0.2, (3, H, 7)).astype(np.float32)
    actions[:, :, 6] = 0.7
    whole = lineariser.at(spec.home)
    for sent in (1, 4):
        rest = whole.after(actions[0, :sent])
        np.testing.assert_allclose(
            rest.joints(actions[:1, sent:]), whole.joints(actions[:1])[:, sent:], atol=1e-5
        )


def test_the_gripper_approaches_its_opening_at_its_own_speed(spec, lineariser) -> None:
    actions = np.zeros((2, H, 7), np.float32)
    actions[1, :, 6] = 1.0
    joints = lineariser.at(spec.home).joints(actions)
    np.testing.assert_allclose(joints[0, :, -1], spec.home[-1], atol=1e-6)
    np.testing.assert_allclose(
        joints[1, :, -1], spec.gripper_speed * spec.dt * np.arange(1, H + 1), rtol=1e-5
    )


def test_what_the_arm_gives_up_costs_its_joints_nothing(spec, lineariser) -> None:
    """A turn about the axis of weight 0 moves no joint; one about the approach turns the wrist."""
    actions = np.zeros((2, 1, 7), np.float32)
    rotation, _ = lineariser._kinematics.tip_pose(spec.home)
    actions[0, 0, 3:6] = 0.1 * rotation[:, 2]
    actions[1, 0, 3:6] = 0.1 * rotation[:, 0]
    arm = lineariser.at(spec.home)
    moved = np.abs(arm.joints(actions)[:, 0] - arm.joints_now)
    assert moved[0].max() < 1e-5
    assert moved[1, 4] == pytest.approx(0.1 * spec.rotation_scale, rel=0.05)


@pytest.mark.parametrize("bad", [np.zeros(5), [np.nan] * 6])
def test_joints_that_are_none_are_refused(lineariser, bad) -> None:
    with pytest.raises(ValueError, match="6 finite numbers"):
        lineariser.at(bad)
