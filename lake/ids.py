"""The id that an event's content gives it.

It is 14 hexadecimal digits of `recorded_at` in microseconds since 1970 (zeros where unknown), a hyphen, and the first
32 of the sha256 of what the event says: its kind, time and non-null columns, each with its name and length, so no two
contents share an encoding and a column that is added later changes no id.

Not here: the rest of the envelope (`events`).
"""

import hashlib
from itertools import pairwise

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.kinds import Kind

ID_LENGTH = 47


def ids_of(kind: Kind, table: pa.Table) -> pa.Array:
    """The ids of a table's events; it holds less than the 2 GiB at which the offsets of a text column end."""
    names = [*kind.columns.names, *(("source",) if kind.placed else ())]
    parts: list[pa.Array] = []
    for name in names:
        said = _said(_one_array(table.column(name)))
        if said.null_count == len(said):
            continue
        length = pc.binary_length(said).cast(pa.string())
        parts += [pc.binary_join_element_wise(f"\n{name}=", length, ":", "").cast(pa.binary()), said.cast(pa.binary())]
    column = _one_array(table.column("recorded_at")).cast(pa.int64())
    times = _hexadecimal(np.asarray(pc.fill_null(column, 0)))
    short = pc.utf8_ltrim(_texts_of(times), "0")
    told = pc.if_else(pc.is_null(column), "?", pc.if_else(pc.equal(short, ""), "0", short))
    parts.insert(0, pc.binary_join_element_wise(kind.name, told, "\n").cast(pa.binary()))
    contents = pc.binary_join_element_wise(*parts, b"", null_handling="skip")
    offsets = np.frombuffer(contents.buffers()[1], np.int32)[: len(contents) + 1].tolist()
    data = memoryview(contents.buffers()[2])
    digests = b"".join([hashlib.sha256(data[start:end]).digest() for start, end in pairwise(offsets)])
    ids = np.empty((len(contents), ID_LENGTH), np.uint8)
    ids[:, :14] = times
    ids[:, 14] = ord("-")
    ids[:, 15:] = np.frombuffer(digests.hex().encode(), np.uint8).reshape(-1, 64)[:, :32]
    return _texts_of(ids)


def keys_of(ids: pa.Array) -> np.ndarray:
    """A 64-bit key for each event id, shape (n,), uint64: equal ids have equal keys, and hardly any others."""
    ids = _one_array(ids) if isinstance(ids, pa.ChunkedArray) else ids
    if len(ids) == 0:
        return np.empty(0, np.uint64)
    text = _characters(ids).reshape(-1, ID_LENGTH)
    halves = np.ascontiguousarray(text[:, -32:]).view(np.uint64)
    mixed = halves[:, 0]
    for column in range(1, 4):
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + halves[:, column]
    return mixed ^ (mixed >> np.uint64(32))


def digest_of(ids: pa.ChunkedArray) -> str:
    """The sha256 of event ids one after the other: what tells a batch that is sent again from another one."""
    made = hashlib.sha256()
    for chunk in ids.chunks:
        made.update(_characters(chunk).data)
    return made.hexdigest()


def _characters(ids: pa.Array) -> np.ndarray:
    """The characters of event ids, one id after the other, without a copy."""
    if len(ids) == 0:
        return np.empty(0, np.uint8)
    start = np.frombuffer(ids.buffers()[1], np.int32)[ids.offset]
    return np.frombuffer(ids.buffers()[2], np.uint8)[start : start + len(ids) * ID_LENGTH]


def _hexadecimal(values: np.ndarray) -> np.ndarray:
    """Numbers below 2^56 as 14 hexadecimal digits each, shape (n, 14), ASCII."""
    shifts = np.arange(52, -4, -4, dtype=np.int64)
    digits = (values[:, None] >> shifts) & 15
    return np.frombuffer(b"0123456789abcdef", np.uint8)[digits]


def _texts_of(characters: np.ndarray) -> pa.Array:
    """Texts of one length, from their ASCII characters, shape (n, length)."""
    count, length = characters.shape
    offsets = np.arange(count + 1, dtype=np.int32) * length
    data = np.ascontiguousarray(characters)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(data))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _said(column: pa.Array) -> pa.Array:
    """A column as text that stays the same under every version of every library."""
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).cast(pa.string())
    if pa.types.is_floating(column.type):
        bits = np.asarray(pc.fill_null(column, 0.0)).view(np.int64)
        return pc.if_else(pc.is_valid(column), pa.array(bits).cast(pa.string()), None)
    if pa.types.is_list(column.type):
        items = column.flatten()
        sized = pc.binary_join_element_wise(pc.binary_length(items).cast(pa.string()), items, ":")
        sizes = np.asarray(pc.fill_null(pc.list_value_length(column), 0))
        offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
        lists = pa.ListArray.from_arrays(offsets, sized, mask=pc.is_null(column))
        return pc.binary_join(lists, ",")
    if pa.types.is_struct(column.type):
        texts = [msgspec.json.encode(value, order="sorted").decode() for value in column.to_pylist()]
        return pa.array(texts, pa.string())
    return column.cast(pa.string())
