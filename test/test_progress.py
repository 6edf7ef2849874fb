"""Progress goes to stderr, and is short where nobody watches."""

from __future__ import annotations

import pytest

from wm_vla_ros.progress import bar


def test_without_a_terminal_there_are_some_twenty_lines_and_none_on_stdout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with bar("counting", 1000) as update:
        for done in range(1, 1001):
            update(done, note=f"at {done}")
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.strip().splitlines()
    assert 15 <= len(lines) <= 25
    assert lines[-1] == "counting: 100% at 1000"
