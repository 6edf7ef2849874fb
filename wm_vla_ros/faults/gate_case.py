"""Case 78: a million random actions at random times at the gate, every write judged.

The gate itself takes them one by one, as it does in the driver; what it lets through is recorded and judged
in blocks with array arithmetic, which is what keeps the case to about a minute on one core.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.safety.gate import Gate, Refused
from wm_vla_ros.safety.limits import ArmLimits, JointLimits

_BLOCK = 20_000
_TOLERANCE = 1e-9
_BAD_NUMBERS = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, 1e30, -1e30])


def random_targets(rng: np.random.Generator, spec: ArmLimits, count: int) -> NDArray[np.float64]:
    """(count, n) rad: jitters, jumps across the range, limits, far outside, and numbers that are none."""
    n = len(spec.joint_names)
    span = spec.upper - spec.lower
    scale = 10.0 ** rng.uniform(-4, 2, (count, 1))
    targets = spec.lower + span * rng.uniform(0, 1, (count, n)) * np.where(
        rng.random((count, 1)) < 0.5, 1, scale
    )
    edges = np.where(rng.random((count, n)) < 0.5, spec.lower, spec.upper)
    targets = np.where(rng.random((count, 1)) < 0.3, edges, targets)
    bad = rng.random((count, n)) < 0.005
    return np.where(bad, rng.choice(_BAD_NUMBERS, (count, n)), targets)


def gate_under_fire(spec: ArmLimits, count: int, seed: int) -> list[str]:
    """`count` random commands at random times; returns what broke, nothing if all is well."""
    rng = np.random.default_rng(seed)
    limits = JointLimits.of(spec)
    gate = Gate(limits)
    now = 0.0
    gate.sync((limits.lower + limits.upper) / 2, now)
    violations: list[str] = []
    last_step: NDArray = np.zeros(len(limits.names))
    for begin in range(0, count, _BLOCK):
        size = min(_BLOCK, count - begin)
        targets = random_targets(rng, spec, size)
        relative = rng.random(size) < 0.4
        kind = rng.choice(3, size, p=[0.5, 0.45, 0.05])
        # Late ticks up to a second, early ones down to none: the pace keeper in front is not trusted here.
        gaps = np.where(rng.random(size) < 0.8, spec.dt, spec.dt * 10.0 ** rng.uniform(-6, 1.7, size))
        # A command is kept up for a while, or the arm would only ever tremble about the middle.
        keep = np.repeat(rng.integers(0, size, size), rng.integers(1, 60, size))[:size]
        start = gate.position
        written, times, refused = [start], [now], np.zeros(size, dtype=bool)
        for i in range(size):
            now += gaps[i]
            target = targets[keep[i]]
            if relative[keep[i]]:  # as the action map does it: a step from the pose that is commanded
                target = gate.position + (target - start) * 0.02
            try:
                if kind[i] == 2:
                    position = gate.brake(now)
                else:
                    position, _ = (gate.follow if kind[keep[i]] == 0 else gate.approach)(target, now)
            except Refused:
                refused[i] = True
                continue
            written.append(position)
            times.append(now)
        violations += _judge(np.array(written), np.array(times), last_step, spec)
        violations += _misjudged(targets[keep], relative[keep], kind, refused)
        last_step = written[-1] - written[-2] if len(written) > 1 else last_step
    return violations


def _misjudged(
    targets: NDArray, relative: NDArray[np.bool_], kind: NDArray[np.int64], refused: NDArray[np.bool_]
) -> list[str]:
    """What is not a number must be refused, and nothing else may be."""
    must = ~np.isfinite(targets).all(axis=1) & (kind != 2)
    wrong = must != refused
    return [f"I1 {int(wrong.sum())} commands wrongly refused or let through"] if wrong.any() else []


def _judge(written: NDArray, times: NDArray, last_step: NDArray, spec: ArmLimits) -> list[str]:
    """I1 to I3 over consecutive writes (k, n) at times (k,); last_step: (n,) the step before them."""
    violations = []
    if not np.isfinite(written).all():
        violations.append("I1 a target that is not finite was let through")
    excess = np.max(
        np.maximum(spec.lower + spec.limit_margin - written, written - spec.upper + spec.limit_margin)
    )
    if excess > _TOLERANCE:
        violations.append(f"I2 {excess:.3g} rad past a limit")
    steps = np.diff(written, axis=0)
    if np.any(np.abs(steps) > spec.velocity_limit * spec.dt + _TOLERANCE):
        violations.append(
            f"I3 velocity {np.max(np.abs(steps) / spec.dt / spec.velocity_limit):.4f} of the limit"
        )
    before = np.vstack([last_step, steps[:-1]])
    ticks = np.maximum(np.floor(np.diff(times) / spec.dt + 1e-6), 1.0)[:, None]
    change = np.abs(steps - before / ticks) / spec.dt
    if np.any(change > spec.acceleration_limit * spec.dt + _TOLERANCE / spec.dt):
        worst = np.max(change / spec.acceleration_limit / spec.dt)
        violations.append(f"I3 acceleration {worst:.4f} of the limit")
    return violations
