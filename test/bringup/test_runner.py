"""The runner on children that misbehave on purpose: small Python processes, no ROS."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from wm_vla_ros.bringup import runner as runner_module
from wm_vla_ros.bringup.runner import REFUSED, StackRunner
from wm_vla_ros.bringup.stack import NodeSpec, OnExit, StackSpec
from wm_vla_ros.clock import MonotonicClock

READY = "print('ready', flush=True)"
SLEEP = "import time; time.sleep(60)"
OBEDIENT = f"try:\n    {READY}\n    {SLEEP}\nexcept KeyboardInterrupt:\n    print('bye', flush=True)"
STUBBORN = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{READY}\n{SLEEP}"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{STUBBORN}"
PATIENCE = 20.0


class Log:
    """Lines from every reader thread; waits for one to come."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._news:
            self.lines.append(line)
            self._news.notify_all()

    def wait_for(self, line: str, count: int = 1) -> None:
        with self._news:
            arrived = self._news.wait_for(lambda: self.lines.count(line) >= count, PATIENCE)
        assert arrived, f"{line!r} did not come; got {self.lines}"


def stack(**scripts: str | tuple[str, OnExit]) -> StackSpec:
    nodes = []
    for name, script in scripts.items():
        code, on_exit = script if isinstance(script, tuple) else (script, OnExit.REPORT)
        nodes.append(NodeSpec(name, code, on_exit, Path("none.yaml"), environment={"COLOUR": name}))
    return StackSpec("test", "", tuple(nodes))


def python(node: NodeSpec, _namespace: str) -> list[str]:
    return [sys.executable, "-c", node.executable]


def start(spec: StackSpec, log: Log) -> StackRunner:
    return StackRunner(spec, log, command=python)


def poll_until(runner: StackRunner, count: int) -> list:
    ended, deadline = [], time.monotonic() + PATIENCE
    while len(ended) < count and time.monotonic() < deadline:
        ended += runner.poll()
    assert len(ended) >= count
    return ended


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_every_line_carries_its_nodes_name_and_the_environment_is_the_nodes_own():
    log, spec = (
        Log(),
        stack(a="import os; print(os.environ['COLOUR'])", b="import sys; sys.stderr.write('x\\ny')"),
    )
    with start(spec, log) as runner:
        poll_until(runner, 2)
    assert {"[a] a", "[b] x", "[b] y"} <= set(log.lines)


def test_leaving_ends_every_child_with_sigint_and_lets_it_say_goodbye():
    log = Log()
    with start(stack(a=OBEDIENT, b=OBEDIENT), log) as runner:
        pids = runner.pids().values()
        log.wait_for("[a] ready")
        log.wait_for("[b] ready")
    assert {"[a] bye", "[b] bye"} <= set(log.lines)
    assert all(gone(pid) for pid in pids)


def test_a_child_is_in_the_session_of_the_runner_and_out_of_reach_of_its_terminals_ctrl_c():
    """In a session of its own its niceness counted against nobody, and the kernel let it wait for seconds."""
    log = Log()
    with start(stack(a=OBEDIENT), log) as runner:
        log.wait_for("[a] ready")
        (pid,) = runner.pids().values()
        assert os.getsid(pid) == os.getsid(0)
        assert os.getpgid(pid) == pid != os.getpgid(0)


@pytest.mark.parametrize("script, needed", [(STUBBORN, "SIGTERM"), (DEAF, "SIGKILL")])
def test_a_child_that_does_not_obey_gets_the_next_stronger_signal(monkeypatch, script, needed):
    monkeypatch.setattr(
        runner_module, "GRACE", ((signal.SIGINT, 0.3), (signal.SIGTERM, 0.3), (signal.SIGKILL, 5.0))
    )
    log = Log()
    with start(stack(a=script, b=OBEDIENT), log) as runner:
        pid = runner.pid("a")
        log.wait_for("[a] ready")
        log.wait_for("[b] ready")
    assert gone(pid)
    assert f"[test] a had to be ended with {needed}" in log.lines
    assert "[b] bye" in log.lines


def test_an_exception_in_the_block_still_ends_every_child():
    log, pids = Log(), []

    def block() -> None:
        with start(stack(a=OBEDIENT), log) as runner:
            pids.append(runner.pid("a"))
            log.wait_for("[a] ready")
            raise RuntimeError("oops")

    with pytest.raises(RuntimeError, match="oops"):
        block()
    assert gone(pids[0])


def test_a_killed_node_is_reported_by_name_and_signal_and_the_rest_goes_on():
    log = Log()
    with start(stack(a=OBEDIENT, b=OBEDIENT), log) as runner:
        log.wait_for("[a] ready")
        os.kill(runner.pid("a"), signal.SIGKILL)
        (ended,) = poll_until(runner, 1)
        assert (ended.node.name, ended.code, ended.restarted) == ("a", -signal.SIGKILL, False)
        assert "[test] a was killed by SIGKILL" in log.lines
        assert list(runner.pids()) == ["b"]
        assert not gone(runner.pid("b"))


def test_a_node_that_is_to_be_restarted_is_and_one_that_dies_young_is_not(monkeypatch):
    log = Log()
    with start(stack(a=(OBEDIENT, OnExit.RESTART)), log) as runner:
        log.wait_for("[a] ready")
        monkeypatch.setattr(runner_module, "_RESTART_AFTER", 0.0)
        os.kill(runner.pid("a"), signal.SIGKILL)
        assert poll_until(runner, 1)[0].restarted
        log.wait_for("[a] ready", count=2)
        monkeypatch.setattr(runner_module, "_RESTART_AFTER", 1e9)
        os.kill(runner.pid("a"), signal.SIGKILL)
        assert not poll_until(runner, 1)[0].restarted
        assert runner.pids() == {}


@pytest.mark.parametrize(
    "scripts, why",
    [
        ({"a": ("raise SystemExit(0)", OnExit.STOP)}, "a ended with exit code 0"),
        ({"a": f"raise SystemExit({REFUSED})"}, "a refused to start, see its last lines"),
    ],
)
def test_a_stack_that_cannot_go_on_ends_with_an_error_and_says_why(scripts, why):
    log = Log()
    with start(stack(**scripts, b=OBEDIENT), log) as runner:
        pid = runner.pid("b")
        assert runner.run(lambda: False) == 1
    assert f"[test] {why}" in log.lines
    assert "[test] cannot go on without a, ending the stack" in log.lines
    assert gone(pid)


@pytest.mark.parametrize("victim, code", [(None, 0), ("a", 1)])
def test_the_exit_code_tells_whether_every_node_lived_until_the_end(victim, code):
    log, stop = Log(), threading.Event()

    def end_it() -> None:
        log.wait_for("[a] ready")
        log.wait_for("[b] ready")
        if victim:
            os.kill(runner.pid(victim), signal.SIGKILL)
            log.wait_for("[test] a was killed by SIGKILL")
        stop.set()

    with start(stack(a=OBEDIENT, b=OBEDIENT), log) as runner:
        ender = threading.Thread(target=end_it)
        ender.start()
        assert runner.run(stop.is_set) == code
        ender.join()


def test_a_node_that_is_told_to_end_together_with_the_runner_has_not_failed():
    log, told = Log(), []

    class WhileItSleeps(MonotonicClock):
        def sleep_until(self, moment: float) -> None:
            if not told:
                told.append(True)
                victim = runner.pid("a")
                os.kill(victim, signal.SIGTERM)
                os.waitid(os.P_PID, victim, os.WEXITED | os.WNOWAIT)
            super().sleep_until(moment)

    runner = StackRunner(stack(a=OBEDIENT, b=OBEDIENT), log, WhileItSleeps(), python)
    with runner:
        log.wait_for("[a] ready")
        assert runner.run(lambda: told) == 0


def test_a_command_that_cannot_be_started_leaves_no_child_behind():
    """The second node's program is missing: the first one, already running, must not be orphaned."""
    seen = []

    def command(node: NodeSpec, _namespace: str) -> list[str]:
        return ["/does/not/exist"] if node.name == "b" else [sys.executable, "-c", OBEDIENT]

    runner = StackRunner(stack(a=OBEDIENT, b=OBEDIENT), seen.append, command=command)
    with pytest.raises(FileNotFoundError), runner:
        pass
    assert runner.pids() == {}


def test_asking_for_a_node_that_does_not_run_lists_those_that_do():
    with start(stack(a=OBEDIENT), Log()) as runner, pytest.raises(ValueError, match="'x'; running: a"):
        runner.pid("x")
