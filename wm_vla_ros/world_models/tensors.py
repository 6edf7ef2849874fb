"""Reading safetensors without trusting them: the header is judged before anything is allocated from it."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.world_models.manifest import ModelRefused

MAX_HEADER_BYTES = 1024 * 1024
_LENGTH = struct.Struct("<Q")


def read_float32(content: bytes, what: str) -> dict[str, NDArray[np.float32]]:
    """The tensors of a safetensors file, all float32.

    Raises ModelRefused, naming `what`, when the header is longer than the file or than 1 MiB, is not JSON,
    describes anything but float32, or when offsets and shapes disagree or values are not finite.
    """
    if len(content) < _LENGTH.size:
        raise ModelRefused(f"{what}: expected a safetensors header, found {len(content)} bytes")
    (length,) = _LENGTH.unpack_from(content)
    room = min(len(content) - _LENGTH.size, MAX_HEADER_BYTES)
    if length > room:
        raise ModelRefused(f"{what}: expected a header of at most {room} bytes, found {length}")
    try:
        header = json.loads(content[_LENGTH.size : _LENGTH.size + length])
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        body = memoryview(content)[_LENGTH.size + length :]
        return {name: _tensor(entry, body, f"{what}: {name}") for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ModelRefused):
            raise
        raise ModelRefused(f"{what}: expected a safetensors header, found {error!r}") from error


def _tensor(entry: dict, body: memoryview, what: str) -> NDArray[np.float32]:
    shape = tuple(int(size) for size in entry["shape"])
    begin, end = (int(offset) for offset in entry["data_offsets"])
    if entry["dtype"] != "F32":
        raise ModelRefused(f"{what}: expected dtype F32, found {entry['dtype']}")
    if any(size < 0 for size in shape) or end - begin != 4 * math.prod(shape):
        raise ModelRefused(f"{what}: expected {4 * math.prod(shape)} bytes for {shape}, found {end - begin}")
    if not 0 <= begin <= end <= len(body):
        raise ModelRefused(f"{what}: expected offsets within {len(body)} bytes, found {begin}..{end}")
    values = np.frombuffer(body[begin:end], dtype="<f4").reshape(shape).astype(np.float32)
    if not np.all(np.isfinite(values)):
        raise ModelRefused(f"{what}: expected finite values, found NaN or infinity")
    return values
