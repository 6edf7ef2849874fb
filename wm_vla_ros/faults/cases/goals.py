"""What the slow policy sends is late, wrong, foreign or out of order.

The twin of a run never saw the injection. Where a bad goal must change nothing, both write the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wm_vla_ros.drivers.base import DriverState
from wm_vla_ros.faults.belief_rig import BeliefRig, PolicyRoute
from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.types import FloatArray


def slow_node_killed(rig: BeliefRig) -> None:
    """19 | slow node killed mid-run | goal used until its valid_for, then HOLD; age error <= 1 cycle"""
    _aim_briefly(rig)
    _runs_out(rig, _aim_briefly(rig))


def stale_goal(rig: BeliefRig) -> None:
    """20 | stale latent goal | never planned on past its age; refused when it comes too late"""
    twin = rig.twin()
    for each in (rig, twin):
        last = _aim_briefly(each)
        late = each.route()  # inferred now, delivered when its time is over
        late = late.with_goal(valid_for=float(each.routes.uniform(0.05, 0.2)))
        each.tick(int(np.ceil(late.goal.valid_for / each.spec.dt)) + int(each.routes.integers(1, 10)))
        if each is rig:
            begun = rig.now
            rig.offer(late, refused=True)
            rig.tick()
            rig.expect(rig.flagged(FaultCode.GOAL_REFUSED, begun, "expired"), "was not said to be expired")
        else:
            each.tick()
        _runs_out(each, last)
        if each is rig:  # nor when there is nothing else to follow
            rig.offer(last, refused=True)
            rig.offer(late, refused=True)
        each.starve()
    rig.expect(rig.writes_equal(twin), "a stale goal changed the motion")


def wrong_dimension(rig: BeliefRig) -> None:
    """21 | wrong embedding dimension | refused; earlier goal kept until expiry, then HOLD"""

    def spoil(route: PolicyRoute) -> PolicyRoute:
        rows = route.goal.embeddings
        extra = int(rig.rng.integers(1, 7))
        wrong = np.hstack([rows, rows[:, :extra]]) if rig.rng.random() < 0.5 else rows[:, :-extra]
        return route.with_goal(embeddings=wrong)

    _refused_beside_a_valid_one(rig, spoil, f"need at least one step of {rig.model.latent_dim}")


def bad_numbers(rig: BeliefRig) -> None:
    """22 | goal NaN or of norm 1e6 | refused; earlier goal kept until expiry, then HOLD"""
    nan = rig.rng.random() < 0.5

    def spoil(route: PolicyRoute) -> PolicyRoute:
        return route.with_goal(embeddings=_spoiled(route.goal.embeddings, nan, rig.rng))

    _refused_beside_a_valid_one(rig, spoil, " is " if nan else "norm")


def foreign_encoder(rig: BeliefRig) -> None:
    """23 | encoder_id mismatch | refused at the handshake; never active"""
    if rig.rng.random() < 0.5:  # beside a slow node that is the right one

        def spoil(route: PolicyRoute) -> PolicyRoute:
            return route.with_goal(encoder_id="another")

        _refused_beside_a_valid_one(rig, spoil, "'another'")
        return
    begun = rig.now
    for _ in range(int(rig.rng.integers(3, 8))):
        rig.offer(rig.route().with_goal(encoder_id="another"), refused=True)
        for _ in range(int(rig.rng.integers(1, 15))):
            rig.tick()
            rig.expect(not rig.planning, "planned on another encoder's goal")
            rig.expect(rig.driver.state == DriverState.HOLD, f"is {rig.driver.state}, not holding")
    named = all(rig.flagged(FaultCode.GOAL_REFUSED, begun, repr(name)) for name in ("another", "tip"))
    rig.expect(named, "no fault names both encoders")
    rig.aim()
    rig.tick(3)
    rig.expect(rig.driver.state == DriverState.ACTIVE, "did not follow the right encoder's goal")


def out_of_order(rig: BeliefRig) -> None:
    """24 | goals out of order | newest sequence wins; 0 regressions"""
    twin = rig.twin()
    refused = 0
    for each in (rig, twin):
        newest = 0
        underway: list[tuple[int, PolicyRoute]] = []  # (tick of arrival, what arrives)
        for tick in range(80):
            if tick % 5 == 0:
                valid = float(each.routes.uniform(0.3, 1.0))
                sent = each.route().with_goal(valid_for=valid)
                underway.append((tick + int(each.routes.integers(0, 20)), sent))
                if each.routes.random() < 0.2:  # and once more
                    underway.append((tick + int(each.routes.integers(0, 20)), sent))
            for _, route in [entry for entry in underway if entry[0] == tick]:
                goal = route.goal
                old = goal.sequence <= newest or each.now > goal.stamp + goal.valid_for
                if old and each is rig:
                    rig.offer(route, refused=True)
                    refused += 1
                elif not old:
                    each.offer(route)
                newest = newest if old else goal.sequence
            each.tick()
        each.expect(newest > 5, f"only goals up to {newest} came through")
    rig.expect(refused > 0, "nothing came out of order")
    rig.expect(rig.writes_equal(twin), "an older goal changed the motion")


def _aim_briefly(rig: BeliefRig) -> PolicyRoute:
    """Follow a goal that is valid for 0.6 to 1 s, for a part of that; returns its way."""
    route = rig.route().with_goal(valid_for=float(rig.routes.uniform(0.6, 1.0)))
    rig.offer(route)
    rig.tick(int(rig.routes.integers(5, 12)))
    rig.expect(rig.planning, "no plan before the injection")
    return route


def _runs_out(rig: BeliefRig, last: PolicyRoute) -> None:
    """`last` is planned on until it expires, within a cycle, and then nothing is; the arm holds."""
    expires = last.goal.stamp + last.goal.valid_for
    while rig.now <= expires + 2 * rig.spec.dt:
        rig.tick()
        made = rig.results[-1].stats.stamp
        rig.expect(rig.planning or made > expires, "planned no more before the goal expired")
        rig.expect(not rig.planning or made <= expires, "planned on an expired goal")
    rig.starve()


def _refused_beside_a_valid_one(
    rig: BeliefRig, spoil: Callable[[PolicyRoute], PolicyRoute], words: str
) -> None:
    """Spoiled goals come while the arm follows a valid one, and when that has expired."""
    twin = rig.twin()
    for each in (rig, twin):
        last = _aim_briefly(each)
        begun = each.now
        for _ in range(int(each.routes.integers(1, 8))):
            bad = each.route()
            if each is rig:
                rig.offer(spoil(bad), refused=True)
            each.tick(int(each.routes.integers(1, 3)))
        _runs_out(each, last)
        if each is rig:
            rig.expect(rig.flagged(FaultCode.GOAL_REFUSED, begun, words), f"no fault with {words!r}")
            rig.offer(spoil(rig.route()), refused=True)
        each.starve()
    rig.expect(rig.writes_equal(twin), "a refused goal changed the motion")


def _spoiled(embeddings: FloatArray, nan: bool, rng: np.random.Generator) -> FloatArray:
    wrong = embeddings.copy()
    if nan:
        wrong[rng.integers(len(wrong)), rng.integers(wrong.shape[1])] = rng.choice([np.nan, np.inf, -np.inf])
        return wrong
    row = wrong[rng.integers(len(wrong))]
    row *= 1e6 / np.linalg.norm(row)
    return wrong
