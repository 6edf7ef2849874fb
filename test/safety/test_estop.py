"""The latch: what sets it, what does not release it, and that a restart does not forget it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wm_vla_ros.safety.estop import EStop, LatchStoreError, default_latch_file


def test_latches_until_reset_and_keeps_the_first_cause() -> None:
    estop = EStop()
    assert not estop.latched
    estop.latch("button", "hit")
    estop.latch("watchdog", "later")
    assert estop.reason == "button: hit"
    estop.reset()
    assert not estop.latched
    assert estop.reason == ""


def test_releasing_a_button_is_no_reset() -> None:
    estop = EStop()
    estop.set_input("left", True)
    estop.set_input("right", True)
    with pytest.raises(ValueError, match="left, right"):
        estop.reset()
    estop.set_input("left", False)
    estop.set_input("right", False)
    assert estop.latched
    estop.reset()
    assert not estop.latched


def test_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state" / "arm.estop"
    EStop(path).latch("button", "hit")
    again = EStop(path)
    assert again.latched
    assert "button: hit" in again.reason
    again.reset()
    assert not EStop(path).latched
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"other": 1}', b"\xff\xfe", b"null"])
def test_an_unreadable_latch_is_latched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "arm.estop"
    path.write_bytes(content)
    assert EStop(path).latched


def test_latches_even_when_it_cannot_be_kept(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way of the folder")
    estop = EStop(blocked / "arm.estop")
    with pytest.raises(LatchStoreError, match="file"):
        estop.latch("button", "hit")
    assert estop.latched


def test_default_file_is_in_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_latch_file("arm") == tmp_path / "wm_vla_ros" / "arm.estop"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_latch_file("arm") == tmp_path / ".local" / "state" / "wm_vla_ros" / "arm.estop"


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "../arm"])
def test_a_name_that_leaves_the_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="one path component"):
        default_latch_file(name)
