"""Beyond the horizon: a critic's value as terminal cost, and an actor's way among the candidates."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from wm_vla_ros.planning.objective import Rollouts, Value
from wm_vla_ros.planning.samplers import SamplerConfig
from wm_vla_ros.types import LatentGoal

HOME = np.array([0.2, 0.0, 0.1])
# A wall across y, as high as `TOP`, metres: ten ticks over it are more than a plan sees.
WALL, TOP = 0.04, 0.2
BEHIND = np.array([0.2, 0.12, 0.1], np.float32)


def walled(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where tips (..., 3) end that go from `before` to `after`: the wall is not passed below its top."""
    crosses = ((before[..., 1] < WALL) != (after[..., 1] < WALL)) & (after[..., 2] < TOP)
    out = np.array(after)
    out[..., 1] = np.where(crosses, before[..., 1], after[..., 1])
    return out


def way_left(tip: np.ndarray) -> np.ndarray:
    """Metres (...) from tips (..., 3) to `BEHIND`: straight, or up, over the wall and down."""
    straight = np.linalg.norm(tip - BEHIND, axis=-1)
    climb = np.maximum(TOP + 0.005 - tip[..., 2], 0.0)
    over = np.abs(WALL + 0.01 - tip[..., 1])
    down = np.linalg.norm(np.array([0.2, WALL + 0.01, TOP + 0.005]) - BEHIND)
    return np.where(tip[..., 1] >= WALL, straight, climb + over + down)


class Expert:
    """Actor and critic by hand, for a world of which the latent says where the tip is."""

    def __init__(self, model) -> None:
        self.model = model

    def act(self, latents: np.ndarray, goal: np.ndarray) -> np.ndarray:
        tip = self.model.ground(latents)[:, :3]
        actions = np.zeros((len(tip), 7), np.float32)
        below = (tip[:, 1] < WALL) & (tip[:, 2] < TOP + 0.005)
        actions[:, :3] = np.clip((BEHIND - tip) / 0.02, -0.3, 0.3)
        actions[tip[:, 1] < WALL, 2] = 0.0
        actions[below, :3] = [0.0, 0.0, 0.3]
        return actions

    def value(self, latents: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return -1000.0 * way_left(self.model.ground(latents)[:, :3])


@pytest.fixture
def walled_model(linear_model):
    """The linear model with a wall in it."""

    class Walled(type(linear_model)):
        def predict(self, latents: np.ndarray, actions: np.ndarray) -> np.ndarray:
            before, after = (self.ground(z) for z in (latents, latents + actions @ self.effect))
            after[:, :3] = walled(before[:, :3], after[:, :3])
            return (after @ self.mix.T).astype(np.float32)

        def rollout(self, latents: np.ndarray, actions: np.ndarray) -> np.ndarray:
            out = []
            for step in range(actions.shape[1]):
                latents = self.predict(latents, actions[:, step])
                out.append(latents)
            return np.stack(out, axis=1)

    model = Walled(0.02)
    model.actor_critic = Expert(model)
    return model


def missed(make_loop, make_core, model, **settings) -> float:
    """Metres from the goal behind the wall after 2 s, of which the planner is shown the end alone."""
    core = make_core(model=model, bias=False, **settings)
    loop = make_loop(core)
    loop.run(3)
    goal = model.latent(BEHIND)[None]
    core.on_goal(LatentGoal(loop.now, 1, "go there", model.encoder_id, goal, 0.02, 60.0), loop.now)
    for _ in range(100):
        before = loop.tip
        loop.run(1)
        loop.tip = walled(before, loop.tip)
    return float(np.linalg.norm(loop.tip - BEHIND))


NO_PATH = {"weight_tip": 0.0, "weight_objects": 0.0, "weight_latent": 0.0}


def test_a_value_leads_where_a_short_horizon_alone_gets_stuck(make_loop, make_core, walled_model) -> None:
    alone = missed(make_loop, make_core, walled_model)
    farther = missed(make_loop, make_core, walled_model, weight_latent_point=1.0, **NO_PATH)
    valued = missed(make_loop, make_core, walled_model, weight_value=1.0, **NO_PATH)
    assert min(alone, farther) > 0.07, "it stands before the wall"
    assert valued < 0.02


def test_an_actors_way_is_tried_and_taken_where_it_costs_less(make_loop, make_core, walled_model) -> None:
    """A search that hardly moves sees what is better, and does not get there; the actor shows how."""
    timid = SamplerConfig(sigma=(0.001, 0.001, 0.001, 0.0, 0.0, 0.0, 0.0))
    asked = {"sampler": timid, "weight_value": 1.0, **NO_PATH}
    searched = missed(make_loop, make_core, walled_model, **asked)
    shown = missed(make_loop, make_core, walled_model, actor_candidate=True, **asked)
    assert shown < 0.03
    assert shown < 0.5 * searched


def test_the_drift_is_taken_off_the_actors_actions(make_core, make_loop, aim, linear_model) -> None:
    """What the actor wants to happen is not what has to be commanded."""
    still = SimpleNamespace(act=lambda latents, goal: np.full((len(latents), 7), 0.1, np.float32))
    linear_model.actor_critic = still
    try:
        core = make_core(actor_candidate=True)
    finally:
        del linear_model.actor_critic
    bias = np.zeros(7, np.float32)
    bias[0] = 0.03
    now = SimpleNamespace(
        latent=linear_model.latent(HOME),
        path=SimpleNamespace(latents=np.zeros((1, 6), np.float32)),
        bias=bias,
    )
    acted = core._formulation._acted(still, now)
    assert acted.shape == (core.config.sampler.horizon, 7)
    np.testing.assert_allclose(acted[:, :2], [[0.07, 0.1]] * len(acted), rtol=1e-5)


@pytest.mark.parametrize("setting", [{"weight_value": 1.0}, {"actor_candidate": True}])
def test_what_was_not_learned_is_refused_by_the_settings_name(make_core, linear_model, setting) -> None:
    (name,) = setting
    with pytest.raises(ValueError, match=rf"{name}: the world model linear has no actor and critic.*wm-vla"):
        make_core(model=linear_model, **setting)


def test_unasked_an_actor_changes_nothing(make_loop, make_core, aim, linear_model) -> None:
    """A model that has the file and one that has not plan the same, bit by bit."""

    class Unused:
        def __getattr__(self, name: str):
            raise AssertionError(f"nobody asked for {name}")

    class WithActor(type(linear_model)):
        actor_critic = Unused()

    plans = []
    for model in (linear_model, WithActor(0.02)):
        loop = make_loop(make_core(model=model))
        loop.run(5)
        aim(loop.core, [0.2, 0.09, 0.1], loop.now)
        loop.run(20)
        plans.append(np.array([plan.actions for plan in loop.plans]))
    np.testing.assert_array_equal(plans[0], plans[1])


def test_value_is_of_the_last_latent_and_never_a_gain() -> None:
    """A critic that errs to above zero would pay for a goal that is past."""
    futures = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    goal = np.array([5.0, 7.0], np.float32)
    seen = []

    def value(latents, goal):
        seen.append((latents, goal))
        return np.array([-30.0, 4.0, np.nan], np.float32)

    none = np.zeros((3, 4, 1), np.float32)
    asked = Rollouts(none, none[0, 0], futures, none, futures[0], none[0], 1.0, goal)
    cost = Value(0.5, SimpleNamespace(value=value)).cost(asked)  # type: ignore[arg-type]
    np.testing.assert_array_equal(cost, [1.5, 0.0, np.nan])
    np.testing.assert_array_equal(seen[0][0], futures[:, -1])
    np.testing.assert_array_equal(seen[0][1], goal)
