"""The planners that ours is compared with, at the settings that they are published with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.bench.plan.random_networks import ACTION, LATENT, TDMPC2_LATENT, TDMPC2_Q
from wm_vla_ros.planning.samplers import Sampler, SamplerConfig
from wm_vla_ros.types import FloatArray

TEXTBOOK = {"samples": 256, "horizon": 10, "iterations": 5}
TDMPC2 = {"samples": 512, "horizon": 3, "iterations": 6}
_POLICY_TRAJECTORIES = 24
_ELITES = 64
_TEMPERATURE = 0.5
_STD = (0.05, 2.0)


class Tdmpc2Sampler(Sampler):
    """TD-MPC2's planner (Hansen et al., ICLR 2024, sec. 3.2 and table 8), warm-started by its own mean."""

    def __init__(self, config: SamplerConfig, rng: np.random.Generator) -> None:
        super().__init__(config, rng)
        self._mean = np.zeros((config.horizon, len(config.sigma)), np.float32)

    def _begin(self, given: FloatArray, shift: int) -> None:
        rows = np.minimum(np.arange(shift, shift + len(self._mean)), len(self._mean) - 1)
        self._mean, self._given = self._mean[rows], given
        self._std = np.full(self._mean.shape, _STD[1], np.float32)

    def _draw(self, iteration: int) -> FloatArray:
        shape = (self.config.samples - len(self._given), *self._mean.shape)
        noise = self._rng.standard_normal(shape, dtype=np.float32)
        return np.concatenate([self._given, self._mean + noise * self._std])

    def _learn(self, population: FloatArray, costs: NDArray[np.float64], best: FloatArray) -> None:
        elite = np.argpartition(costs, min(_ELITES, len(costs)) - 1)[:_ELITES]
        score = np.exp(-_TEMPERATURE * (costs[elite] - costs[elite].min()))
        self._score = (score / score.sum()).astype(np.float32)
        self._elites = population[elite]
        self._mean = np.einsum("n,nha->ha", self._score, self._elites)
        variance = np.einsum("n,nha->ha", self._score, (self._elites - self._mean) ** 2)
        self._std = np.clip(np.sqrt(variance), *_STD).astype(np.float32)

    def _answer(self, best: FloatArray) -> FloatArray:
        return self._elites[self._rng.choice(len(self._elites), p=self._score / self._score.sum())]


def textbook_plan(network: Any, *, batched: bool) -> None:
    """One plan of the cross-entropy method in torch: a candidate at a time, or all of them at once."""
    import torch

    samples, horizon, iterations = TEXTBOOK["samples"], TEXTBOOK["horizon"], TEXTBOOK["iterations"]
    start, goal = torch.randn(LATENT), torch.randn(LATENT)
    mean, std = torch.zeros(horizon, ACTION), 0.5 * torch.ones(horizon, ACTION)
    with torch.no_grad():
        for _ in range(iterations):
            actions = (mean + std * torch.randn(samples, horizon, ACTION)).clamp(-1, 1)
            groups = [actions] if batched else list(actions.split(1))
            costs = []
            for group in groups:
                latent, cost = start.expand(len(group), -1), torch.zeros(len(group))
                for step in range(horizon):
                    latent = network(torch.cat([latent, group[:, step]], dim=1))
                    cost = cost + (latent - goal).square().mean(dim=1)
                costs.append(cost)
            elite = actions[torch.cat(costs).topk(samples // 10, largest=False).indices]
            mean, std = elite.mean(dim=0), elite.std(dim=0)


def tdmpc2_plan(networks: dict[str, Any]) -> None:
    """One plan with TD-MPC2's networks at its published setting, batched, in torch."""
    import torch

    samples, horizon, iterations = TDMPC2["samples"], TDMPC2["horizon"], TDMPC2["iterations"]
    bins = torch.linspace(-10, 10, 101)

    def value(logits: Any) -> Any:
        expected = (torch.softmax(logits, dim=-1) * bins).sum(dim=-1)
        return torch.sign(expected) * (torch.exp(expected.abs()) - 1)

    def policy(latent: Any) -> Any:
        mean, log_std = networks["policy"](latent).chunk(2, dim=-1)
        return torch.tanh(mean + torch.randn_like(mean) * torch.exp(log_std.clamp(-10, 2)))

    with torch.no_grad():
        start = torch.softmax(torch.randn(TDMPC2_LATENT // 8, 8), dim=-1).flatten()
        latent = start.expand(_POLICY_TRAJECTORIES, -1)
        prior = []
        for _ in range(horizon):
            prior.append(policy(latent))
            latent = networks["dynamics"](torch.cat([latent, prior[-1]], dim=-1))
        mean, std = torch.zeros(horizon, ACTION), _STD[1] * torch.ones(horizon, ACTION)
        for _ in range(iterations):
            noise = torch.randn(samples - _POLICY_TRAJECTORIES, horizon, ACTION)
            actions = torch.cat([(mean + std * noise).clamp(-1, 1), torch.stack(prior, dim=1)])
            latent, total = start.expand(samples, -1), torch.zeros(samples)
            for step in range(horizon):
                both = torch.cat([latent, actions[:, step]], dim=-1)
                total = total + value(networks["reward"](both))
                latent = networks["dynamics"](both)
            last = torch.cat([latent, policy(latent)], dim=-1)
            pair = torch.randperm(TDMPC2_Q)[:2].tolist()
            total = total + sum(value(networks[f"q{i}"](last)) for i in pair) / 2
            best = total.topk(_ELITES).indices
            score = torch.softmax(_TEMPERATURE * total[best], dim=0)[:, None, None]
            mean = (score * actions[best]).sum(dim=0)
            std = (score * (actions[best] - mean) ** 2).sum(dim=0).sqrt().clamp(*_STD)


def lerobot_tdmpc() -> Any:
    """LeRobot's own TD-MPC planner at its own defaults, with random weights; returns the function to time.

    Raises ImportError or whatever it raises where it does not run.
    """
    import torch
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.tdmpc.configuration_tdmpc import TDMPCConfig
    from lerobot.policies.tdmpc.modeling_tdmpc import TDMPCPolicy

    config = TDMPCConfig(
        input_features={
            "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(18,)),
            "observation.environment_state": PolicyFeature(type=FeatureType.ENV, shape=(15,)),
        },
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(ACTION,))},
        device="cpu",
    )
    policy = TDMPCPolicy(config).eval()
    policy.reset()
    latent = torch.randn(1, config.latent_dim)

    def plan() -> None:
        with torch.no_grad():
            policy.plan(latent)

    return plan
