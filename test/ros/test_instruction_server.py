"""The instruction action: refusals, ends of every kind, and one instruction at a time."""

from __future__ import annotations

import threading

import pytest
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node

from wm_vla_msgs.action import ExecuteInstruction
from wm_vla_ros.bringup.client import StackClient
from wm_vla_ros.clock import FakeClock
from wm_vla_ros.ros.instruction_server import InstructionServer

PATIENCE = 20.0


class Served:
    """A server whose `follow` does what the test says: runs until released, checking all the time."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ended: list[str] = []
        self.refused: list[str] = []
        self.release = threading.Event()
        self.following = threading.Semaphore(0)
        self.error: Exception | None = None
        self.node = Node("subject")
        self.server = InstructionServer(
            self.node,
            self.clock,
            time_limit=self.time_limit,
            follow=self.follow,
            ended=self.ended.append,
            refused=self.refused.append,
        )
        self.executor = MultiThreadedExecutor(4)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()

    def time_limit(self, instruction: str) -> float:
        if instruction == "dance":
            raise ValueError("unknown instruction 'dance'; valid: wave")
        return 5.0

    def follow(self, run) -> None:
        self.following.release()
        run.report(0.25, 0.5)
        while not self.release.wait(0.005):
            if self.error:
                raise self.error
            run.check()

    def close(self) -> None:
        self.server.stop()
        self.executor.shutdown()
        self.thread.join(timeout=5.0)
        self.server.destroy()
        self.node.destroy_node()


@pytest.fixture
def served(ros):
    made = Served()
    yield made
    made.close()


@pytest.fixture
def client(served, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(served.node.context.get_domain_id()))
    with StackClient() as made:
        yield made


def test_an_instruction_that_is_followed_to_its_end_succeeds(served, client):
    heard: list[ExecuteInstruction.Feedback] = []
    run = client.execute("wave", on_feedback=heard.append)
    assert served.following.acquire(timeout=PATIENCE)
    assert served.server.current == "wave"
    served.clock.advance(2.0)
    served.release.set()
    outcome = run.result(PATIENCE)
    assert (outcome.outcome, outcome.elapsed) == ("succeeded", 2.0)
    assert served.ended == ["wave"]
    assert (heard[0].distance, heard[0].predicted_success) == (0.25, 0.5)
    assert served.server.current == ""


@pytest.mark.parametrize("instruction, limit, words", [("dance", 0.0, "valid: wave"), ("wave", -1.0, "-1.0")])
def test_a_refused_instruction_is_rejected_and_the_words_are_told(served, client, instruction, limit, words):
    assert client.execute(instruction, time_limit=limit).result(PATIENCE).outcome == "rejected"
    assert words in served.refused[0]
    assert served.ended == []


def test_a_cancel_ends_it(served, client):
    run = client.execute("wave")
    assert served.following.acquire(timeout=PATIENCE)
    run.cancel()
    assert run.result(PATIENCE).outcome == "canceled"
    assert served.ended == ["wave"]


@pytest.mark.parametrize("given, limit", [(0.0, 5.0), (2.0, 2.0)])
def test_time_runs_out_by_the_instructions_own_limit_or_the_goals(served, client, given, limit):
    run = client.execute("wave", time_limit=given)
    assert served.following.acquire(timeout=PATIENCE)
    served.clock.advance(limit - 0.001)
    assert not run.done
    served.clock.advance(0.002)
    outcome = run.result(PATIENCE)
    assert outcome.outcome == "timed_out"
    assert f"{limit:g} s" in outcome.text


def test_a_newer_instruction_takes_over_and_the_goal_is_not_withdrawn_in_between(served, client):
    """Withdrawing the first one's goal after the second had set its own left the arm without any."""
    first = client.execute("wave")
    assert served.following.acquire(timeout=PATIENCE)
    second = client.execute("wave again")
    assert served.following.acquire(timeout=PATIENCE)
    assert first.result(PATIENCE).outcome == "canceled"
    assert served.ended == []
    served.release.set()
    assert second.result(PATIENCE).outcome == "succeeded"
    assert served.ended == ["wave again"]


def test_an_error_while_following_is_told_and_the_next_instruction_works(served, client):
    served.error = RuntimeError("the policy's output is not finite")
    outcome = client.execute("wave").result(PATIENCE)
    assert (outcome.outcome, outcome.text) == ("faulted", "the policy's output is not finite")
    assert "RuntimeError" in served.refused[0]
    assert served.ended == ["wave"]
    served.error = None
    served.release.set()
    assert client.execute("wave").result(PATIENCE).outcome == "succeeded"


def test_a_shutdown_ends_what_is_under_way_and_waits_for_it(served, client):
    run = client.execute("wave")
    assert served.following.acquire(timeout=PATIENCE)
    assert served.server.stop()
    assert run.result(PATIENCE).outcome == "faulted"
    assert served.ended == ["wave"]
