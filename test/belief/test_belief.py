"""The belief: late observations corrected at their own time, and prediction through actions in flight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_vla_ros.belief.actions import ActionTimeline
from wm_vla_ros.belief.belief import Belief
from wm_vla_ros.belief.bias import BiasEstimator
from wm_vla_ros.types import AppliedAction, Plan

DT = 0.02
STAMPS = st.lists(st.integers(0, 24), min_size=2, max_size=10, unique=True)


@settings(max_examples=60)
@given(data=st.data(), seed=st.integers(0, 99), gain=st.none() | st.floats(0.05, 1.0))
def test_late_repeated_and_shuffled_observations_end_in_the_same_belief(
    past, make_belief, linear_model, data, seed: int, gain
) -> None:
    """Within the window the order of arrival does not matter, whatever gain and sensor error."""
    world = past(seed=seed)
    ticks = data.draw(STAMPS)
    seen = world.tips[ticks] + np.random.default_rng(seed).normal(0.0, 0.01, (len(ticks), 3))
    latents = dict(zip(ticks, linear_model.latent(seen), strict=True))
    shuffled = data.draw(st.permutations(ticks)) + data.draw(st.lists(st.sampled_from(ticks), max_size=4))
    ordered_belief, shuffled_belief = (
        make_belief(world.timeline(), gain=gain),
        make_belief(world.timeline(), gain=gain),
    )
    for tick in sorted(ticks):
        ordered_belief.observe(latents[tick], tick * DT)
    for tick in shuffled:
        shuffled_belief.observe(latents[tick], tick * DT)
    for to in (max(ticks), max(ticks) + 3, 24):
        if to >= max(ticks):
            np.testing.assert_allclose(
                shuffled_belief.predict(to * DT), ordered_belief.predict(to * DT), atol=1e-5
            )
    assert shuffled_belief.newest.divergence == pytest.approx(ordered_belief.newest.divergence, abs=1e-5)


@settings(max_examples=60)
@given(data=st.data(), seed=st.integers(0, 99), window=st.sampled_from([0.2, 0.6]))
def test_a_long_stream_of_late_observations_in_bursts_ends_in_the_same_belief(
    past, make_belief, linear_model, data, seed: int, window: float
) -> None:
    """2 s of images off the tick grid, each late by less than the window, some twice, some never.

    Trust is estimated here: it, too, may depend on what was seen only, not on when. The correction that
    everything else is replayed from must be older than all that may still come.
    """
    world = past(seed=seed, ticks=100)
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0.0, 100.0, data.draw(st.integers(5, 60)))) * DT
    seen = linear_model.latent(
        np.array([world.at(t / DT) for t in times]) + rng.normal(0, 0.01, (len(times), 3))
    )
    late = rng.uniform(0.0, 0.98 * window, len(times))
    if data.draw(st.booleans()):  # everything that is under way arrives at once, every 0.15 s
        late = np.ceil((times + late * 0.2) / 0.15) * 0.15 - times
        late = np.minimum(late, 0.98 * window)
    arrivals = [(t + d, t, z) for t, d, z in zip(times, late, seen, strict=True)]
    arrivals += [(at + rng.uniform(0.0, 1.0), t, z) for at, t, z in arrivals if rng.random() < 0.3]
    ordered = make_belief(world.timeline(), window=window)
    shuffled = make_belief(world.timeline(), window=window)
    for t, z in zip(times, seen, strict=True):
        ordered.observe(z, t)
    for _, t, z in sorted(arrivals, key=lambda arrival: arrival[0]):
        shuffled.observe(z, t)
    assert [c.stamp for c in shuffled._corrections] == [c.stamp for c in ordered._corrections]
    assert shuffled.newest.trust.gain == pytest.approx(ordered.newest.trust.gain, abs=1e-5)
    for ahead in (0.0, 0.5, 3.0):
        to = times[-1] + ahead * DT
        np.testing.assert_allclose(shuffled.predict(to), ordered.predict(to), atol=1e-5)


@given(seed=st.integers(0, 99), ticks=STAMPS)
@settings(max_examples=40)
def test_a_true_model_and_true_observations_give_the_true_state(
    past, make_belief, linear_model, seed: int, ticks
) -> None:
    world = past(seed=seed)
    belief = make_belief(world.timeline())
    for tick in ticks:
        correction = belief.observe(linear_model.latent(world.tips[tick]), tick * DT)
        assert correction.divergence == pytest.approx(0.0, abs=1e-6)
    predicted = linear_model.ground(belief.predict(25 * DT))[:3]
    np.testing.assert_allclose(predicted, world.tips[25], atol=1e-6)


def test_an_observation_of_the_past_corrects_the_present(past, make_belief, linear_model) -> None:
    """A frame 200 ms old says where the arm was; every action since is replayed from there."""
    world = past()
    belief = make_belief(world.timeline(), gain=1.0)
    belief.observe(linear_model.latent(world.tips[0] + 0.05), 0.0)
    wrong = linear_model.ground(belief.predict(20 * DT))[:3]
    np.testing.assert_allclose(wrong, world.tips[20] + 0.05, atol=1e-6)
    belief.observe(linear_model.latent(world.tips[10]), 10 * DT)
    np.testing.assert_allclose(linear_model.ground(belief.predict(20 * DT))[:3], world.tips[20], atol=1e-6)


@pytest.mark.parametrize("gain", [0.3, 0.7, 1.0])
def test_the_gain_is_the_share_of_the_surprise_that_is_believed(
    past, make_belief, linear_model, gain
) -> None:
    world = past()
    belief = make_belief(world.timeline(), gain=gain)
    belief.observe(linear_model.latent(world.tips[0]), 0.0)
    off = np.array([0.03, 0.0, -0.04])
    correction = belief.observe(linear_model.latent(world.tips[5] + off), 5 * DT)
    assert correction.divergence == pytest.approx(0.05, abs=1e-5)
    np.testing.assert_allclose(linear_model.ground(correction.prior)[:3], world.tips[5], atol=1e-5)
    assert belief.newest is correction
    posterior = linear_model.ground(belief.predict(5 * DT))[:3]
    np.testing.assert_allclose(posterior, world.tips[5] + gain * off, atol=1e-5)


def test_divergence_is_that_of_the_observation_handed_in_even_when_it_is_late(
    past, make_belief, linear_model
) -> None:
    world = past()
    belief = make_belief(world.timeline())
    for tick in (0, 10):
        belief.observe(linear_model.latent(world.tips[tick]), tick * DT)
    off = np.array([0.0, 0.02, 0.0])
    correction = belief.observe(linear_model.latent(world.tips[4] + off), 4 * DT)
    assert correction.divergence == pytest.approx(0.02, abs=1e-5)


def test_prediction_goes_through_what_is_in_flight_and_then_holds(
    past, make_belief, linear_model, spec
) -> None:
    world = past()
    timeline = world.timeline()
    belief = make_belief(timeline)
    belief.observe(linear_model.latent(world.tips[20]), 20 * DT)
    flying = np.random.default_rng(3).uniform(-0.2, 0.2, (4, 7))
    timeline.planned(Plan(0.0, 1, "mpc", 25 * DT, DT, flying))
    tips = world.tips[25] + np.cumsum(flying[:, :3] * spec.translation_scale, axis=0)
    for ahead in (1, 2, 3, 4):
        predicted = linear_model.ground(belief.predict((25 + ahead) * DT))[:3]
        np.testing.assert_allclose(predicted, tips[ahead - 1], atol=1e-6)
    for ahead in (5, 20):
        predicted = linear_model.ground(belief.predict((25 + ahead) * DT))[:3]
        np.testing.assert_allclose(predicted, tips[-1], atol=1e-6)


def test_what_the_gate_cut_is_not_predicted(past, make_belief, linear_model, spec) -> None:
    world = past()
    timeline = world.timeline()
    belief = make_belief(timeline)
    belief.observe(linear_model.latent(world.tips[25]), 25 * DT)
    timeline.planned(Plan(0.0, 1, "mpc", 25 * DT, DT, np.full((2, 7), 0.4)))
    timeline.applied(
        AppliedAction(25 * DT, 99, "mpc", np.full(7, 0.1), ("joint",), np.zeros(1), ("rate_limited",))
    )
    moved = linear_model.ground(belief.predict(27 * DT))[:3] - world.tips[25]
    np.testing.assert_allclose(moved, (0.1 + 0.4) * spec.translation_scale, atol=1e-6)


def test_a_duplicate_and_an_observation_past_the_window_change_nothing(
    past, make_belief, linear_model
) -> None:
    world = past()
    belief = make_belief(world.timeline(), window=0.2)
    belief.observe(linear_model.latent(world.tips[20]), 20 * DT)
    before = belief.predict(25 * DT)
    wrong = linear_model.latent(world.tips[0] + 0.1)
    assert belief.observe(wrong, 20 * DT) is None
    assert belief.observe(wrong, 10 * DT) is None
    assert belief.observe(wrong, 2 * DT) is None
    np.testing.assert_array_equal(belief.predict(25 * DT), before)
    assert belief.observe(wrong, 11 * DT) is not None


class CountingModel:
    """A world model that counts its steps."""

    def __init__(self, model) -> None:
        self._model, self.steps = model, 0

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def predict(self, latents, actions):
        assert len(latents) == 1
        self.steps += 1
        return self._model.predict(latents, actions)


@settings(max_examples=20)
@given(data=st.data(), seed=st.integers(0, 99))
def test_what_one_observation_can_cost_is_bounded(past, linear_model, spec, data, seed: int) -> None:
    """Whatever a camera sends, however late: 2 window / dt steps and one per observation that is kept."""
    world = past(ticks=90, seed=seed)
    model = CountingModel(linear_model)
    belief = Belief(model, world.timeline(), BiasEstimator(spec.translation_scale, DT), window=0.3)
    times = data.draw(st.lists(st.floats(0.0, 90.0), min_size=2, max_size=300))
    for time in times:
        model.steps = 0
        belief.observe(linear_model.latent(world.at(time)), time * DT)
        assert model.steps <= 2 * 0.3 / DT + 64
        assert len(belief._corrections) <= 64
    model.steps = 0
    newest = belief.newest.stamp
    belief.predict(newest + 0.11)
    assert model.steps == 6


def test_an_observation_in_time_costs_the_ticks_since_the_one_before(past, linear_model, spec) -> None:
    world = past(ticks=90)
    model = CountingModel(linear_model)
    belief = Belief(model, world.timeline(), BiasEstimator(spec.translation_scale, DT))
    for tick in range(0, 90, 3):
        model.steps = 0
        belief.observe(linear_model.latent(world.tips[tick]), tick * DT)
        assert model.steps == (3 if tick else 0)
    assert len(belief._corrections) <= 0.6 / DT / 3 + 2
    with pytest.raises(ValueError, match="belief starts at"):
        belief.predict(89 * DT - 0.75)


def test_across_a_silence_longer_than_the_window_the_observation_stands_alone(
    past, make_belief, linear_model
) -> None:
    """Its price would have no bound, and nobody plans on a belief that old."""
    world = past(ticks=90)
    belief = make_belief(world.timeline(), window=0.3)
    belief.observe(linear_model.latent(world.tips[10]), 10 * DT)
    assert belief.observe(linear_model.latent(world.tips[40] + 0.1), 40 * DT).prior is None
    np.testing.assert_allclose(
        linear_model.ground(belief.predict(40 * DT))[:3], world.tips[40] + 0.1, atol=1e-6
    )


def test_an_encoding_that_is_not_finite_is_refused(past, make_belief, linear_model) -> None:
    """It would stay in the belief for ever."""
    world = past()
    belief = make_belief(world.timeline())
    belief.observe(linear_model.latent(world.tips[0]), 0.0)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            belief.observe(np.full(6, bad, np.float32), DT)
    np.testing.assert_allclose(linear_model.ground(belief.predict(5 * DT))[:3], world.tips[5], atol=1e-6)


def test_without_an_observation_there_is_no_prediction(past, make_belief, linear_model) -> None:
    belief = make_belief(past().timeline())
    assert belief.predict(0.1) is None
    assert belief.newest is None
    belief.observe(linear_model.latent(np.zeros(3)), 0.2)
    with pytest.raises(ValueError, match=r"belief starts at 0\.200 s, asked for 0\.100 s"):
        belief.predict(0.1)
    belief.reset()
    assert belief.predict(0.3) is None


def test_where_actions_are_unknown_the_observation_stands_alone(make_belief, linear_model, spec) -> None:
    """Rolling through a gap with made-up zeros would call a moving arm divergent."""
    belief = make_belief(ActionTimeline(spec.dt))
    belief.observe(linear_model.latent([0.2, 0.0, 0.1]), 0.0)
    assert belief.predict(0.1) is None
    assert belief.observe(linear_model.latent([0.3, 0.0, 0.1]), 0.1).divergence == 0.0
    assert belief.newest.prior is None
    np.testing.assert_allclose(linear_model.ground(belief.predict(0.1))[:3], [0.3, 0.0, 0.1], atol=1e-6)


def test_a_known_drift_is_part_of_the_prediction(past, linear_model, spec) -> None:
    world = past()
    bias = BiasEstimator(spec.translation_scale, spec.dt, deadband=0.0)
    timeline = world.timeline()
    drift = np.array([0.001, -0.0005, 0.0])  # metres per tick
    for tick in range(26):
        bias.update(world.tips[tick] + drift * tick, tick * DT, timeline)
    belief = Belief(linear_model, timeline, bias)
    belief.observe(linear_model.latent(world.tips[15]), 15 * DT)
    moved = linear_model.ground(belief.predict(25 * DT))[:3] - world.tips[25]
    np.testing.assert_allclose(moved, 10 * bias.value * spec.translation_scale, atol=1e-6)
    assert moved[0] > 0.002


def test_predicting_again_predicts_the_same(past, linear_model, spec) -> None:
    """Added in place, the drift would grow with every prediction of the same actions."""
    world = past()
    timeline = world.timeline()
    bias = BiasEstimator(spec.translation_scale, spec.dt, deadband=0.0)
    for tick in range(26):
        bias.update(world.tips[tick] + 0.001 * tick, tick * DT, timeline)
    belief = Belief(linear_model, timeline, bias)
    belief.observe(linear_model.latent(world.tips[15]), 15 * DT)
    first = belief.predict(25 * DT)
    for _ in range(5):
        np.testing.assert_array_equal(belief.predict(25 * DT), first)


@pytest.mark.parametrize("gain", [0.0, -0.1, 1.01, float("nan")])
def test_a_gain_is_a_share(make_belief, spec, gain: float) -> None:
    with pytest.raises(ValueError, match="gain must be in"):
        make_belief(ActionTimeline(spec.dt), gain=gain)
