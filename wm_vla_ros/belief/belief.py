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
from wm_vla_ros.belief.trust import FixedTrust, Trust
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.protocol import WorldModel

# Observations that are kept at most, whatever a camera sends within the window.
_MOST = 64


@dataclass(frozen=True, slots=True)
class Correction:
    """One observation in the belief.

    observed, posterior: (D,) latents at `stamp`. prior: (D,) what was expected then, None without a past.
    divergence: metres between prior's and observation's tip. trust: how the two were weighed.
    """

    stamp: float
    observed: FloatArray
    posterior: FloatArray
    prior: FloatArray | None
    divergence: float
    trust: Trust | FixedTrust


class Belief:
    """Latent belief over time. Times in seconds on one clock; not thread-safe.

    gain: share of the innovation that is believed (1 = trust the encoder alone); None has it estimated
    (`trust`). window: seconds within which an observation may come late, and across which it is weighed
    against the one before.

    Cost: `observe` replays at most 2 window / dt + 64 steps of the model, a batch of one each, and those only
    for an observation as late as can be; one in time costs the ticks since the one before. `predict` costs
    the ticks from the newest observation. A burst is that much for each of its observations.
    """

    def __init__(
        self,
        model: WorldModel,
        actions: ActionTimeline,
        bias: BiasEstimator,
        gain: float | None = None,
        window: float = 0.6,
    ) -> None:
        if gain is not None and not 0.0 < gain <= 1.0:
            raise ValueError(f"belief gain must be in (0, 1], got {gain}")
        self._model = model
        self._actions = actions
        self._bias = bias
        self._first_trust = Trust() if gain is None else FixedTrust(gain)
        self._window = window
        # The first one is older than anything that may still arrive: its posterior is final, and what a
        # late observation is weighed against does not depend on when it came.
        self._corrections: list[Correction] = []
        self._closed = -np.inf
        self._tip = [i for i, name in enumerate(model.grounding_names) if name.startswith("tip")]

    @property
    def newest(self) -> Correction | None:
        """The correction of the newest observation."""
        return self._corrections[-1] if self._corrections else None

    def reset(self) -> None:
        """Forget every observation, and what was learned about their precision."""
        self._corrections.clear()
        self._closed = -np.inf

    def observe(self, latent: NDArray[np.float32], at: float) -> Correction | None:
        """Correct with the encoding (D,) of an observation made at `at`; later observations are replayed.

        Returns its correction, or None when the observation is a duplicate or older than the window.
        Order does not matter: the result is the same for any order of arrival. Raises ValueError for a
        latent that is not finite.
        """
        observed = np.asarray(latent, np.float32)
        if not np.all(np.isfinite(observed)):
            raise ValueError("the encoding of an observation is not finite")
        stamps = [correction.stamp for correction in self._corrections]
        if at <= self._closed or at in stamps:
            return None
        index = bisect_right(stamps, at)
        later = [(c.stamp, c.observed) for c in self._corrections[index:]]
        del self._corrections[index:]
        for stamp, each in [(at, observed), *later]:
            self._corrections.append(self._correct(each, stamp))
        correction = self._corrections[index]
        self._close(self._corrections[-1].stamp - self._window)
        return correction

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
        rolled = self._roll(correction.posterior, correction.stamp, to)
        return None if rolled is None else rolled[0]

    def _close(self, until: float) -> None:
        """Refuse observations up to `until` from now on; keep one correction from before that."""
        self._closed = max(self._closed, until)
        kept = self._corrections
        while len(kept) > 1 and (kept[1].stamp <= self._closed or len(kept) > _MOST):
            kept.pop(0)
            self._closed = max(self._closed, kept[0].stamp)

    def _correct(self, observed: FloatArray, stamp: float) -> Correction:
        last = self.newest
        rolled = None
        if last is not None and stamp - last.stamp <= self._window:
            rolled = self._roll(last.posterior, last.stamp, stamp)
        if last is None or rolled is None:  # nothing to weigh the observation against
            return Correction(stamp, observed, observed, None, 0.0, self._first_trust)
        prior, ticks = rolled
        innovation = observed - prior
        if not np.all(np.isfinite(innovation)):
            return Correction(stamp, observed, observed, prior, np.inf, self._first_trust)
        trust = last.trust.after(innovation, ticks)
        posterior = (prior + trust.gain * innovation).astype(np.float32)
        grounded = self._model.ground(np.stack([prior, observed]))[:, self._tip]
        divergence = float(np.linalg.norm(grounded[0] - grounded[1]))
        return Correction(stamp, observed, posterior, prior, divergence, trust)

    def _roll(self, latent: FloatArray, start: float, end: float) -> tuple[FloatArray, float] | None:
        """Latent (D,) rolled from `start` to `end`, and the ticks in between; None across unknown actions."""
        span = self._actions.between(start, end)
        if span is None:
            return None
        rolled = latent[None]
        if len(span.actions):
            actions = span.actions.copy()
            actions[:, :3] += self._bias.value
            for action in actions:
                before, rolled = rolled, self._model.predict(rolled, action[None])
            # The model knows whole ticks: of the last one, the share that lies in the span.
            rolled = before + np.float32(span.last) * (rolled - before)
        return rolled[0], span.ticks
