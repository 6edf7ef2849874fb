"""FAULTS 53 to 56: files of a model that are cut, altered, hostile, lying or somewhere else.

Each is refused by `world_models.load`, by which every node takes its model, before any of it
is used. What a single check says is tested beside it, in test_files.py and test_manifest.py; checkpoints and
data sets in test/training.
"""

from __future__ import annotations

import io
import json
import os
import pickle  # noqa: TID251, to make what must never be opened
import re
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from wm_vla_ros import world_models
from wm_vla_ros.world_models.manifest import MANIFEST_NAME, ModelRefused, read_manifest, sha256_of
from wm_vla_ros.world_models.tensors import read_float32

TENSORS = ("grounding.safetensors", "weights.safetensors")


def put(folder: Path, name: str, content: bytes) -> None:
    """Write a file of the model, and its true sha256 into the manifest: the worst that a sender can do."""
    (folder / name).write_bytes(content)
    path = folder / MANIFEST_NAME
    raw = json.loads(path.read_text())
    raw["files"][name] = sha256_of(content)
    if name == raw["encoder_file"]:
        raw["encoder_id"] = f"{raw['name']}-{raw['files'][name][:12]}"
    path.write_text(json.dumps(raw))


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
@pytest.mark.parametrize("damage", ["cut to nothing", "cut", "flipped", "longer"])
def test_fault_53_a_damaged_file_is_refused_within_5_s(folder: Path, damage: str, runtime: str) -> None:
    for name in read_manifest(folder).files:
        whole = (folder / name).read_bytes()
        middle = len(whole) // 2
        spoilt = {
            "cut to nothing": b"",
            "cut": whole[:middle],
            "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "longer": whole + b"\0",
        }[damage]
        (folder / name).write_bytes(spoilt)
        began = time.monotonic()
        with pytest.raises(ModelRefused, match=f"sha256 of {name}: expected"):
            world_models.load(folder, runtime=runtime)
        assert time.monotonic() - began < 5.0
        (folder / name).write_bytes(whole)
    world_models.load(folder)


def pickles(canary: Path) -> dict[str, bytes]:
    """What loaders have been known to unpickle: plain, and both of torch.save's formats."""
    import torch

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(canary),)

    old, new = io.BytesIO(), io.BytesIO()
    torch.save(Evil(), old, _use_new_zipfile_serialization=False)
    torch.save(Evil(), new)
    return {"plain": pickle.dumps(Evil()), "torch": old.getvalue(), "zip": new.getvalue()}


@pytest.mark.parametrize("kind", ["plain", "torch", "zip"])
def test_fault_54_a_pickle_under_another_name_is_never_opened(
    folder: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    content = pickles(canary)[kind]
    opened: list[object] = []
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, lambda *given, **options: opened.append(given))
    for runtime in ("onnx", "torch"):
        for name in read_manifest(folder).files:
            if runtime == "onnx" and name == "weights.safetensors":
                continue  # nobody reads it there
            whole = (folder / name).read_bytes()
            put(folder, name, content)
            with pytest.raises(ModelRefused):
                world_models.load(folder, runtime=runtime)
            put(folder, name, whole)
    raw = json.loads((folder / MANIFEST_NAME).read_text())
    (folder / "weights.pt").write_bytes(content)
    raw["files"]["weights.pt"] = sha256_of(content)
    (folder / MANIFEST_NAME).write_text(json.dumps(raw))
    world_models.load(folder)  # a file that nobody asks for is hashed, and lies there
    assert opened == []
    assert not canary.exists()


def safetensors(entries: dict, body: bytes) -> bytes:
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + body


SIZE = 8 * 1024 * 1024
LIES = {
    "wrong shape": lambda: save({"weight": np.zeros((SIZE // 8, 2), np.float32)}),
    "NaN at the end": lambda: save({"weight": np.r_[np.zeros(SIZE // 4 - 1, np.float32), np.float32("nan")]}),
    "huge header": lambda: struct.pack("<Q", 2**62) + bytes(SIZE),
    "header of 100 MB": lambda: struct.pack("<Q", 100_000_000) + bytes(SIZE),
    "huge tensor": lambda: safetensors(
        {"weight": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, bytes(SIZE)
    ),
    "a thousand tensors on the same bytes": lambda: safetensors(
        {f"t{n}": {"dtype": "F32", "shape": [SIZE // 4], "data_offsets": [0, SIZE]} for n in range(1000)},
        bytes(SIZE),
    ),
    "deep header": lambda: struct.pack("<Q", 900_000) + b"[" * 900_000 + bytes(SIZE),
}


@pytest.mark.parametrize("name", sorted(LIES))
def test_fault_55_a_file_that_lies_is_refused_before_it_costs_twice_its_size(folder: Path, name: str) -> None:
    """Reading it takes once its size; judging it may take less than once more."""
    content = LIES[name]()
    put(folder, "grounding.safetensors", content)
    manifest_bytes = sum(len((folder / each).read_bytes()) for each in read_manifest(folder).files)
    size, rest = len(content), manifest_bytes - len(content)
    del content
    tracemalloc.start()
    try:
        with pytest.raises(ModelRefused):
            world_models.load(folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * size + rest


@pytest.mark.parametrize("name", sorted(set(LIES) - {"wrong shape"}))
def test_fault_55_judging_alone_costs_a_fraction_of_the_file(name: str) -> None:
    content = LIES[name]()
    tracemalloc.start()
    try:
        with pytest.raises(ModelRefused):
            read_float32(content, "x")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.5 * len(content)


def test_fault_55_weights_of_another_shape_are_named(folder: Path) -> None:
    tensors = read_float32((folder / "weights.safetensors").read_bytes(), "x")
    name = "dynamics.hidden.weight"
    put(folder, "weights.safetensors", save(tensors | {name: tensors[name][:, :-1].copy()}))
    with pytest.raises(ModelRefused, match=re.escape("size mismatch for hidden.weight")):
        world_models.load(folder, runtime="torch")
    put(folder, "weights.safetensors", save(tensors | {name: np.full_like(tensors[name], np.nan)}))
    with pytest.raises(ModelRefused, match=f"{name}: expected finite values"):
        world_models.load(folder, runtime="torch")


@pytest.mark.parametrize(
    "name", ["../secret", "/secret", "a/../../secret", "..", ".", "~", "a\\b", "secret\n", "C:secret"]
)
def test_fault_56_no_name_in_a_manifest_leaves_the_folder(folder: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    raw = json.loads((folder / MANIFEST_NAME).read_text())
    for changed in (
        raw | {"files": raw["files"] | {name: sha256_of(b"x")}},
        raw | {"name": name},
        raw | {"encoder_file": name},
    ):
        (folder / MANIFEST_NAME).write_text(json.dumps(changed))
        with pytest.raises(ModelRefused, match="expected (a )?plain"):
            world_models.load(folder)


@pytest.mark.parametrize("name", ["../models/x", "models/../../x", "/usr/../x", "..", "./../x"])
def test_fault_56_no_name_of_a_model_climbs(name: str) -> None:
    with pytest.raises(ModelRefused, match="without '..'|expected a"):
        world_models.load(name)


def test_fault_56_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    for name in read_manifest(folder).files:
        inside, outside = folder / name, tmp_path / f"outside_{name}"
        inside.rename(outside)
        inside.symlink_to(outside)
        with pytest.raises(ModelRefused, match=f"expected {name} inside"):
            world_models.load(folder)
        inside.unlink()
        outside.rename(inside)
