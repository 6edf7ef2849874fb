"""What is left to do after the horizon: the critic's value of each rollout's end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.planning.objective.term import Rollouts
from wm_vla_ros.world_models.actor_critic import ActorCritic


@dataclass(frozen=True, slots=True)
class Value:
    """Minus the value (`ActorCritic.value`) of each rollout's last latent for the goal's, in `scale`.

    A planner that looks ten ticks ahead sees no further than they go; the value is what a policy that learned
    in imagination got from there on (TD-MPC: Hansen, Wang, Su, ICML 2022, equation 3). A critic errs around
    0, where nothing is left to do: there it costs nothing.
    """

    weight: float
    actor_critic: ActorCritic
    scale: float = 10.0
    name: str = "value"

    def cost(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """(N,) of the last tick."""
        value = self.actor_critic.value(rollouts.latents[:, -1], rollouts.goal_latent)
        return self.weight * np.maximum(-value.astype(np.float64), 0.0) / self.scale
