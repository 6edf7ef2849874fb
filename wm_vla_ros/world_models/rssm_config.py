"""Sizes of a recurrent state-space model, and the weights of its loss."""

from __future__ import annotations

from dataclasses import dataclass

LATENTS = ("gaussian", "categorical")


@dataclass(frozen=True, slots=True)
class RssmConfig:
    """Sizes and the weights of the loss.

    latent: "gaussian", `variables` numbers (PlaNet), or "categorical", `variables` one-hot vectors of
    `classes` (DreamerV2). observation_std: of the decoder's Gaussian, in symlog units; it decides how much
    detail is worth against the divergence. free: nats. continues: learn when an episode ends.

    Raises ValueError for an unknown latent or a size or weight that is not positive.
    """

    observation_dim: int
    action_dim: int
    latent: str = "gaussian"
    deterministic: int = 128
    variables: int = 32
    classes: int = 32
    hidden: int = 128
    observation_std: float = 0.1
    dynamics: float = 1.0
    representation: float = 0.1
    free: float = 1.0
    continues: bool = False

    def __post_init__(self) -> None:
        if self.latent not in LATENTS:
            raise ValueError(f"latent: expected one of {', '.join(LATENTS)}, got {self.latent!r}")
        for name in ("observation_dim", "action_dim", "deterministic", "variables", "classes", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("observation_std", "dynamics", "representation"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if not self.free >= 0.0:
            raise ValueError(f"free: expected nats >= 0, got {self.free}")

    @property
    def stochastic(self) -> int:
        """Length of z."""
        return self.variables * (self.classes if self.latent == "categorical" else 1)

    @property
    def features(self) -> int:
        """Length of [h, z]."""
        return self.deterministic + self.stochastic
