"""A tick's question to the shipped model, in numpy and in torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest

from wm_vla_ros import world_models
from wm_vla_ros.planning.objective import LatentTracking, Rollouts, Smoothness, TipTracking, Workspace
from wm_vla_ros.planning.samplers.noise import spline_basis

pytest.importorskip("torch")
NONE = np.zeros((0, 0, 0), np.float32)
H, A = 10, 7


@dataclass(frozen=True)
class Tick:
    """Be where `truth` leads; judged by the reference runtime in numpy, all five terms and a drift."""

    model: object
    terms: tuple
    latent: np.ndarray
    bias: np.ndarray
    asked: Rollouts
    truth: np.ndarray

    def judge(self, actions: np.ndarray) -> list[np.ndarray]:
        """(N,) of each term."""
        start = np.repeat(self.latent[None], len(actions), axis=0)
        latents = self.model.rollout(start, actions + self.bias)
        grounded = self.model.ground(latents)
        rollouts = replace(self.asked, actions=actions, latents=latents, grounded=grounded)
        return [term.cost(rollouts) for term in self.terms]

    def cost(self, actions: np.ndarray) -> np.ndarray:
        return np.sum(self.judge(actions), axis=0)

    def slope(self, objective):
        return partial(objective.gradient, latent=self.latent, bias=self.bias, asked=self.asked)


@pytest.fixture(scope="session")
def reference():
    return world_models.load("so101_latent_dynamics")


@pytest.fixture(scope="session")
def torch_runtime():
    return world_models.load("so101_latent_dynamics", runtime="torch")


@pytest.fixture(scope="session")
def make_tick(reference):
    """make_tick(seed): a Tick with a smooth motion for its truth."""
    names = reference.grounding_names
    tip = tuple(names.index(f"tip.{axis}") for axis in "xyz")
    objects = tuple(i for i, name in enumerate(names) if "cube" in name)

    def make(seed: int) -> Tick:
        rng = np.random.default_rng(seed)
        size = reference.manifest.cameras["front"]
        proprio = 0.1 * rng.normal(size=len(reference.manifest.proprio_names)).astype(np.float32)
        latent = reference.encode({"front": rng.integers(0, 256, (*size, 3), np.uint8)}, proprio)
        truth = np.zeros((H, A), np.float32)
        truth[:, :3] = np.clip(spline_basis(H, 4) @ rng.normal(size=(4, 3)) * 0.15, -0.4, 0.4)
        target = reference.rollout(latent[None], truth[None])[0]
        grounded = reference.ground(target)
        bias = np.zeros(A, np.float32)
        bias[:3] = rng.uniform(-0.05, 0.05, 3)
        lowest = float(np.median(grounded[:, tip[2]]))  # so that some ticks are too low
        terms = (
            TipTracking("tip", tip, 1.0),
            TipTracking("objects", objects, 0.02),
            LatentTracking(0.05),
            Smoothness(0.02),
            Workspace(tip[2], 1.0, lowest),
        )
        weight = rng.uniform(0.5, 1.5, reference.latent_dim).astype(np.float32)
        asked = Rollouts(NONE, 0.1 * truth[0], NONE, NONE, target, grounded, weight, target[-1])
        return Tick(reference, terms, latent, bias, asked, truth)

    return make
