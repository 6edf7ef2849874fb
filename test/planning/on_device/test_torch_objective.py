"""The objective in torch is the objective in numpy, term by term; its gradient leads to better plans."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.mpc import MpcCore
from wm_vla_ros.planning.on_device.torch_objective import Frame, TorchObjective, frame_arrays
from wm_vla_ros.planning.samplers import make_sampler
from wm_vla_ros.planning.warm_up import rehearse


def candidates(seed: int, count: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (count, 10, 7)).astype(np.float32)


def frame_of(tick) -> Frame:
    arrays = frame_arrays(tick.latent, tick.bias, tick.asked)
    return Frame(**{name: torch.tensor(value) for name, value in arrays.items()})


@pytest.mark.parametrize("index", range(5))
def test_each_term_costs_what_it_costs_in_numpy(make_tick, torch_runtime, index: int) -> None:
    tick, actions = make_tick(index), candidates(index)
    objective = TorchObjective(torch_runtime, tick.terms[index : index + 1], 10)
    expected = tick.judge(actions)[index]
    assert expected.std() > 0.0
    np.testing.assert_allclose(objective.cost(torch.tensor(actions), frame_of(tick)), expected, rtol=2e-3)


@pytest.mark.parametrize("weight", [0.5, np.float32(0.5)])
def test_one_weight_for_all_latent_dimensions_is_taken(make_tick, torch_runtime, weight) -> None:
    tick = make_tick(0)
    tick = replace(tick, asked=replace(tick.asked, latent_weight=weight))
    actions = candidates(3)
    found = TorchObjective(torch_runtime, tick.terms, 10).cost(torch.tensor(actions), frame_of(tick))
    np.testing.assert_allclose(found, tick.cost(actions), rtol=2e-3)


def test_the_gradient_foretells_how_the_cost_in_numpy_changes(make_tick, torch_runtime) -> None:
    tick, actions = make_tick(1), 0.3 * candidates(1, 8)
    slope = tick.slope(TorchObjective(torch_runtime, tick.terms, 10))(actions)
    assert slope.shape == actions.shape
    step = 1e-3 * np.random.default_rng(0).normal(size=actions.shape).astype(np.float32)
    change = tick.cost(actions + step) - tick.cost(actions - step)
    np.testing.assert_allclose(2.0 * np.sum(slope * step, axis=(1, 2)), change, rtol=0.03, atol=2e-3)


@pytest.mark.parametrize("seed", range(4))
def test_descending_beats_the_best_candidate_on_the_shipped_model(make_tick, torch_runtime, seed) -> None:
    """And, from the same candidates, more rollouts of sampling."""
    tick = make_tick(seed)
    given = [np.zeros((10, 7), np.float32), 0.5 * tick.truth]
    size = replace(MpcConfig().sampler, samples=16, iterations=12)
    descent = make_sampler("gradient", size, np.random.default_rng(seed))
    slope = tick.slope(TorchObjective(torch_runtime, tick.terms, 10))
    found = descent.solve(given, tick.cost, gradient=slope)
    sampled = make_sampler(
        "mppi_spline", replace(size, samples=32, iterations=4), np.random.default_rng(seed)
    )
    assert found.cost < 0.7 * tick.cost(np.stack(given)).min()
    assert found.cost < tick.cost(sampled.solve(given, tick.cost).actions[None])[0]


def test_a_term_without_a_form_is_named(make_tick, torch_runtime) -> None:
    class Unknown:
        name = "unknown"

    objective = TorchObjective(torch_runtime, [*make_tick(0).terms, Unknown()], 10)
    assert objective.left_out == ("unknown",)
    with pytest.raises(ValueError, match="none of the objective's terms has a form in torch: unknown"):
        TorchObjective(torch_runtime, [Unknown()], 10)


def test_the_sampler_that_descends_is_refused_without_torch(reference, torch_runtime, spec) -> None:
    config = replace(MpcConfig(), method="gradient")
    with pytest.raises(ValueError, match="sampler 'gradient' needs .*: use runtime 'torch'"):
        MpcCore(reference, spec, config)
    core = MpcCore(torch_runtime, spec, config)
    for result in rehearse(core, torch_runtime, spec, 3):
        assert result.plan is not None
        assert result.faults == ()
