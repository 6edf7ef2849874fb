"""Reading safetensors without trusting them: the header is judged before anything is allocated from it."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.world_models.manifest import ModelRefused

MAX_HEADER_BYTES = 1024 * 1024
_LENGTH = struct.Struct("<Q")
_DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U8": "|u1", "BOOL": "|b1"}
# Values looked at in one go.
_JUDGED = 1 << 16


def read_float32(content: bytes, what: str) -> dict[str, NDArray[np.float32]]:
    """The tensors of a safetensors file, all float32: `read_tensors`, refusing any other dtype."""
    return read_tensors(content, what, ("F32",))


def read_tensors(content: bytes, what: str, dtypes: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """The tensors of a safetensors file, read-only, where they lie in `content`; dtypes: of `_DTYPES`.

    Nothing is copied: a file that is refused never costs a second time its size. Raises ModelRefused, naming
    `what`, when the header is longer than the file or than 1 MiB, is not JSON, describes another dtype, when
    offsets and shapes disagree or tensors share bytes, or when values are not finite.
    """
    try:
        header, body = _open(content, what)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        views = {name: _view(entry, body, f"{what}: {name}", dtypes) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, ModelRefused):
            raise
        raise ModelRefused(f"{what}: expected a safetensors header, found {error!r}") from error
    if sum(view.nbytes for view in views.values()) > len(body):
        raise ModelRefused(f"{what}: expected tensors that share no bytes, found offsets that overlap")
    for name, view in views.items():
        if view.dtype.kind == "f" and not _finite(view.reshape(-1)):
            raise ModelRefused(f"{what}: {name}: expected finite values, found NaN or infinity")
    return {name: np.require(view, requirements="A") for name, view in views.items()}


def read_metadata(content: bytes, what: str) -> dict[str, str]:
    """What a safetensors file says of itself, in words. Raises ModelRefused as `read_tensors`."""
    try:
        about = _open(content, what)[0].get("__metadata__", {})
        return {str(name): str(value) for name, value in about.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, ModelRefused):
            raise
        raise ModelRefused(f"{what}: expected a safetensors header, found {error!r}") from error


def _open(content: bytes, what: str) -> tuple[dict, memoryview]:
    """Header and body."""
    if len(content) < _LENGTH.size:
        raise ModelRefused(f"{what}: expected a safetensors header, found {len(content)} bytes")
    (length,) = _LENGTH.unpack_from(content)
    room = min(len(content) - _LENGTH.size, MAX_HEADER_BYTES)
    if length > room:
        raise ModelRefused(f"{what}: expected a header of at most {room} bytes, found {length}")
    header = json.loads(content[_LENGTH.size : _LENGTH.size + length])
    return header, memoryview(content)[_LENGTH.size + length :]


def _view(entry: dict, body: memoryview, what: str, dtypes: tuple[str, ...]) -> NDArray[Any]:
    shape = tuple(int(size) for size in entry["shape"])
    begin, end = (int(offset) for offset in entry["data_offsets"])
    if entry["dtype"] not in dtypes:
        raise ModelRefused(f"{what}: expected dtype {' or '.join(dtypes)}, found {entry['dtype']}")
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    size = dtype.itemsize * math.prod(shape)
    if any(size < 0 for size in shape) or end - begin != size:
        raise ModelRefused(f"{what}: expected {size} bytes for {shape}, found {end - begin}")
    if not 0 <= begin <= end <= len(body):
        raise ModelRefused(f"{what}: expected offsets within {len(body)} bytes, found {begin}..{end}")
    return np.frombuffer(body[begin:end], dtype=dtype).reshape(shape)


def _finite(values: NDArray[Any]) -> bool:
    """Of (N,), a part at a time: a mask of the whole would be as large again."""
    return all(np.isfinite(values[at : at + _JUDGED]).all() for at in range(0, len(values), _JUDGED))
