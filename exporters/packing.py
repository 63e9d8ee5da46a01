"""Documents of any length into rows of one length: every token in exactly one place, and hardly any padding.

A document longer than a row is cut, and its pieces go on in other rows; what does not fill a row by itself is packed by
best fit, longest first, where the smallest space that still holds a piece is found in a bitmap of the spaces that are
open. Where lengths do not fit together (all pieces just over half a row, say), the emptiest rows are poured into the
spaces that the others have left, so that rows are full whatever the lengths are. All of this happens inside windows of
bounded size, and looks at lengths alone: `plan` says which tokens stand where, `fill` copies them.

The same lengths give the same plan on any machine: nothing is drawn, and no order depends on a sort that is not stable.
Rows come in the order of the earliest piece that they hold, and the pieces of a row in the order of the documents.

Not here: what a document is, and how text becomes token ids (`tokenizing`).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lake.errors import UsageError

IGNORED = -100  # a label that no loss counts: the default `ignore_index` of torch's cross entropy
MIN_LENGTH, MAX_LENGTH = 2, 1 << 20
# What share of the places of a window must hold tokens before the packer stops cutting pieces to get there.
FILL = 0.999
WINDOW_ROWS = 4096

Tokens = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]
Lengths = npt.NDArray[Any]


@dataclass(frozen=True)
class Documents:
    """Documents as token ids, one after the other: document d is `tokens[offsets[d]:offsets[d + 1]]`.

    `tokens` is int32, `offsets` int64 and one longer than there are documents. Raises ValueError for any others.
    """

    tokens: Tokens
    offsets: Places

    def __post_init__(self) -> None:
        if self.tokens.dtype != np.int32 or self.offsets.dtype != np.int64:
            raise ValueError(f"tokens are int32 and offsets int64, not {self.tokens.dtype} and {self.offsets.dtype}")
        ends = len(self.offsets) > 0 and self.offsets[0] == 0 and self.offsets[-1] == len(self.tokens)
        if not ends or (np.diff(self.offsets) < 0).any():
            raise ValueError("offsets must begin at 0, never fall, and end at the number of tokens")

    @property
    def lengths(self) -> Places:
        """How many tokens each document has, int64."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Plan:
    """Which tokens stand where, in rows of `length`: a list of pieces, in the order in which the rows hold them.

    Row r holds the pieces `row_offsets[r]:row_offsets[r + 1]`, from its first place on and without a gap. Piece p is
    the `lengths[p]` tokens from `offset[p]` on of `document[p]`. All are int64.
    """

    length: int
    row_offsets: Places
    document: Places
    offset: Places
    lengths: Places

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.row_offsets) - 1

    @property
    def pieces(self) -> int:
        """How many pieces there are; as many as documents with tokens where none was cut."""
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """How many tokens there are."""
        return int(self.lengths.sum())

    @property
    def padding(self) -> int:
        """How many places hold no token."""
        return self.rows * self.length - self.tokens

    @property
    def fill(self) -> float:
        """The share of places that hold a token; 1 where there are no rows."""
        return self.tokens / (self.rows * self.length) if self.rows else 1.0

    @property
    def row(self) -> Places:
        """The row of each piece."""
        return np.repeat(np.arange(self.rows), np.diff(self.row_offsets))

    @property
    def start(self) -> Places:
        """The place in its row at which each piece starts."""
        before = np.cumsum(self.lengths) - self.lengths
        return before - np.repeat(before[self.row_offsets[:-1]], np.diff(self.row_offsets))

    @property
    def used(self) -> Places:
        """How many tokens each row holds; the rest of it is padding."""
        ends = np.concatenate([[0], np.cumsum(self.lengths)])
        return np.diff(ends[self.row_offsets])

    def part(self, first: int, stop: int) -> "Plan":
        """The rows from `first` up to `stop` alone."""
        begin, end = int(self.row_offsets[first]), int(self.row_offsets[stop])
        kept = slice(begin, end)
        row_offsets = self.row_offsets[first : stop + 1] - begin
        return Plan(self.length, row_offsets, self.document[kept], self.offset[kept], self.lengths[kept])


def plan(lengths: Lengths, length: int, *, fill: float = FILL, window_rows: int = WINDOW_ROWS) -> Plan:
    """How to pack documents of so many tokens each into rows of `length`.

    A piece is cut from a document where the document is longer than a row, and beyond that only as far as it takes for
    a share `fill` of a window's places to hold a token; 0 cuts no further. A window is as many documents as fill
    `window_rows` rows. A document without tokens has no piece. Raises UsageError for a length that no row can have.
    """
    check_length(length)
    pieces = _cut(np.asarray(lengths, np.int64), length)
    ends = np.cumsum(pieces.lengths)
    windows = max(1, int(ends[-1]) // (window_rows * length)) if len(ends) else 1
    # The last window takes what is left over, so none is a small one with nothing to choose from.
    stops = np.searchsorted(ends, np.arange(1, windows) * window_rows * length)
    bounds = [0, *stops.tolist(), len(ends)]
    packed = [_pack(pieces.part(a, b), length, fill) for a, b in pairwise(bounds)]
    counts = np.concatenate([counts for _, counts in packed])
    row_offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    document, offset, found = (np.concatenate(each) for each in zip(*(made.columns for made, _ in packed), strict=True))
    return Plan(length, row_offsets, document, offset, found)


def check_length(length: int) -> None:
    """Raises UsageError for a length that no row can have."""
    if not MIN_LENGTH <= length <= MAX_LENGTH:
        raise UsageError(f"a row cannot hold {length} tokens", f"a length is {MIN_LENGTH} to {MAX_LENGTH}")


def fill(made: Plan, documents: Documents, pad: int) -> Tokens:
    """The rows of a plan, shape (rows, length), int32, with the id `pad` at the end of each that is not full."""
    rows = np.full((made.rows, made.length), pad, np.int32)
    flat, tokens = rows.reshape(-1), documents.tokens
    targets = made.row * made.length + made.start
    sources = documents.offsets[made.document] + made.offset
    # A copy a piece: one gather of all tokens would have to write down an 8 byte index for each 4 byte token.
    for target, source, count in zip(targets.tolist(), sources.tolist(), made.lengths.tolist(), strict=True):
        flat[target : target + count] = tokens[source : source + count]
    return rows


def attention_mask(made: Plan) -> npt.NDArray[np.bool_]:
    """Which places hold a token, shape (rows, length), from the lengths alone: what an id is has no say in it.

    It says nothing of where a document ends. Attention that must not reach over that needs `position_ids`.
    """
    return np.arange(made.length) < made.used[:, None]


def position_ids(made: Plan) -> Tokens:
    """Positions, shape (rows, length), int32: they begin at 0 with each piece, and once more with the padding."""
    positions = np.tile(np.arange(made.length, dtype=np.int32), (made.rows, 1))
    segments = np.concatenate([made.lengths, made.length - made.used])
    rows = np.concatenate([made.row, np.arange(made.rows)])
    starts = np.concatenate([made.start, made.used])
    order = np.lexsort((starts, rows))
    positions -= np.repeat(starts[order], segments[order]).reshape(positions.shape).astype(np.int32)
    return positions


def labels(made: Plan, rows: Tokens) -> Tokens:
    """What a causal model has to say, shape (rows, length), int32, at the place of the id itself: the loss shifts.

    IGNORED for padding and for the first token of each piece, which follows nothing that it belongs to.
    """
    wanted = np.where(attention_mask(made), rows, np.int32(IGNORED))
    wanted[made.row, made.start] = IGNORED
    return wanted


@dataclass(frozen=True)
class _Pieces:
    """Pieces in the order of their documents, as three int64 arrays."""

    document: Places
    offset: Places
    lengths: Places

    @property
    def columns(self) -> tuple[Places, Places, Places]:
        return self.document, self.offset, self.lengths

    def part(self, first: int, stop: int) -> "_Pieces":
        return _Pieces(*(column[first:stop] for column in self.columns))

    def take(self, places: Places) -> "_Pieces":
        return _Pieces(*(column[places] for column in self.columns))


def _cut(lengths: Places, length: int) -> _Pieces:
    """The pieces of documents of such lengths: full rows, and one that is what is left."""
    if len(lengths) and lengths.min() < 0:
        raise ValueError("a document cannot have fewer than 0 tokens")
    counts = -(-lengths // length)
    document = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    offset = number * length
    return _Pieces(document, offset, np.minimum(lengths[document] - offset, length))


def _pack(pieces: _Pieces, length: int, target: float) -> tuple[_Pieces, Places]:
    """The pieces of one window in the order of the rows that hold them, and how many pieces each row holds."""
    rows, count = _best_fit(pieces.lengths, length)
    pieces, rows = _pour(pieces, rows, count, length, target)
    order = np.lexsort((pieces.offset, pieces.document))
    pieces, rows = pieces.take(order), rows[order]
    named, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    rank = np.empty(len(named), np.int64)
    rank[np.argsort(first)] = np.arange(len(named))
    rows = rank[inverse]
    return pieces.take(np.argsort(rows, kind="stable")), np.bincount(rows, minlength=len(named))


class _Spaces:
    """The spaces that rows have left: which rows have each, and a bitmap of those that some row has."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._bitmap = 0
        self._rows: dict[int, list[int]] = {}
        self.count = 0

    def smallest(self, size: int) -> int:
        """The smallest space that holds a piece of `size`; that of a new row if no open row has one."""
        above = self._bitmap >> size
        return size + (above & -above).bit_length() - 1 if above else self._length

    def take(self, space: int, wanted: int) -> list[int]:
        """At most `wanted` of the rows with that space, which have it no more; new ones if it is a whole row."""
        if space == self._length:
            self.count += wanted
            return list(range(self.count - wanted, self.count))
        rows = self._rows[space]
        taken = rows[-wanted:]
        del rows[-wanted:]
        if not rows:
            self._bitmap &= ~(1 << space)
        return taken

    def put(self, space: int, rows: list[int]) -> None:
        """Say that rows have this space left."""
        if space and rows:
            self._rows.setdefault(space, []).extend(rows)
            self._bitmap |= 1 << space


def _best_fit(lengths: Places, length: int) -> tuple[Places, int]:
    """The row of each piece by best fit, longest first, and how many rows that makes.

    Pieces of one length go together: to all rows that have the smallest space that holds one, then to those with the
    next, and at last to new ones. A row takes as many as it holds, since what each leaves is then the smallest space.
    """
    order = np.argsort(-lengths, kind="stable")
    sizes, counts = np.unique(lengths, return_counts=True)
    spaces = _Spaces(length)
    rows: list[int] = []
    for size, count in zip(sizes[::-1].tolist(), counts[::-1].tolist(), strict=True):
        left = count
        while left:
            space = spaces.smallest(size)
            each = space // size
            taken = spaces.take(space, -(-left // each))
            placed = min(left, len(taken) * each)
            last = placed - (len(taken) - 1) * each
            rows += [row for row in taken for _ in range(each)][:placed]
            spaces.put(space - each * size, taken[:-1])
            spaces.put(space - last * size, taken[-1:])
            left -= placed
    found = np.empty(len(order), np.int64)
    found[order] = rows
    return found, spaces.count


def _pour(pieces: _Pieces, rows: Places, count: int, length: int, target: float) -> tuple[_Pieces, Places]:
    """The same tokens in fewer rows, if that is what it takes to fill a share `target` of their places.

    The emptiest rows are poured, piece by piece and cut as it comes, into the largest spaces of the others.
    """
    used = np.bincount(rows, pieces.lengths, minlength=count).astype(np.int64)
    total = int(used.sum())
    kept = count if not target else max(-(-total // length), int(total / (target * length)))
    if kept >= count:
        return pieces, rows
    emptiest = np.argsort(used, kind="stable")
    poured = np.zeros(count, bool)
    poured[emptiest[: count - kept]] = True
    given = np.flatnonzero(poured[rows])
    piece_ends = np.cumsum(pieces.lengths[given])
    takers = emptiest[count - kept :]
    space_ends = np.cumsum(length - used[takers])
    ends = np.union1d(piece_ends, space_ends[space_ends < piece_ends[-1]])
    begins = np.concatenate([[0], ends[:-1]])
    source = np.searchsorted(piece_ends, begins, "right")
    within = begins - (piece_ends - pieces.lengths[given])[source]
    source = given[source]
    rest = np.flatnonzero(~poured[rows])
    split = _Pieces(
        np.concatenate([pieces.document[rest], pieces.document[source]]),
        np.concatenate([pieces.offset[rest], pieces.offset[source] + within]),
        np.concatenate([pieces.lengths[rest], ends - begins]),
    )
    return split, np.concatenate([rows[rest], takers[np.searchsorted(space_ends, begins, "right")]])
