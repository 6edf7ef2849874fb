"""The latent_dynamics family: a layer-normalised latent that is predicted, and read in metres with gradient.

Dynamics is one residual MLP per control tick, normalised again, as in TD-MPC (Hansen et al., 2022) and
SPR (Schwarzer et al., 2021): predictions live on the same sphere as encodings, so distances compare.
Grounding keeps the encoder from the collapse to which a consistency loss alone leads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from torch import Tensor
from torch.nn import functional as F

from wm_vla_ros.world_models import modules
from wm_vla_ros.world_models.contact import Contact
from wm_vla_ros.world_models.family import LatentWorldModel
from wm_vla_ros.world_models.modules import ModelConfig


def sphere(latent: Tensor) -> Tensor:
    """(..., D) to zero mean and unit variance over its entries (Ba et al., "Layer Normalization", 2016)."""
    return F.layer_norm(latent, latent.shape[-1:])


class SphereDynamics(modules.Dynamics):
    """A change is added, and the sum brought back to the sphere."""

    def settle(self, latent: Tensor, change: Tensor) -> Tensor:
        return sphere(latent + change)


class Dynamics(SphereDynamics):
    """The same with a part for what touching does: `contact`, None where there is nothing to touch."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._tip, self._objects = list(config.tip), [column for each in config.objects for column in each]
        touches = bool(config.tip and config.objects)
        self.contact = Contact(config.latent_dim, config.action_dim, len(config.objects)) if touches else None

    @property
    def touches(self) -> bool:
        return self.contact is not None

    @classmethod
    def sized(cls, tensors: Mapping[str, Tensor], latent_dim: int, action_dim: int) -> Self:
        dynamics = super().sized(tensors, latent_dim, action_dim)
        if "contact.write" in tensors:
            objects, width = len(tensors["contact.write"]) // 3, len(tensors["contact.hidden.weight"])
            dynamics.contact = Contact(latent_dim, action_dim, objects, width)
        return dynamics

    def look(self, weight: Tensor, bias: Tensor) -> None:
        if self.contact is not None:
            self.contact.look(weight, bias, self._tip, self._objects)

    def change(self, latent: Tensor, action: Tensor, embedded: Tensor) -> Tensor:
        change = super().change(latent, action, embedded)
        return change if self.contact is None else change + self.contact(latent, action)


class LatentDynamics(LatentWorldModel):
    """Nothing but the losses that all families share."""

    family = "latent_dynamics"
    norm = staticmethod(sphere)
    dynamics_type = Dynamics
