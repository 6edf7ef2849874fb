"""Policies of known faults: what an evaluation needs when it asks for policies of different quality.

A name is POLICY or POLICY@FAULT=SIZE, POLICY as for `vla.open_policy`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.types import FloatArray

if TYPE_CHECKING:
    from wm_vla_ros.rig.controllers import Policy
    from wm_vla_ros.robots.spec import RobotSpec

# PolicyFault -> (largest size, what it does).
FAULTS = {
    "gain": (2.0, "motion times SIZE"),
    "bias": (5.0, "SIZE mm per tick to the left, always"),
    "noise": (20.0, "SIZE mm per tick in a direction that every inference draws anew"),
    "deaf": (1.0, "that share of inference is about another instruction"),
}


@dataclass(frozen=True, slots=True)
class PolicyFault:
    """kind: of FAULTS. Raises ValueError for an unknown kind, or a size out of range."""

    kind: str
    size: float

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"unknown fault {self.kind!r} of a policy; valid: {', '.join(FAULTS)}")
        most = FAULTS[self.kind][0]
        if not 0.0 <= self.size <= most:
            raise ValueError(f"fault {self.kind}: size must be between 0 and {most:g}, got {self.size:g}")


def parse(name: str) -> tuple[str, PolicyFault | None]:
    """The policy's own name, and its fault. Raises ValueError for a fault that cannot be."""
    own, at, fault = name.rpartition("@")
    if not at:
        return name, None
    kind, equals, size = fault.partition("=")
    try:
        number = float(size)
    except ValueError:
        number = math.nan
    if not own or not equals or math.isnan(number):
        raise ValueError(f"a policy with a fault is POLICY@FAULT=SIZE, got {name!r}; faults: {_listed()}")
    return own, PolicyFault(kind, number)


class FaultyPolicy:
    """`policy` with a fault. What is drawn depends on the observation alone: same observation, same chunk.

    instructions: those that a deaf policy mistakes the given one for. spec: gives the scale of actions.
    """

    def __init__(
        self, policy: Policy, fault: PolicyFault, spec: RobotSpec, instructions: tuple[str, ...] = ()
    ) -> None:
        if fault.kind == "deaf" and len(instructions) < 2:
            raise ValueError(f"a deaf policy needs two instructions or more, it knows {list(instructions)}")
        self._policy, self._fault, self._instructions = policy, fault, instructions
        self._tick = fault.size * 1e-3 / spec.translation_scale
        self.chunk_size, self.n_action_steps, self.dt = policy.chunk_size, policy.n_action_steps, policy.dt

    def infer(
        self, images: Mapping[str, NDArray[np.uint8]], state: NDArray[np.float32], instruction: str
    ) -> FloatArray:
        """The faulty chunk (chunk_size, 7); raises what the policy's own `infer` raises."""
        kind, size = self._fault.kind, self._fault.size
        rng = np.random.default_rng(np.frombuffer(np.asarray(state, np.float32).tobytes(), np.uint32))
        if kind == "deaf" and rng.random() < size:
            others = [other for other in self._instructions if other != instruction]
            instruction = others[int(rng.integers(len(others)))]
        chunk = np.array(self._policy.infer(dict(images), state, instruction))
        if kind == "gain":
            chunk[:, :3] *= size
        elif kind == "bias":
            chunk[:, 1] += self._tick
        elif kind == "noise":
            angle = rng.uniform(0.0, 2.0 * np.pi)
            chunk[:, :2] += self._tick * np.array([np.cos(angle), np.sin(angle)])
        return np.clip(chunk, -1.0, 1.0)


def load(name: str, spec: RobotSpec) -> tuple[Policy, tuple[str, ...]]:
    """The policy called `name` and the cameras that it looks at. Raises whatever loading it raises."""
    from wm_vla_ros.vla.open_policy import open_policy

    own, fault = parse(name)
    policy = open_policy(own, robot=spec)
    if fault is None:
        return policy, policy.cameras
    return FaultyPolicy(policy, fault, spec, policy.instructions), policy.cameras


def _listed() -> str:
    return "; ".join(f"{kind} (up to {most:g}): {what}" for kind, (most, what) in FAULTS.items())
