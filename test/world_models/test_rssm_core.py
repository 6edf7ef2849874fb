"""The RSSM: its divergence, its shapes, and that both kinds of latent learn and keep what they saw."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Normal, kl_divergence

from wm_vla_ros.world_models.latent_beliefs import Categorical, Gaussian, balanced_kl
from wm_vla_ros.world_models.rssm_config import LATENTS, RssmConfig
from wm_vla_ros.world_models.rssm_core import Rssm

SMALL = {"deterministic": 32, "hidden": 32, "variables": 8, "classes": 8}


def config(latent: str = "gaussian", **changes: Any) -> RssmConfig:
    return RssmConfig(2, 1, latent, **{**SMALL, **changes})


def raw(latent: str, shift: float = 0.0) -> Tensor:
    """A network's output (4, ...) that differs from another's by `shift`, with gradient."""
    sizes = config(latent)
    width = sizes.stochastic * (2 if latent == "gaussian" else 1)
    drawn = torch.randn(4, width, generator=torch.Generator().manual_seed(1))
    return (drawn + shift * torch.linspace(-1, 1, width)).requires_grad_()


def belief(output: Tensor, latent: str) -> Any:
    return (Gaussian if latent == "gaussian" else Categorical).of(output, config(latent))


class TestDivergence:
    def test_gaussian_is_torchs(self) -> None:
        ours, other = (belief(raw("gaussian", shift), "gaussian") for shift in (0.0, 1.0))
        expected = kl_divergence(Normal(ours.mean, ours.std), Normal(other.mean, other.std)).sum(-1)
        torch.testing.assert_close(ours.kl(other), expected)

    def test_categorical_is_torchs(self) -> None:
        ours, other = (belief(raw("categorical", shift), "categorical") for shift in (0.0, 1.0))
        expected = kl_divergence(TorchCategorical(logits=ours.log), TorchCategorical(logits=other.log)).sum(
            -1
        )
        torch.testing.assert_close(ours.kl(other), expected)

    @pytest.mark.parametrize("latent", LATENTS)
    def test_each_half_moves_its_own_side_in_proportion(self, latent: str) -> None:
        """KL balancing: the prior learns at `dynamics`, the posterior at `representation`."""
        gradients = {}
        for dynamics, representation in ((1.0, 0.1), (2.0, 0.1), (1.0, 0.3)):
            prior, posterior = raw(latent, 1.0), raw(latent)
            sizes = config(latent, free=0.0, dynamics=dynamics, representation=representation)
            terms = balanced_kl(belief(posterior, latent), belief(prior, latent), sizes)
            sum(terms.values()).backward()
            gradients[dynamics, representation] = [one.grad.norm().item() for one in (prior, posterior)]
        prior, posterior = gradients[1.0, 0.1]
        assert prior > 0
        assert posterior > 0
        assert gradients[2.0, 0.1] == pytest.approx([2 * prior, posterior], rel=1e-4)
        assert gradients[1.0, 0.3] == pytest.approx([prior, 3 * posterior], rel=1e-4)

    @pytest.mark.parametrize("latent", LATENTS)
    def test_free_nats_are_not_fought_over(self, latent: str) -> None:
        """Below the free nats the loss is that constant, and nothing is pushed; above, everything is."""
        for shift, pushed in ((0.01, False), (10.0, True)):
            prior, posterior = raw(latent, shift), raw(latent)
            terms = balanced_kl(belief(posterior, latent), belief(prior, latent), config(latent, free=1.0))
            sum(terms.values()).backward()
            assert (terms["dynamics"].item() > 1.0) is pushed
            assert bool(prior.grad.any()) is pushed
            assert bool(posterior.grad.any()) is pushed


class TestSampling:
    @pytest.mark.parametrize("latent", LATENTS)
    def test_gradients_reach_the_network_through_a_sample(self, latent: str) -> None:
        output = raw(latent)
        drawn = belief(output, latent).sample()
        (drawn * torch.linspace(-1, 1, drawn.shape[-1])).sum().backward()
        assert output.grad.abs().sum() > 0

    def test_categorical_samples_are_one_hot_and_as_frequent_as_their_share(self) -> None:
        torch.manual_seed(0)
        share = torch.tensor([0.7, 0.2, 0.1])
        drawn = Categorical(share.log().expand(20_000, 1, 3)).sample()
        assert set(drawn.round(decimals=5).unique().tolist()) == {0.0, 1.0}
        torch.testing.assert_close(drawn.mean(0), share, rtol=0, atol=0.02)

    def test_no_class_is_impossible(self) -> None:
        sizes = config("categorical")
        output = torch.zeros(1, sizes.stochastic)
        output[0, 0] = 1e4
        made = Categorical.of(output, sizes)
        assert made.log.exp().min() == pytest.approx(0.01 / sizes.classes)


class TestShapes:
    @pytest.mark.parametrize("latent", LATENTS)
    def test_a_dream_and_what_is_read_from_it(self, latent: str) -> None:
        model = Rssm(config(latent, continues=True))
        dream = model.dream(model.initial(5), torch.zeros(5, 7, 1))
        assert dream.features.shape == (5, 7, model.config.features)
        assert model.decode(dream).shape == (5, 7, 2)
        assert model.reward(dream).shape == model.going_on(dream).shape == (5, 7)
        assert bool(((model.going_on(dream) > 0) & (model.going_on(dream) < 1)).all())

    def test_without_a_continue_head_nothing_ends(self) -> None:
        model = Rssm(config())
        assert model.going_on(model.initial(3)).tolist() == [1.0] * 3

    def test_following_the_mode_needs_no_luck(self) -> None:
        model = Rssm(config())
        actions = torch.ones(1, 5, 1)
        first, again = (model.dream(model.initial(1), actions, sample=False).features for _ in range(2))
        assert torch.equal(first, again)
        assert not torch.equal(first, model.dream(model.initial(1), actions).features)

    def test_step_by_step_is_the_same_as_a_window(self) -> None:
        """The filter that acts and the one that trains must be one."""
        model = Rssm(config())
        observations, actions = torch.randn(3, 4, 2), torch.randn(3, 3, 1)
        window = model.observe(observations, actions, sample=False).states
        state = model.look(model.initial(3).deterministic, observations[:, 0], sample=False)
        for step in range(3):
            deterministic = model.advance(state, actions[:, step])
            state = model.look(deterministic, observations[:, step + 1], sample=False)
        torch.testing.assert_close(state.features, window.features[:, -1])

    def test_other_eyes_are_passed_in(self) -> None:
        """Nothing in the core is about vectors: here observations are 4x4 images."""
        encoder = nn.Sequential(nn.Flatten(-2), nn.Linear(16, 5))
        sizes = RssmConfig(16, 1, **SMALL)
        decoder = nn.Sequential(nn.Linear(sizes.features, 16), nn.Unflatten(-1, (4, 4)))
        model = Rssm(sizes, encoder, decoder, embedding=5)
        states = model.observe(torch.randn(2, 3, 4, 4), torch.zeros(2, 2, 1)).states
        assert model.decode(states).shape == (2, 3, 4, 4)
        with pytest.raises(ValueError, match="encoder and embedding go together"):
            Rssm(sizes, encoder, decoder)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"latent": "uniform"}, "expected one of gaussian, categorical, got 'uniform'"),
        ({"variables": 0}, "variables: expected at least 1, got 0"),
        ({"observation_std": 0.0}, "observation_std: expected a positive number, got 0.0"),
        ({"free": float("nan")}, "free: expected nats >= 0, got nan"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        RssmConfig(2, 1, **changes)


def toy(batch: int, steps: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A mass that is pushed: position and speed; the reward is minus the distance; it ends beyond 1."""
    draw = torch.Generator().manual_seed(seed)
    observations = [torch.rand(batch, 2, generator=draw) * 2 - 1]
    actions = torch.rand(batch, steps - 1, 1, generator=draw) * 2 - 1
    for step in range(steps - 1):
        position, speed = observations[-1].unbind(-1)
        speed = speed + 0.2 * actions[:, step, 0]
        observations.append(torch.stack([position + 0.2 * speed, speed], -1))
    window = torch.stack(observations, 1)
    place = window[:, 1:, 0].abs()
    return window, actions, -place, (place < 1.0).float()


@pytest.fixture(scope="module", params=LATENTS)
def learned(request: pytest.FixtureRequest) -> Rssm:
    """A model of the toy after a few seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Rssm(config(request.param, continues=True))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for number in range(400):
        loss, _, _ = model.loss(*toy(16, 10, number))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


class TestLearning:
    """Against what needs no learning, on windows that were not trained on."""

    @torch.no_grad()
    def test_a_dream_beats_persistence_and_the_mean(self, learned: Rssm) -> None:
        observations, actions, _, _ = toy(64, 16, 10_000)
        begin = learned.observe(observations[:, :5], actions[:, :4], sample=False).states
        dream = learned.dream(begin.map(lambda part: part[:, -1]), actions[:, 4:14], sample=False)
        truth = observations[:, 5:15]
        error = (learned.decode(dream) - truth).square().mean((0, 2))
        persistence = (observations[:, 4:5] - truth).square().mean((0, 2))
        assert error[-1] < 0.3 * persistence[-1]
        assert error[-1] < 0.3 * truth.var()

    @torch.no_grad()
    def test_the_latent_keeps_what_was_seen(self, learned: Rssm) -> None:
        """A linear probe on z alone: a collapsed latent (posterior = prior) leaves it nothing to read."""
        observations, actions, _, _ = toy(256, 3, 10_001)
        z = learned.observe(observations, actions, sample=False).states.stochastic[:, 0].double()
        truth = observations[:, 0].double()
        x = torch.cat([z, torch.ones(len(z), 1, dtype=z.dtype)], 1)
        fit = torch.linalg.solve(x[:128].T @ x[:128] + 1e-3 * torch.eye(x.shape[1]), x[:128].T @ truth[:128])
        residual = (x[128:] @ fit - truth[128:]).square().sum(0)
        r2 = 1 - residual / (truth[128:] - truth[128:].mean(0)).square().sum(0)
        assert r2.min() > 0.8

    @torch.no_grad()
    def test_reward_and_end_are_read_from_a_dream(self, learned: Rssm) -> None:
        observations, actions, rewards, goes_on = toy(64, 10, 10_002)
        begin = learned.observe(observations[:, :4], actions[:, :3], sample=False).states
        dream = learned.dream(begin.map(lambda part: part[:, -1]), actions[:, 3:], sample=False)
        assert (learned.reward(dream) - rewards[:, 3:]).square().mean() < 0.2 * rewards.var()
        right = ((learned.going_on(dream) > 0.5) == (goes_on[:, 3:] > 0.5)).float().mean()
        assert right > max(0.9, goes_on.mean(), 1 - goes_on.mean())


def test_a_continue_head_asks_for_what_it_learns() -> None:
    with pytest.raises(ValueError, match="goes_on"):
        Rssm(config(continues=True)).loss(*toy(2, 4, 0)[:3])
