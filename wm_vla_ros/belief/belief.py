"""The belief: the latent state now and in the near future, from late observations and known actions.

Act on the prediction, correct when perception lands. An observation belongs to the time at which it was
made: it corrects the belief there, and every later action is replayed through the world model's prior.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.belief.actions import ActionTimeline
from wm_vla_ros.belief.bias import BiasEstimator
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.protocol import WorldModel


@dataclass(frozen=True, slots=True)
class Correction:
    """One observation in the belief.

    observed, posterior: (D,) latents at `stamp`. divergence: metres between prior's and observation's tip.
    """

    stamp: float
    observed: FloatArray
    posterior: FloatArray
    divergence: float


class Belief:
    """Latent belief over time. Times in seconds on one clock; not thread-safe.

    gain: share of the innovation that is believed (1 = trust the encoder alone). window: seconds of
    observations that are kept, which bounds what one late observation can cost: window / dt model steps.
    """

    def __init__(
        self,
        model: WorldModel,
        actions: ActionTimeline,
        bias: BiasEstimator,
        gain: float = 0.7,
        window: float = 0.6,
    ) -> None:
        if not 0.0 < gain <= 1.0:
            raise ValueError(f"belief gain must be in (0, 1], got {gain}")
        self._model = model
        self._actions = actions
        self._bias = bias
        self._gain = gain
        self._window = window
        self._corrections: list[Correction] = []
        self._tip = [i for i, name in enumerate(model.grounding_names) if name.startswith("tip")]

    @property
    def newest(self) -> Correction | None:
        """The correction of the newest observation."""
        return self._corrections[-1] if self._corrections else None

    def reset(self) -> None:
        """Forget every observation."""
        self._corrections.clear()

    def observe(self, latent: NDArray[np.float32], at: float) -> float | None:
        """Correct with the encoding (D,) of an observation made at `at`; later observations are replayed.

        Returns the divergence in metres, or None when the observation is a duplicate or too old to matter.
        Order does not matter: the result is the same for any order of arrival.
        """
        newest = self.newest
        stamps = [correction.stamp for correction in self._corrections]
        if newest is not None and (at <= newest.stamp - self._window or at in stamps):
            return None
        index = bisect_right(stamps, at)
        later = [(c.stamp, c.observed) for c in self._corrections[index:]]
        del self._corrections[index:]
        for stamp, observed in [(at, np.asarray(latent, np.float32)), *later]:
            self._append(observed, stamp)
        divergence = self._corrections[index].divergence
        horizon = self._corrections[-1].stamp - self._window
        while self._corrections[0].stamp < horizon:
            self._corrections.pop(0)
        return divergence

    def predict(self, to: float) -> FloatArray | None:
        """Latent (D,) at time `to`, through every action applied or in flight; None before any observation.

        Raises ValueError when `to` lies before the kept history.
        """
        if not self._corrections:
            return None
        index = bisect_right([c.stamp for c in self._corrections], to + 1e-9)
        if index == 0:
            raise ValueError(f"belief starts at {self._corrections[0].stamp:.3f} s, asked for {to:.3f} s")
        correction = self._corrections[index - 1]
        return self._roll(correction.posterior, correction.stamp, to)

    def _append(self, observed: FloatArray, stamp: float) -> None:
        if not self._corrections:
            self._corrections.append(Correction(stamp, observed, observed, 0.0))
            return
        last = self._corrections[-1]
        prior = self._roll(last.posterior, last.stamp, stamp)
        if prior is None:  # the actions in between are unknown: nothing to weigh the observation against
            self._corrections.append(Correction(stamp, observed, observed, 0.0))
            return
        posterior = prior + self._gain * (observed - prior)
        grounded = self._model.ground(np.stack([prior, observed]))[:, self._tip]
        divergence = float(np.linalg.norm(grounded[0] - grounded[1]))
        self._corrections.append(Correction(stamp, observed, posterior.astype(np.float32), divergence))

    def _roll(self, latent: FloatArray, start: float, end: float) -> FloatArray | None:
        actions = self._actions.between(start, end)
        if actions is None:
            return None
        latent = latent[None]
        if len(actions):
            actions[:, :3] += self._bias.value
        for action in actions:
            latent = self._model.predict(latent, action[None])
        return latent[0]
