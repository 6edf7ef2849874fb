"""How far a dream can be trusted: open-loop predictions on episodes that no training saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from wm_vla_ros.lab.episodes import Episodes, Floats
from wm_vla_ros.report import Figure
from wm_vla_ros.world_models.rssm_core import Rssm

RATIOS = (1, 5, 10, 20, 50)
# Steps of looking before the first dream, the longest dream, and steps from one dream's start to the next.
CONTEXT, LONGEST, _EVERY = 10, 100, 10
# A dream is lost when its squared error is more than this share of the variance of what is predicted.
LOST = 0.5


@dataclass(frozen=True, slots=True)
class Judged:
    """W dreams from the prior's mode along true actions, and reconstructions of whole episodes.

    Squared errors are summed over an observation, each entry in units of its own standard deviation over all
    episodes, and divided by the number of entries: 1 is what always guessing the mean would get.

    truth, dreamed: (W, LONGEST, 3) observations after each action. error, persistence: (LONGEST,) means over
    dreams. reconstructed: (N, T + 1, 3). spread: (3,) the standard deviations.
    """

    truth: Floats
    dreamed: Floats
    error: Floats
    persistence: Floats
    reconstructed: Floats
    reconstruction_error: float
    spread: Floats

    @property
    def horizon(self) -> int:
        """Steps for which dreaming is better than persistence and not lost."""
        bad = (self.error >= self.persistence) | (self.error >= LOST)
        return int(np.argmax(bad)) if bad.any() else len(bad)

    @property
    def lost(self) -> NDArray[np.int64]:
        """(W,) steps until each dream's own error is too large: after how many it diverges."""
        bad = _squared(self.dreamed, self.truth, self.spread).mean(-1) >= LOST
        return np.where(bad.any(1), bad.argmax(1), bad.shape[1])

    def figures(self, name: str) -> tuple[Figure, ...]:
        """reconstruction_error, dream_ratio_{1,5,...} (squared error over persistence's), dream_horizon."""
        ratios = (
            Figure(
                f"{name}.dream_ratio_{steps}",
                float(self.error[steps - 1] / self.persistence[steps - 1]),
                "",
                len(self.truth),
            )
            for steps in RATIOS
        )
        return (
            Figure(f"{name}.reconstruction_error", self.reconstruction_error, "", len(self.reconstructed)),
            *ratios,
            Figure(f"{name}.dream_horizon", self.horizon, "steps", len(self.truth)),
        )


@torch.no_grad()
def judge(model: Rssm, episodes: Episodes) -> Judged:
    """Judge `model` on whole episodes that it was not trained on."""
    observations = torch.from_numpy(episodes.observations)
    actions = torch.from_numpy(episodes.actions)
    seen = model.observe(observations, actions, sample=False).states
    reconstructed = model.decode(seen).numpy()
    starts = range(CONTEXT, episodes.actions.shape[1] - LONGEST + 1, _EVERY)
    begin = seen.map(lambda part: torch.cat([part[:, start] for start in starts]))
    ahead = torch.cat([actions[:, start : start + LONGEST] for start in starts])
    dreamed = model.decode(model.dream(begin, ahead, sample=False)).numpy()
    still = np.concatenate([episodes.observations[:, start] for start in starts])
    truth = np.concatenate([episodes.observations[:, start + 1 : start + 1 + LONGEST] for start in starts])
    spread = episodes.observations.std((0, 1))
    return Judged(
        truth,
        dreamed,
        _error(dreamed, truth, spread),
        _error(still[:, None], truth, spread),
        reconstructed,
        float(_squared(reconstructed, episodes.observations, spread).mean()),
        spread,
    )


def _error(guess: Floats, truth: Floats, spread: Floats) -> Floats:
    """(LONGEST,) mean squared error per step ahead, in units of the spread."""
    return _squared(guess, truth, spread).mean((0, 2))


def _squared(guess: Floats, truth: Floats, spread: Floats) -> Floats:
    return ((guess - truth) / spread) ** 2
