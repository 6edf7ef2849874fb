"""config/defaults.yaml: the one place that names a robot and models."""

from __future__ import annotations

import pytest

from wm_vla_ros import config, paths
from wm_vla_ros.robots.spec import available_robots


@pytest.fixture
def fresh():
    config.defaults.cache_clear()
    yield config.defaults
    config.defaults.cache_clear()


def test_the_default_robot_exists(fresh) -> None:
    assert fresh().robot in available_robots()


@pytest.mark.parametrize(
    "text", ["robot: a\npolicy: b\n", "robot: a\npolicy: b\nworld_model: c\ncolour: red\n", ""]
)
def test_unknown_or_missing_keys_are_named(fresh, monkeypatch, tmp_path, text: str) -> None:
    (tmp_path / "defaults.yaml").write_text(text)
    monkeypatch.setattr(paths, "config_dir", lambda: tmp_path)
    with pytest.raises(ValueError, match=r"exactly \['policy', 'robot', 'world_model'\]"):
        fresh()
