"""The mdn_rnn family: mixtures against torch's own, temperature, and what M is told of the frames."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal  # noqa: E402

from wm_vla_ros.world_models.family import Window  # noqa: E402
from wm_vla_ros.world_models.mdn_rnn import Dynamics, MdnRnn, MdnRnnOptions, Mixture  # noqa: E402
from wm_vla_ros.world_models.modules import ModelConfig  # noqa: E402

K, Z = 3, 4
SMALL = {"variables": 6, "memory": 10, "components": K, "hidden": 16}
BATCH, TICKS = 5, 8


def mixture(seed: int = 0, batch: int = 7) -> Mixture:
    draw = torch.Generator().manual_seed(seed)
    return Mixture(
        torch.randn(batch, K, generator=draw).log_softmax(-1),
        torch.randn(batch, K, Z, generator=draw),
        torch.rand(batch, K, Z, generator=draw) + 0.1,
    )


def reference(of: Mixture) -> MixtureSameFamily:
    return MixtureSameFamily(Categorical(logits=of.log_weights), Independent(Normal(of.means, of.stds), 1))


class TestMixture:
    @given(seed=st.integers(0, 200))
    def test_likelihood_and_mean_are_torchs(self, seed: int) -> None:
        ours = mixture(seed)
        z = torch.randn(7, Z, generator=torch.Generator().manual_seed(seed + 1))
        torch.testing.assert_close(ours.log_prob(z), reference(ours).log_prob(z), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.mean(), reference(ours).mean)

    @given(seed=st.integers(0, 200))
    def test_variance_of_single_entries_is_torchs(self, seed: int) -> None:
        ours = mixture(seed)
        torch.testing.assert_close(
            ours.variance(torch.eye(Z)), reference(ours).variance, rtol=1e-4, atol=1e-5
        )

    def test_variance_of_a_reading_is_that_of_readings_of_samples(self) -> None:
        """Entries of one vector vary together, through the component that it is drawn from."""
        torch.manual_seed(0)
        one, readout = mixture(batch=1), torch.randn(Z, 2)
        many = Mixture(*(part.expand(60_000, *part.shape[1:]) for part in one))
        torch.testing.assert_close(
            one.variance(readout)[0], (many.sample() @ readout).var(0), rtol=0.03, atol=0
        )

    def test_mode_is_the_likeliest_components(self) -> None:
        ours = mixture()
        best = ours.log_weights.argmax(1)
        assert torch.equal(ours.mode(), ours.means[torch.arange(7), best])

    def test_components_are_drawn_as_often_as_they_weigh(self) -> None:
        torch.manual_seed(0)
        share = torch.tensor([0.6, 0.3, 0.1])
        far = torch.tensor([[0.0], [10.0], [20.0]]).expand(20_000, K, 1)
        drawn = Mixture(share.log().expand(20_000, K), far, torch.full_like(far, 0.1)).sample()[:, 0]
        found = torch.stack([((drawn - 10.0 * k).abs() < 5.0).float().mean() for k in range(K)])
        torch.testing.assert_close(found, share, rtol=0, atol=0.02)

    @given(temperature=st.floats(0.05, 5.0))
    def test_temperature_is_the_papers(self, temperature: float) -> None:
        """pi to the power of 1 / tau, made to sum to 1 again; sigma times the root of tau."""
        ours = mixture()
        cooled = ours.cooled(temperature)
        share = ours.log_weights.double().exp() ** (1.0 / temperature)
        share = share / share.sum(-1, keepdim=True)
        torch.testing.assert_close(cooled.log_weights.double().exp(), share, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(cooled.stds.square(), temperature * ours.stds.square())
        assert torch.equal(cooled.means, ours.means)

    def test_at_one_it_is_the_mixture_and_colder_is_surer(self) -> None:
        ours = mixture()
        torch.testing.assert_close(ours.cooled(1.0).log_weights, ours.log_weights)
        cold, warm = (ours.cooled(tau).variance(torch.eye(Z)).sum() for tau in (0.1, 2.0))
        assert cold < ours.variance(torch.eye(Z)).sum() < warm

    @pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
    def test_a_temperature_that_is_none_is_refused(self, temperature: float) -> None:
        with pytest.raises(ValueError, match="temperature: expected a positive number"):
            mixture().cooled(temperature)


def model_of(**changes: Any) -> MdnRnn:
    torch.manual_seed(1)
    config = ModelConfig((("front", 32, 40),), 18, 7, 6, hidden=32, channels=8, keypoints=4)
    return MdnRnn(config, MdnRnnOptions(**{**SMALL, **changes}))


def latents_of(model: MdnRnn, count: int = BATCH) -> torch.Tensor:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (count, 32, 40, 3), dtype=np.uint8))
    return model.encoder([images], torch.from_numpy(rng.normal(size=(count, 18)).astype(np.float32)))


def window(model: MdnRnn) -> Window:
    rows = (BATCH, TICKS + 1)
    known = {
        "proprio": torch.zeros(*rows, 18),
        "picture.front": torch.full((*rows, 8, 10, 3), 100, dtype=torch.uint8),
    }
    later = latents_of(model, 2 * BATCH).detach().view(BATCH, 2, -1)
    ticks = torch.tensor([3, 6]).expand(BATCH, -1)
    return Window(
        torch.full((BATCH, TICKS, 7), 0.1), torch.zeros(*rows, 6), known, later=later, later_ticks=ticks
    )


class TestM:
    def test_a_tick_goes_to_the_mixtures_mean(self) -> None:
        model = model_of()
        latents, action = latents_of(model), torch.zeros(BATCH, 7)
        h, expected = model.dynamics.expect(latents, action)
        torch.testing.assert_close(model.dynamics(latents, action), torch.cat([h, expected.mean()], 1))

    def test_a_dream_is_drawn_and_a_cold_one_hardly(self) -> None:
        model = model_of()
        latents, action = latents_of(model), torch.zeros(BATCH, 7)
        warm, again, cold = (model.dynamics.dream(latents, action, tau) for tau in (1.0, 1.0, 1e-8))
        assert not torch.allclose(warm, again)
        h, expected = model.dynamics.expect(latents, action)
        torch.testing.assert_close(cold, torch.cat([h, expected.mode()], 1), atol=1e-2, rtol=0)

    def test_the_spread_is_known_from_what_was_imagined(self) -> None:
        """The variance before a latent was settled on needs that latent alone."""
        model, readout = model_of(), torch.randn(16, 3)
        latents, action = latents_of(model), torch.zeros(BATCH, 7)
        _, expected = model.dynamics.expect(latents, action)
        found = model.dynamics.variance(model.dynamics(latents, action), readout)
        torch.testing.assert_close(found, expected.variance(readout[10:]))

    def test_likelihood_is_that_of_the_frames_that_came(self) -> None:
        """Unlooked-at, from its own mean to its own mean; V's noise is made small."""
        model = model_of(looked=0.0)
        torch.nn.init.zeros_(model.log_std.weight)
        torch.nn.init.constant_(model.log_std.bias, -12.0)
        seen, latent, nats = window(model), latents_of(model), []
        found = model.likelihood(latent, seen)
        for tick in range(1, 7):
            h, expected = model.dynamics.expect(latent, seen.actions[:, tick - 1])
            if tick in (3, 6):
                z = model.dynamics.split(seen.later[:, (3, 6).index(tick)])[1]
                nats.append(expected.log_prob(z))
            latent = torch.cat([h, expected.mean()], 1)
        torch.testing.assert_close(found, torch.stack(nats).mean(), rtol=1e-3, atol=1e-3)

    def test_a_frame_that_was_looked_at_is_where_it_goes_on_from(self) -> None:
        model, seen = model_of(looked=1.0), None
        likelihoods = []
        for shift in (0.0, 1.0):  # moved alike, the second frame is as far from the first
            torch.manual_seed(0)
            seen = window(model)
            seen = replace(seen, later=seen.later[:, :1].expand(-1, 2, -1) + shift)
            likelihoods.append(model.likelihood(latents_of(model), seen))
        blind = model_of(looked=0.0)
        torch.manual_seed(0)
        assert likelihoods[1] > blind.likelihood(latents_of(blind), seen)

    def test_a_window_without_later_frames_is_refused(self) -> None:
        bare = Window(torch.zeros(BATCH, TICKS, 7), torch.zeros(BATCH, TICKS + 1, 6))
        with pytest.raises(ValueError, match="mdn_rnn: expected the latents of later frames"):
            model_of().likelihood(latents_of(model_of()), bare)

    def test_sizes_are_told_from_the_weights(self) -> None:
        dynamics = Dynamics(7, 6, 10, K)
        again = Dynamics.sized(dynamics.state_dict(), 16, 7)
        assert {n: t.shape for n, t in again.state_dict().items()} == {
            n: t.shape for n, t in dynamics.state_dict().items()
        }


class TestV:
    def test_divergence_is_torchs(self) -> None:
        from torch.distributions import kl_divergence

        model = model_of(reconstruction=0.0, evidence=1.0)
        latents = latents_of(model)
        z = model.dynamics.split(latents)[1]
        posterior = Normal(z, model.log_std(z).exp())
        expected = kl_divergence(posterior, Normal(torch.zeros_like(z), torch.ones_like(z))).sum(1).mean()
        torch.testing.assert_close(model.frame_terms(latents, {})["divergence"], expected)

    def test_what_is_drawn_is_as_wide_as_it_says(self) -> None:
        model = model_of()
        torch.manual_seed(0)
        latents = latents_of(model, 1).expand(20_000, -1)
        drawn, log_std = model.drawn(latents)
        torch.testing.assert_close(drawn.std(0), log_std[0].exp(), rtol=0.03, atol=0.0)
