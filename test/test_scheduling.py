"""Scheduling that is asked for reaches every thread, and what is refused is said once."""

from __future__ import annotations

import os
import threading

import pytest

from wm_vla_ros.scheduling import (
    be_nice,
    fifo_permitted,
    give_way,
    keep_to_last_core,
    leave_a_core,
    request_fifo,
)


def test_every_thread_is_asked_for_and_the_loop_last_and_highest(monkeypatch):
    """The executor's thread, passed over while it held the interpreter lock, made the planner miss ticks."""
    asked = []
    monkeypatch.setattr(
        os, "sched_setscheduler", lambda tid, _, param: asked.append((tid, param.sched_priority))
    )
    other = threading.Event()
    helper = threading.Thread(target=other.wait)
    helper.start()
    assert request_fifo(10, 20, pytest.fail)
    other.set()
    helper.join()
    assert asked[-1] == (threading.get_native_id(), 20)
    assert (helper.native_id, 10) in asked


def test_a_refused_real_time_request_is_one_warning_with_the_cure(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    said = []
    assert not request_fifo(10, 20, said.append)
    assert len(said) == 1
    assert "limits.d" in said[0]


def test_niceness_reaches_every_thread(monkeypatch):
    """os.nice in one thread left the thread that infers at normal priority, beside the fast loop."""
    asked = []
    monkeypatch.setattr(os, "setpriority", lambda _, tid, value: asked.append((tid, value)))
    other = threading.Event()
    helper = threading.Thread(target=other.wait)
    helper.start()
    be_nice(5)
    other.set()
    helper.join()
    assert {(helper.native_id, 5), (threading.get_native_id(), 5)} <= set(asked)


def test_trying_real_time_leaves_this_thread_alone():
    before = os.sched_getscheduler(0)
    fifo_permitted()
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize(
    ("permitted", "priority", "nice"), [(True, 20, False), (True, 0, True), (False, 20, True)]
)
def test_only_a_fast_loop_without_real_time_needs_others_to_be_nice(monkeypatch, permitted, priority, nice):
    """A nice policy gives way to every program of the machine, not to the fast loop alone."""

    def answer(*_):
        if not permitted:
            raise PermissionError

    asked = []
    monkeypatch.setattr(os, "sched_setscheduler", answer)
    monkeypatch.setattr(os, "setpriority", lambda _, tid, value: asked.append(value))
    give_way(5, priority)
    assert bool(asked) == nice


def test_priority_zero_asks_for_nothing(monkeypatch):
    monkeypatch.delattr(os, "sched_setscheduler")
    said = []
    assert not request_fifo(10, 0, said.append)
    assert said == []


@pytest.mark.parametrize(("ask", "cores"), [(leave_a_core, {1, 4}), (keep_to_last_core, {6})])
def test_the_last_core_is_left_or_kept_to_by_every_thread(monkeypatch, ask, cores):
    """Threads made later inherit it from the one that makes them."""
    asked = {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 4, 6})
    monkeypatch.setattr(os, "sched_setaffinity", lambda task, cores: asked.update({task: set(cores)}))
    other = threading.Event()
    helper = threading.Thread(target=other.wait)
    helper.start()
    ask()
    other.set()
    helper.join()
    assert asked[helper.native_id] == asked[threading.get_native_id()] == cores


def test_the_only_core_is_not_left(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2})
    monkeypatch.delattr(os, "sched_setaffinity")
    leave_a_core()
