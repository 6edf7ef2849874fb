"""Stay near the slow policy's own motion, the less the older it is and the less the belief was right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.objective.term import Rollouts
from wm_vla_ros.types import FloatArray

# Of an action's numbers: translation and rotation add up over ticks, the rest is a position.
_MOTION = 6


@dataclass(frozen=True, slots=True)
class ChunkDeviation:
    """Squared difference of the actions from the chunk's motion in units of `scale`, times its trust.

    Zero without a chunk.
    """

    weight: float
    scale: float = 0.05
    name: str = "chunk"

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) mean over ticks, sum over the action's dimensions."""
        if rollouts.chunk is None:
            return np.zeros(len(rollouts.actions))
        off = (rollouts.actions - rollouts.chunk) / self.scale
        squared = np.einsum("nha,nha->n", off, off).astype(np.float64) / off.shape[1]
        return self.weight * rollouts.chunk_trust * squared


def chunk_trust(age: float, divergence: float, half_life: float, half_divergence: float) -> float:
    """What a chunk still counts, in [0, 1]: half for each half-life (s) of its age (s, from the observation
    that the policy looked at), and half for each `half_divergence` (m) between prior and observation.

    A chunk is a plan without feedback: its error grows with the time that nobody looked, and at once where
    the world does not do what was believed.
    """
    return float(0.5 ** (max(0.0, age) / half_life + divergence / half_divergence))


def chunk_motion(actions: FloatArray, at: NDArray[np.float64]) -> FloatArray:
    """What the chunk (S, A) does while its path is travelled from tick at[i] to at[i + 1]: (len(at) - 1, A).

    at: fractional path ticks, not decreasing; a path at a pace of 1.7 covers 1.7 rows per control tick.
    Translation and rotation are the integral of the rows over that span, nothing once they have run out;
    the gripper is the row's at its start.
    """
    travelled = np.zeros((len(actions) + 1, _MOTION))
    np.cumsum(actions[:, :_MOTION], axis=0, out=travelled[1:], dtype=np.float64)
    rows = np.arange(len(travelled))
    motion = actions[np.minimum(at[:-1].astype(int), len(actions) - 1)].astype(np.float32)
    for axis in range(_MOTION):
        motion[:, axis] = np.diff(np.interp(at, rows, travelled[:, axis]))
    return motion
