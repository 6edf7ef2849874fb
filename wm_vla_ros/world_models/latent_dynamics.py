"""The latent_dynamics family: a layer-normalised latent that is predicted, and read in metres with gradient.

Dynamics is one residual MLP per control tick, normalised again, as in TD-MPC (Hansen et al., 2022) and
SPR (Schwarzer et al., 2021): predictions live on the same sphere as encodings, so distances compare.
Grounding keeps the encoder from the collapse to which a consistency loss alone leads.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from wm_vla_ros.world_models import modules
from wm_vla_ros.world_models.family import LatentWorldModel


def sphere(latent: Tensor) -> Tensor:
    """(..., D) to zero mean and unit variance over its entries (Ba et al., "Layer Normalization", 2016)."""
    return F.layer_norm(latent, latent.shape[-1:])


class Dynamics(modules.Dynamics):
    """A change is added, and the sum brought back to the sphere."""

    def settle(self, latent: Tensor, change: Tensor) -> Tensor:
        return sphere(latent + change)


class LatentDynamics(LatentWorldModel):
    """Nothing but the losses that all families share."""

    family = "latent_dynamics"
    norm = staticmethod(sphere)
    dynamics_type = Dynamics
