"""The plan that a GPU runs as one graph, run here as it is written: it is MPPI's, number for number."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.planning.mpc import MpcCore
from wm_vla_ros.planning.objective import Workspace
from wm_vla_ros.planning.on_device.torch_objective import Frame, TorchObjective
from wm_vla_ros.planning.on_device.whole_plan import SLOTS, WholePlan
from wm_vla_ros.planning.samplers import MotionLimits, NoFiniteCost, make_sampler
from wm_vla_ros.planning.warm_up import rehearse
from wm_vla_ros.world_models.manifest import read_files, read_manifest
from wm_vla_ros.world_models.registry import find
from wm_vla_ros.world_models.torch_runtime import TorchWorldModel

LIMITS = MotionLimits(speed=0.4, change=0.05, jerk=0.04)
SIZE = replace(MpcConfig().sampler, samples=40, iterations=3, limits=LIMITS)
FREE = replace(SIZE, limits=None)
LAST = np.zeros((2, 7), np.float32)
LAST[:, :2] = [[0.1, -0.02], [0.12, -0.03]]
HOLD = np.zeros((10, 7), np.float32)
both_kinds = pytest.mark.parametrize("method", ["mppi_spline", "mppi_colored"])


def runtime_on(device: str) -> TorchWorldModel:
    folder = find("so101_latent_dynamics")
    manifest = read_manifest(folder)
    return TorchWorldModel(manifest, read_files(folder, manifest), device, whole_plan=True)


@pytest.fixture(scope="module")
def whole_runtime() -> TorchWorldModel:
    """The runtime cuda-graph, but on the CPU."""
    return runtime_on("cpu")


def whole_plan(model, tick, method="mppi_spline", seed=0, size=SIZE) -> WholePlan:
    return WholePlan(model, tick.terms, make_sampler(method, size, np.random.default_rng(seed)), seed)


def solve(plan: WholePlan, tick, candidates):
    return plan.solve(candidates, tick.latent, tick.bias, tick.asked, LAST)


def six(tick) -> list[np.ndarray]:
    rng = np.random.default_rng(9)
    noise = [0.05 * rng.standard_normal((10, 7)).astype(np.float32) * SIZE.sigma for _ in range(4)]
    return [HOLD, 0.5 * tick.truth, *(np.float32(tick.truth * 0.3 + each) for each in noise)]


@both_kinds
@pytest.mark.parametrize("seed", range(3))
def test_with_the_same_noise_it_is_the_plan_of_numpy(
    make_tick, whole_runtime, monkeypatch, method: str, seed: int
) -> None:
    tick = make_tick(seed)
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(
        WholePlan, "_normal", lambda self, shape: torch.tensor(rng.standard_normal(shape, dtype=np.float32))
    )
    found = solve(whole_plan(whole_runtime, tick, method), tick, six(tick))
    expected = make_sampler(method, SIZE, np.random.default_rng(seed)).solve(six(tick), tick.cost, last=LAST)
    np.testing.assert_allclose(found.actions, expected.actions, atol=2e-4)
    assert found.cost == pytest.approx(expected.cost, rel=2e-3)
    assert found.iterations == expected.iterations == 3


@both_kinds
def test_with_its_own_noise_it_plans_as_well_as_numpy(make_tick, whole_runtime, method: str) -> None:
    """Over many noises, since one plan is up to twice as good as another; two candidates for six places."""
    ratios = []
    for seed in range(8):
        tick = make_tick(seed)
        given = [HOLD, 0.5 * tick.truth]
        whole = whole_plan(whole_runtime, tick, method, seed, FREE)
        numpy = make_sampler(method, FREE, np.random.default_rng(seed))
        for _ in range(8):
            found, plain = solve(whole, tick, given).actions, numpy.solve(given, tick.cost).actions
            here, there = tick.cost(np.stack([found, plain]))
            assert here < tick.cost(np.stack(given)).min()
            ratios.append(here / there)
    assert 0.85 < np.exp(np.mean(np.log(ratios))) < 1.15


def test_every_plan_draws_its_own_noise_and_a_seed_gives_it_again(make_tick, whole_runtime) -> None:
    tick = make_tick(0)
    first, again, other = (whole_plan(whole_runtime, tick, seed=seed) for seed in (4, 4, 5))
    plans = [solve(each, tick, [HOLD]).actions for each in (first, again, other, first)]
    np.testing.assert_array_equal(plans[0], plans[1])
    assert not np.array_equal(plans[0], plans[2])
    assert not np.array_equal(plans[0], plans[3])


def test_bounds_hold(make_tick, whole_runtime) -> None:
    size = replace(FREE, sigma=(0.8,) * 7, lower=(-0.05,) * 6 + (0.4,), upper=(0.1,) * 6 + (0.6,))
    tick = make_tick(2)
    actions = solve(whole_plan(whole_runtime, tick, size=size), tick, [HOLD, tick.truth]).actions
    assert np.all(actions >= np.float32(size.lower) - 1e-6)
    assert np.all(actions <= np.float32(size.upper) + 1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_without_a_finite_cost_there_is_no_plan(make_tick, whole_runtime, bad: float) -> None:
    tick = make_tick(0)
    plan = whole_plan(whole_runtime, tick)
    with pytest.raises(NoFiniteCost, match="all 40 candidates"):
        plan.solve([HOLD], np.full_like(tick.latent, bad), tick.bias, tick.asked, LAST)
    assert np.all(np.isfinite(solve(plan, tick, [HOLD]).actions))  # and nothing of it stays


@pytest.mark.parametrize("share", [3, 30])
def test_samples_without_a_finite_cost_are_left_out(
    make_tick, whole_runtime, monkeypatch, share: int
) -> None:
    """The same as in numpy, with the same samples gone: a third, or all but two."""
    tick, rng = make_tick(1), np.random.default_rng(1)
    plan = whole_plan(whole_runtime, tick)
    lost = np.arange(SIZE.samples) % 3 == 0 if share == 3 else np.arange(SIZE.samples) >= 2
    true_cost = plan._objective.cost
    monkeypatch.setattr(
        plan._objective,
        "cost",
        lambda actions, frame: torch.where(torch.tensor(lost), torch.nan, true_cost(actions, frame)),
    )
    monkeypatch.setattr(
        plan, "_normal", lambda shape: torch.tensor(rng.standard_normal(shape, dtype=np.float32))
    )
    found = solve(plan, tick, six(tick))
    expected = make_sampler("mppi_spline", SIZE, np.random.default_rng(1)).solve(
        six(tick), lambda actions: np.where(lost, np.nan, tick.cost(actions)), last=LAST
    )
    np.testing.assert_allclose(found.actions, expected.actions, atol=2e-4)
    assert found.cost == pytest.approx(expected.cost, rel=2e-3)


def test_a_later_population_without_a_finite_cost_leaves_the_earlier_plan(
    make_tick, whole_runtime, monkeypatch
) -> None:
    tick = make_tick(1)
    plan, calls = whole_plan(whole_runtime, tick), []
    true_cost = plan._objective.cost

    def cost(actions, frame):
        calls.append(1)
        return true_cost(actions, frame) * (1.0 if len(calls) == 1 else torch.nan)

    monkeypatch.setattr(plan._objective, "cost", cost)
    found = solve(plan, tick, [HOLD, tick.truth])
    assert (len(calls), found.iterations) == (3, 1)
    assert np.all(np.isfinite(found.actions))
    assert np.isfinite(found.cost)


@pytest.mark.parametrize("candidates", [[np.zeros((9, 7))], [np.zeros((10, 6))], [HOLD] * (SLOTS + 1)])
def test_candidates_of_another_shape_or_too_many_are_refused(make_tick, whole_runtime, candidates) -> None:
    tick = make_tick(0)
    with pytest.raises(ValueError, match=f"candidates are .*, need at most {SLOTS} of"):
        solve(whole_plan(whole_runtime, tick), tick, candidates)


def test_what_a_graph_cannot_do_is_refused_when_it_is_made(make_tick, whole_runtime, spec) -> None:
    tick = make_tick(0)

    class Unknown(Workspace):
        name = "unknown"

    strange = replace(tick, terms=(*tick.terms, Unknown(2, 1.0, 0.0, name="unknown")))
    with pytest.raises(ValueError, match="cannot judge by unknown: give them the weight 0"):
        whole_plan(whole_runtime, strange)
    with pytest.raises(ValueError, match=f"needs more than {SLOTS}, got {SLOTS}"):
        whole_plan(whole_runtime, tick, size=replace(SIZE, samples=SLOTS))
    with pytest.raises(ValueError, match="plans with mppi_spline or mppi_colored, got icem"):
        MpcCore(whole_runtime, spec, replace(MpcConfig(), method="icem"))


def test_the_fast_loop_plans_with_it(whole_runtime, spec) -> None:
    core = MpcCore(whole_runtime, spec, replace(MpcConfig(), sampler=SIZE, deadline=1e-9))
    results = list(rehearse(core, whole_runtime, spec, 4))
    # Out of time it, too, sends the rest of its first plan.
    assert [result.stats.iterations for result in results] == [3, 0, 0, 0]
    core = MpcCore(whole_runtime, spec, replace(MpcConfig(), sampler=SIZE, deadline=9.0))
    for result in rehearse(core, whole_runtime, spec, 4):
        assert result.stats.iterations == 3
        assert result.plan.actions.shape == (10, 7)
        assert result.stats.imagined_tip.shape == (10, 3)


def test_a_single_future_stays_on_the_host(whole_runtime, reference, monkeypatch) -> None:
    """The plan that was found is imagined once more, for its report: a hundred launches for one row."""
    latent, actions = np.zeros((1, 128), np.float32), np.zeros((1, 10, 7), np.float32)
    monkeypatch.setattr(whole_runtime.dynamics, "rollout", None)
    np.testing.assert_array_equal(whole_runtime.rollout(latent, actions), reference.rollout(latent, actions))


def test_nothing_in_it_would_break_a_capture(make_tick, monkeypatch) -> None:
    """Traced on tensors that only pretend to be on a GPU: a value that the host reads, or a tensor that was
    left on the CPU, is an error there as it is while a graph is captured.
    """
    tick, model = make_tick(0), runtime_on("cpu")
    plan = whole_plan(model, tick)
    with FakeTensorMode() as mode:

        def on_gpu(tensor: torch.Tensor) -> torch.Tensor:
            return mode.from_tensor(tensor).to("cuda")

        for module in model.dynamics.modules():
            for name, value in [*module.named_parameters(recurse=False)]:
                setattr(module, name, torch.nn.Parameter(on_gpu(value), requires_grad=False))
            for name, value in [*module.named_buffers(recurse=False)]:
                setattr(module, name, on_gpu(value))
        model.device = plan._device = torch.device("cuda")
        model._to_metres = tuple(map(on_gpu, model._to_metres))
        for name in ("_basis", "_sigma", "_lower", "_upper", "_candidates", "_last", "_output"):
            setattr(plan, name, on_gpu(getattr(plan, name)))
        plan._frame = Frame(
            **{field.name: on_gpu(getattr(plan._frame, field.name)) for field in fields(Frame)}
        )
        plan._objective = TorchObjective(model, tick.terms, SIZE.horizon)
        monkeypatch.setattr(plan, "_normal", lambda shape: torch.randn(shape, device="cuda"))
        plan._program()
        assert plan._output.device.type == "cuda"
        with pytest.raises(DataDependentOutputException):  # what the test relies on
            plan._output[0].item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
class TestOnAGpu:
    @pytest.fixture(scope="class")
    def graph_runtime(self) -> TorchWorldModel:
        return runtime_on("cuda")

    def test_a_replay_is_the_program(self, make_tick, graph_runtime) -> None:
        """The captured graph, against the same program with the same noise, launched kernel by kernel."""
        tick = make_tick(0)
        graph, eager = whole_plan(graph_runtime, tick), whole_plan(graph_runtime, tick)
        eager._graph = None
        state = graph._generator.get_state()
        captured = solve(graph, tick, six(tick))
        eager._generator.set_state(state)
        np.testing.assert_allclose(captured.actions, solve(eager, tick, six(tick)).actions, atol=1e-4)

    def test_every_replay_draws_its_own_noise(self, make_tick, graph_runtime) -> None:
        tick = make_tick(0)
        plan = whole_plan(graph_runtime, tick)
        assert not np.array_equal(solve(plan, tick, [HOLD]).actions, solve(plan, tick, [HOLD]).actions)
