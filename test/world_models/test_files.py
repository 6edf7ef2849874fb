"""Files that were cut, altered, swapped or moved are refused before anything is made of them."""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from wm_vla_ros import world_models
from wm_vla_ros.world_models import manifest as manifest_module
from wm_vla_ros.world_models.manifest import MANIFEST_NAME, ModelRefused, is_plain_name, read_manifest
from wm_vla_ros.world_models.tensors import read_float32

FILES = ("encoder.onnx", "step.onnx", "rollout.onnx", "grounding.safetensors", "weights.safetensors")


def test_the_manifest_names_every_file(exported: Path) -> None:
    assert set(read_manifest(exported).files) == set(FILES)
    assert {path.name for path in exported.iterdir()} == {*FILES, MANIFEST_NAME}


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 0x10
    (folder / name).write_bytes(content)
    with pytest.raises(
        ModelRefused, match=f"sha256 of {name}: expected [0-9a-f]{{64}}, found [0-9a-f]{{64}}"
    ):
        world_models.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_truncated_file_is_refused(folder: Path, name: str) -> None:
    os.truncate(folder / name, 100)
    with pytest.raises(ModelRefused, match=f"sha256 of {name}"):
        world_models.load(folder)


def test_missing_file_is_refused(folder: Path) -> None:
    (folder / "step.onnx").unlink()
    with pytest.raises(ModelRefused, match=r"expected file step.onnx, found none"):
        world_models.load(folder)


def test_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere.onnx"
    outside.write_bytes((folder / "step.onnx").read_bytes())
    (folder / "step.onnx").unlink()
    (folder / "step.onnx").symlink_to(outside)
    with pytest.raises(ModelRefused, match=r"expected step.onnx inside"):
        world_models.load(folder)


def test_oversized_file_is_refused_by_its_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged from the directory entry: nothing of it is read into memory."""
    monkeypatch.setattr(manifest_module, "MAX_FILE_BYTES", 1000)
    with pytest.raises(ModelRefused, match=r"expected at most 1000 bytes, found \d+"):
        world_models.load(folder)


def test_file_that_is_no_onnx_is_refused_even_with_its_own_sha256(folder: Path) -> None:
    path = folder / MANIFEST_NAME
    raw = json.loads(path.read_text())
    (folder / "step.onnx").write_bytes(b"not a graph")
    raw["files"]["step.onnx"] = manifest_module.sha256_of(b"not a graph")
    path.write_text(json.dumps(raw))
    with pytest.raises(ModelRefused, match=r"step.onnx: expected an ONNX model that loads"):
        world_models.load(folder)


@pytest.mark.parametrize("name", ["../small_model", "models/../../small_model", "/usr/../small_model"])
def test_name_that_climbs_is_refused(name: str) -> None:
    with pytest.raises(ModelRefused, match=re.escape(f"without '..', found {name!r}")):
        world_models.load(name)


@pytest.mark.parametrize("name", ["", ".hidden", "a b", "a\x00b", "..", "~root", "a\nb"])
def test_name_that_is_neither_name_nor_path_is_refused(name: str) -> None:
    assert not is_plain_name(name)
    with pytest.raises(ModelRefused, match="expected a"):
        world_models.load(name)


def test_unknown_name_lists_the_models_that_there_are(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world_models.registry.paths, "models_dir", lambda: exported.parent)
    assert world_models.available() == ("small_model",)
    assert world_models.load("small_model").manifest.name == "small_model"
    with pytest.raises(ModelRefused, match="unknown world model 'big_model'; available: small_model"):
        world_models.load("big_model")


class TestSafetensors:
    GOOD = save({"weight": np.arange(6, dtype=np.float32).reshape(2, 3)})

    def test_reads_what_was_written(self) -> None:
        np.testing.assert_array_equal(read_float32(self.GOOD, "x")["weight"], np.arange(6).reshape(2, 3))

    @pytest.mark.parametrize("length", [2**63, 2**40, 1_048_577, 200])
    def test_header_longer_than_the_file_is_refused_unread(self, length: int) -> None:
        """A header of 2^63 bytes must be refused by its number, not by an allocation that fails."""
        with pytest.raises(ModelRefused, match=rf"x: expected a header of at most \d+ bytes, found {length}"):
            read_float32(struct.pack("<Q", length) + self.GOOD[8:], "x")

    def test_empty_file_is_refused(self) -> None:
        with pytest.raises(ModelRefused, match="expected a safetensors header, found 3 bytes"):
            read_float32(b"abc", "x")

    @pytest.mark.parametrize(
        "entry, message",
        [
            ({"dtype": "F64", "shape": [3], "data_offsets": [0, 24]}, "expected dtype F32, found F64"),
            ({"dtype": "F32", "shape": [4], "data_offsets": [0, 24]}, "expected 16 bytes for (4,), found 24"),
            ({"dtype": "F32", "shape": [60], "data_offsets": [0, 240]}, "expected offsets within 24 bytes"),
            ({"dtype": "F32", "shape": [6], "data_offsets": [-24, 0]}, "expected offsets within 24 bytes"),
            ({"dtype": "F32", "shape": [-6], "data_offsets": [24, 0]}, "for (-6,)"),
            ({"dtype": "F32", "shape": [6]}, "expected a safetensors header"),
            ([], "expected a safetensors header"),
        ],
    )
    def test_header_that_lies_is_refused(self, entry: object, message: str) -> None:
        header = json.dumps({"weight": entry}).encode()
        content = struct.pack("<Q", len(header)) + header + bytes(24)
        with pytest.raises(ModelRefused, match=re.escape(message)):
            read_float32(content, "x")

    def test_nan_is_refused(self) -> None:
        with pytest.raises(ModelRefused, match="x: weight: expected finite values"):
            read_float32(save({"weight": np.array([1.0, np.nan], np.float32)}), "x")
