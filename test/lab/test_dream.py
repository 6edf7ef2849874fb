"""Learning in the dream: the returns by hand, and that actor and critic find what a dream pays for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from wm_vla_ros.lab.dream import DreamConfig, Dreamer, ReturnRange, lambda_returns, step
from wm_vla_ros.world_models.rssm_config import RssmConfig
from wm_vla_ros.world_models.rssm_core import Rssm, State

STEPS = st.lists(st.tuples(st.floats(-10, 10), st.floats(-100, 100), st.floats(0, 1)), min_size=1, max_size=8)


def by_hand(rows: list[tuple[float, float, float]], mix: float) -> float:
    """Return of the first row, as the definition recurses."""
    (reward, value, discount), rest = rows[0], rows[1:]
    following = by_hand(rest, mix) if rest else value
    return reward + discount * ((1 - mix) * value + mix * following)


class TestReturns:
    @given(STEPS, st.floats(0, 1))
    def test_they_are_the_recursion(self, rows: list[tuple[float, float, float]], mix: float) -> None:
        parts = torch.tensor(rows, dtype=torch.float64).unbind(-1)
        expected = [by_hand(rows[first:], mix) for first in range(len(rows))]
        assert lambda_returns(*parts, mix).tolist() == pytest.approx(expected, abs=1e-9)

    def test_nothing_counts_beyond_an_end(self) -> None:
        rewards, values = torch.tensor([1.0, 1.0, 100.0]), torch.tensor([5.0, 100.0, 100.0])
        discounts = torch.tensor([0.5, 0.0, 0.5])
        assert lambda_returns(rewards, values, discounts, 1.0).tolist()[:2] == [1.5, 1.0]


class TestReturnRange:
    def test_outliers_do_not_set_the_scale(self) -> None:
        returns = torch.cat([torch.linspace(0, 100, 1001), torch.tensor([1e4])])
        assert ReturnRange(0.01).follow(returns) == pytest.approx(90.0, rel=0.02)

    def test_small_returns_are_not_blown_up(self) -> None:
        assert ReturnRange(0.01).follow(torch.linspace(0, 1e-3, 100)) == 1.0

    def test_it_follows_slowly(self) -> None:
        running = ReturnRange(0.1)
        running.follow(torch.linspace(0, 100, 1001))
        assert running.follow(torch.linspace(0, 1000, 1001)) == pytest.approx(90 + 0.1 * 810, rel=1e-3)


class Line(Rssm):
    """A world by hand, in an RSSM's clothes: x moves by 0.3 a, the reward is minus the distance to 1."""

    def __init__(self) -> None:
        super().__init__(RssmConfig(1, 1, deterministic=1, variables=1, hidden=8))

    def imagine(self, state: State, action: Tensor, sample: bool = True) -> State:
        x = state.deterministic + 0.3 * action
        return State(x, torch.zeros_like(x))

    def reward(self, state: State) -> Tensor:
        return -(state.deterministic[..., 0] - 1.0).abs()

    def going_on(self, state: State) -> Tensor:
        return torch.ones_like(state.deterministic[..., 0])


@pytest.fixture(scope="module")
def learned() -> Dreamer:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dreamer = Dreamer(Line(), DreamConfig(horizon=5, discount=0.8, hidden=32, actor_rate=1e-3))
    for _ in range(400):
        x = torch.rand(64, 1) * 6 - 2
        dreamer.update(State(x, torch.zeros_like(x)))
    return dreamer


def at(*places: float) -> State:
    x = torch.tensor(places)[:, None]
    return State(x, torch.zeros_like(x))


class TestDreamer:
    def test_the_actor_goes_where_the_dream_pays(self, learned: Dreamer) -> None:
        left, right = learned.act(at(-1.0, 3.0), sample=False)[:, 0].tolist()
        assert left > 0.8
        assert right < -0.8

    def test_the_critic_knows_what_a_place_is_worth(self, learned: Dreamer) -> None:
        """From 3: 1.7, 1.4, ... 0.2 away, then about 0.1; discounted by 0.8 a step."""
        far, near = learned.critic.value(at(3.0, 1.0).features).tolist()
        best = -sum(0.8**n * max(0.0, 1.7 - 0.3 * n) for n in range(20))
        assert far == pytest.approx(best, rel=0.15)
        assert near > -1.0

    def test_actions_are_within_bounds(self, learned: Dreamer) -> None:
        torch.manual_seed(0)
        actions = learned.act(at(*[-1.0] * 200), sample=True)
        assert actions.max() == 1.0
        assert len(actions.unique()) > 10

    def test_the_model_is_not_trained_by_its_dreamer(self) -> None:
        """An actor that could bend the world to its wishes would."""
        torch.manual_seed(0)
        model = Rssm(RssmConfig(1, 1, deterministic=8, variables=4, hidden=8))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        Dreamer(model, DreamConfig(horizon=3, hidden=8)).update(model.initial(4))
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())

    def test_the_slow_critic_follows(self) -> None:
        torch.manual_seed(0)
        dreamer = Dreamer(Line(), DreamConfig(horizon=3, hidden=8, slow=0.25))
        before = [weight.clone() for weight in dreamer.slow_critic.parameters()]
        dreamer.update(at(0.0, 3.0))
        for old, slow, new in zip(
            before, dreamer.slow_critic.parameters(), dreamer.critic.parameters(), strict=True
        ):
            torch.testing.assert_close(slow, old + 0.25 * (new - old))


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    network = nn.Linear(1, 1)
    before = network.weight.clone()
    loss = network(torch.tensor([[float("nan")]])).sum()
    with pytest.raises(FloatingPointError, match="the loss of Linear is nan"):
        step(loss, network, torch.optim.Adam(network.parameters()), 1.0)
    assert torch.equal(network.weight, before)
