"""Actor and critic in a world model's imagination: what a goal is, and that they learn to reach one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from wm_vla_ros import world_models
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.lab import actor_critic_training
from wm_vla_ros.lab.actor_critic_training import ActorCriticTraining, action_range, learn, train
from wm_vla_ros.lab.actor_judge import GoalData
from wm_vla_ros.lab.dream import DreamConfig, Dreamer
from wm_vla_ros.lab.goal_dream import GoalConditionedState, GoalDream, rewards
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.types import EE_ACTION_NAMES
from wm_vla_ros.world_models.actor_critic import ACTOR_CRITIC_FILE
from wm_vla_ros.world_models.families import FAMILIES, family_class
from wm_vla_ros.world_models.manifest import read_manifest
from wm_vla_ros.world_models.modules import ModelConfig

A, MODEL = 7, "so101_latent_dynamics"
POINTS = st.lists(st.floats(-1, 1), min_size=6, max_size=6)


class TestRewards:
    @given(here=POINTS, there=POINTS)
    def test_at_most_zero_and_only_at_the_goal(self, here, there) -> None:
        at, goal = torch.tensor(here), torch.tensor(there)
        assert float(rewards(at, goal)) <= 0.0
        assert float(rewards(goal, goal)) == 0.0

    def test_each_thing_costs_its_own_distance_in_five_centimetres(self) -> None:
        goal = torch.zeros(6)
        at = torch.tensor([0.3, 0.4, 0.0, 0.0, 0.0, 1.0])
        assert float(rewards(at, goal)) == pytest.approx(-(0.5 + 1.0) / 0.05, rel=0.01)

    def test_its_slope_is_finite_at_the_goal(self) -> None:
        at = torch.zeros(6, requires_grad=True)
        rewards(at, torch.zeros(6)).backward()
        assert at.grad is not None
        assert bool((at.grad == 0.0).all())


class Cart(nn.Module):
    """A world by hand: the latent is the tip's place, an action moves it by 0.05 m at most."""

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        return latent + 0.05 * action[..., :3]


def cart() -> GoalDream:
    """Metres are the latent; of two actions that go the same way, the second is never used."""
    low, high = np.array([-1, -1, -1, 0.5], np.float32), np.array([1, 1, 1, 0.5], np.float32)
    return GoalDream(Cart(), np.eye(3, dtype=np.float32), np.zeros(3, np.float32), low, high)  # type: ignore[arg-type]


def walks(seed: int, episodes: int = 40, length: int = 30) -> GoalData:
    """Frames of random walks in a box of 0.4 m, every other episode done at its end."""
    rng = np.random.default_rng(seed)
    latents = rng.uniform(-0.2, 0.2, (episodes, length, 3)).astype(np.float32)
    number = np.repeat(np.arange(episodes), length)
    return GoalData(
        latents.reshape(-1, 3),
        np.arange(episodes * length) * 2,
        (number + 1) * length - 1,
        number,
        number % 2 == 0,
    )


@pytest.fixture(scope="module")
def learned() -> Dreamer:
    torch.set_num_threads(1)
    dream = DreamConfig(horizon=6, discount=0.8, hidden=32, actor_rate=2e-3)
    return learn(cart(), walks(0), ActorCriticTraining(steps=350, batch=64, dream=dream), lambda *note: None)


class TestLearning:
    def test_the_actor_goes_to_whatever_goal_it_is_given(self, learned: Dreamer) -> None:
        """To unseen goals, far nearer than it began; and the same start leads to each of them."""
        torch.manual_seed(1)
        goal = torch.rand(50, 3) * 0.3 - 0.15
        state = GoalConditionedState(torch.rand(50, 3) * 0.3 - 0.15, goal)
        before = (state.latent - goal).norm(dim=1)
        for _ in range(10):
            state = learned.model.imagine(state, learned.act(state, sample=False))
        after = (state.latent - goal).norm(dim=1)
        assert float(after.mean()) < 0.25 * float(before.mean())

    def test_the_critic_knows_far_from_near(self, learned: Dreamer) -> None:
        goal = torch.zeros(3, 3)
        at = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.2, 0.1, -0.1]])
        value = learned.critic.value(GoalConditionedState(at, goal).features)
        assert value.tolist() == sorted(value.tolist(), reverse=True)
        assert float(value[0].detach()) > float(value[2].detach()) + 1.0

    def test_the_same_seed_gives_the_same_actor(self) -> None:
        training = ActorCriticTraining(steps=5, batch=16, dream=DreamConfig(horizon=3, hidden=8))
        state = GoalConditionedState(torch.zeros(4, 3), torch.ones(4, 3))
        quick = [
            learn(cart(), walks(0), replace(training, seed=seed), lambda *note: None).act(state, sample=False)
            for seed in (0, 0, 1)
        ]
        assert torch.equal(quick[0], quick[1])
        assert not torch.equal(quick[0], quick[2])


@pytest.mark.parametrize("family", FAMILIES)
def test_any_family_can_be_dreamed_in(family: str) -> None:
    """Gradients reach the actor through its dynamics, and its weights stay what they are."""
    torch.manual_seed(0)
    config = ModelConfig(
        (("front", 16, 16),), 18, A, 6, latent_dim=16, hidden=16, channels=4, keypoints=4, tasks=("play",)
    )
    model = family_class(family)(config)
    weight, bias = (each.detach().numpy() for each in model.grounding.folded())
    one = np.ones(A, np.float32)
    dreamer = Dreamer(
        GoalDream(model.dynamics, weight, bias, -one, one), DreamConfig(horizon=3, hidden=8, entropy=0.0)
    )
    before = [values.clone() for values in model.dynamics.parameters()]
    first = dreamer.actor.network[-1].weight.detach().clone()
    latent = torch.rand(8, len(weight))
    dreamer.update(GoalConditionedState(latent, latent.flip(0)))
    assert not torch.equal(dreamer.actor.network[-1].weight, first)
    assert all(map(torch.equal, before, model.dynamics.parameters()))


@given(seed=st.integers(0, 50))
def test_a_goal_is_of_the_same_episode_and_never_before(seed: int) -> None:
    data = walks(0, episodes=6)
    first, goal = data.errands(300, np.random.default_rng(seed))
    np.testing.assert_array_equal(data.episode[first], data.episode[goal])
    assert np.all(goal >= first)
    ends = (goal == data.last[first]).astype(float)
    assert ends[data.done[first]].mean() > 0.4
    assert ends[~data.done[first]].mean() < 0.3


@pytest.fixture
def episodes(spec) -> EpisodeArrays:
    """Six episodes of noise in the layout of the shipped model: enough to train on, if not to learn from.

    Demonstrations, four of them, move along x, y and z; play turns as well and opens the gripper.
    """
    rng, names = np.random.default_rng(0), proprio_names(spec)
    grounding = read_manifest(world_models.registry.find(MODEL)).grounding_names[3:]
    length, count = 60, 6
    total = length * count
    actions = rng.uniform(-0.2, 0.2, (total, A)).astype(np.float32)
    actions[: 4 * length, 3:] = 0.0
    success = np.zeros(total, bool)
    success[: 4 * length] = np.arange(4 * length) % length > length - 5
    return EpisodeArrays(
        images={"front": rng.integers(0, 255, (total // 2, 96, 96, 3)).astype(np.uint8)},
        frame_rows=np.arange(0, total, 2),
        row_frame=np.arange(total) // 2,
        states=rng.normal(0, 0.1, (total, len(names))).astype(np.float32),
        actions=actions,
        expert_actions=actions,
        environment=rng.normal(0, 0.1, (total, len(grounding))).astype(np.float32),
        disturbed=np.zeros(total, bool),
        success=success,
        starts=np.arange(0, total + 1, length),
        episode_tasks=np.repeat([0, 1], [4, 2]),
        seeds=np.arange(count),
        tasks=("touch the red cube", "play"),
        state_names=names,
        action_names=EE_ACTION_NAMES,
        environment_names=grounding,
        robot=spec.name,
        dt=spec.dt,
    )


def test_the_actor_does_what_demonstrations_do_as_far_as_anyone_went(episodes: EpisodeArrays) -> None:
    low, high = action_range(episodes, np.arange(6))
    np.testing.assert_allclose(low, [-0.2] * 3 + [0.0] * 4, atol=0.01)
    np.testing.assert_allclose(high, [0.2] * 3 + [0.0] * 4, atol=0.01)
    low, high = action_range(replace(episodes, success=np.zeros(len(episodes.success), bool)), np.arange(6))
    assert np.all(high - low > 0.2), "nobody says what is asked: all of it may be"


def test_the_model_stays_what_it_was_and_gains_an_actor(
    episodes, spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor_critic_training, "load_episodes", lambda root, cameras: episodes)
    out = tmp_path / "with_actor"
    training = ActorCriticTraining(steps=3, batch=8, held_out=0.4, dream=DreamConfig(horizon=3, hidden=16))
    report = train([Path("data/some")], MODEL, out, training)
    before, after = world_models.registry.find(MODEL), world_models.load(out, spec)
    assert after.actor_critic is not None
    old, new = read_manifest(before), read_manifest(out)
    assert new.encoder_id == old.encoder_id, "a goal in the old latent is a goal in the new one"
    for name in set(old.files) - {ACTOR_CRITIC_FILE}:
        assert (out / name).read_bytes() == (before / name).read_bytes()
    written = json.loads((out / "actor_critic_report.json").read_text())
    names = [figure["name"] for figure in written["figures"]]
    assert names == [figure.name for figure in report.figures]
    baselines = {"still", "recorded", "prior"}
    assert {f"actor.gain_{name}" for name in baselines} | {"critic.imagined_gain", "critic.true_gain"} <= set(
        names
    )
    command = (
        "wm-vla train actor-critic --world-model so101_latent_dynamics --dataset some --steps 3 --seed 0"
    )
    assert written["conditions"]["command"] == command
    with pytest.raises(FileExistsError, match="never overwritten"):
        train([Path("data/some")], MODEL, out, training)


def test_data_of_another_layout_are_refused(
    episodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(episodes, environment_names=tuple(f"other_{name}" for name in episodes.environment_names))
    monkeypatch.setattr(actor_critic_training, "load_episodes", lambda root, cameras: other)
    with pytest.raises(ValueError, match="grounding_names: the model so101_latent_dynamics has"):
        train([Path("data/some")], MODEL, tmp_path / "out", ActorCriticTraining(steps=3))
