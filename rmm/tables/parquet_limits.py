"""What a Parquet file takes in memory, found before it is decoded.

The footer may say anything, and a run of equal values takes a few bytes however long it is. So the
headers of all pages are read: each has the size of the page unpacked, and its number of values.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from rmm.errors import DataError
from rmm.tables.memory_limits import bytes_text

#: Bytes of a value in memory, as an object of Python where it is text.
_NUMBER_WIDTH, _TEXT_WIDTH = 8, 16
#: Types of columns, and the repetition of nested ones (numbers of the Parquet format).
_INT96, _BYTE_ARRAY, _FIXED_BYTES = 3, 6, 7
_TEXTS = (_BYTE_ARRAY, _FIXED_BYTES)
_REPEATED = 2
#: Encodings of pages (numbers of the Parquet format) by which a value takes what its page says:
#: PLAIN, PLAIN_DICTIONARY, RLE, BIT_PACKED, RLE_DICTIONARY; DELTA_BINARY_PACKED, BYTE_STREAM_SPLIT.
_ENCODINGS = {0, 2, 3, 4, 8, 5, 9}
_HEADER = 1 << 16
#: Fields of a page's header: data, dictionary, data of version 2.
_KINDS_OF_PAGES = (5, 7, 8)


def read_bounded(source: Path | bytes, limit: int) -> pa.Table:
    """A Parquet table of plain columns and intervals, of which all must fit into memory.

    Columns of text are dictionaries, so that equal texts take memory once.

    Parameters
    ----------
    source : path or bytes
    limit : int
        Bytes.

    Raises
    ------
    DataError
        If it would need more than `limit`.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        try:
            need, texts = decoded_size(file, limit)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
            raise DataError("Its table has no valid footer.") from None
        if need > limit:
            raise DataError(f"Its table needs {bytes_text(need)} of memory ({_allowed(limit)}).")
        file.seek(0)
        return parquet.ParquetFile(file, read_dictionary=texts).read(use_threads=False)


def decoded_size(file: BinaryIO, limit: int, *, strict: bool = True) -> tuple[int, list[str]]:
    """Bytes that the columns of a table take when they are decoded, at most.

    The footer is read here, because Arrow's functions for it end the process where it is damaged.

    Parameters
    ----------
    file : binary file
    limit : int
        Counting ends when it is exceeded.
    strict : bool
        Whether nested columns, and encodings that shorten texts by the text before, are errors.
        Otherwise such texts count as their pages say.

    Returns
    -------
    size : int
    texts : list of str
        Names of the columns of text.

    Raises
    ------
    DataError
        For nested columns other than structures of numbers, and for pages that do not say what
        they take.
    KeyError, IndexError, TypeError
        For a footer that is no structure of a Parquet file.
    """
    footer = _footer(file)
    elements = footer[2][1:]  # the first element is the table
    columns = list(_columns(elements)) if strict else [e for e in elements if not e.get(5)]
    widths = [_width(column) for column in columns]
    texts = [column[4].decode() for column in columns if column.get(1) == _BYTE_ARRAY]
    total = 0
    for group in footer.get(4, []):
        rows = max(0, group[3])
        for width, chunk in zip(widths, group[1], strict=False):
            total += rows * width
            for size, values in _pages(file, chunk[3], strict=strict):
                total += size + max(0, values - rows) * width
                if total > limit:
                    return total, texts
    return total, texts


def length_of_texts(column: pa.ChunkedArray) -> int:
    """Bytes of the texts of a column in all its rows."""
    if not pa.types.is_dictionary(column.type):
        return 0
    lengths = (pc.binary_length(part.dictionary).take(part.indices) for part in column.chunks)
    return sum(pc.sum(found).as_py() or 0 for found in lengths)


def _columns(elements: Sequence[Mapping[int, Any]]) -> Iterator[Mapping[int, Any]]:
    """Elements that hold values. Of structures (5: number of fields), those of numbers pass: an
    interval is one, and its fields have as many values as the table has rows.
    """
    fields = 0  # of the present structure
    for element in elements:
        nested = fields > 0 and (element.get(5) or element.get(1) in _TEXTS)
        if element.get(3) == _REPEATED or nested:
            raise DataError("Its table has a nested column.")
        fields = max(0, fields - 1) + element.get(5, 0)
        if not element.get(5):
            yield element


def _footer(file: BinaryIO) -> dict[int, Any]:
    """FileMetaData: 2 schema, 4 groups of rows; of these 1 columns, 3 number of rows."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    length = int.from_bytes(file.read(4), "little")
    if length > size - 8:
        raise IndexError
    file.seek(size - 8 - length)
    return _Thrift(file.read(length)).struct()[0]


def _width(column: Mapping[int, Any]) -> int:
    """Of a SchemaElement: 1 type, 2 length of values."""
    if column.get(1) == _FIXED_BYTES:
        return _TEXT_WIDTH + max(0, int(column.get(2, 0)))
    return _TEXT_WIDTH if column.get(1) in (_BYTE_ARRAY, _INT96) else _NUMBER_WIDTH


def _pages(file: BinaryIO, chunk: Mapping[int, Any], *, strict: bool) -> Iterator[tuple[int, int]]:
    """Unpacked bytes and number of values of each page of a column in a group of rows.

    ColumnMetaData: 7 packed size, 9 place of the data, 11 of the dictionary.
    """
    place, left = chunk[9], chunk[7]
    if 0 < chunk.get(11, 0) < place:
        place = chunk[11]
    while left > 0:
        file.seek(max(0, place))
        fields, length = _page_header(file.read(min(left, _HEADER)))
        size, packed = fields.get(2), fields.get(3)
        if not isinstance(size, int) or not isinstance(packed, int) or min(size, packed) < 0:
            raise DataError("A page of its table does not say how large it is.")
        kind = next((i for i in _KINDS_OF_PAGES if isinstance(fields.get(i), dict)), None)
        page: dict[int, Any] = {} if kind is None else fields[kind]
        encoding = page.get(4 if kind == 8 else 2, 0)
        if strict and encoding not in _ENCODINGS:
            raise DataError(f"Its table has a page with encoding {encoding}, which is not read.")
        yield size, int(page.get(1, 0))
        place, left = place + length + packed, left - length - packed


def _page_header(content: bytes) -> tuple[dict[int, Any], int]:
    try:
        return _Thrift(content).struct()
    except (IndexError, RecursionError):
        raise DataError("A page of its table has no valid header.") from None


class _Thrift:
    """Structures of Thrift's compact protocol: whole numbers, texts and structures of these.

    Format: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.place = 0

    def struct(self, depth: int = 0) -> tuple[dict[int, Any], int]:
        """Number of a field -> value, and where the structure ends."""
        if depth > 16:
            raise IndexError
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._number()
            fields[number] = self._value(head & 15, depth)
        return fields, self.place

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._number()
        if kind == 7:
            self.place += 8
        elif kind == 8:
            length = self._unsigned()
            self.place += length
            if self.place > len(self.content):
                raise IndexError
            return self.content[self.place - length : self.place]
        elif kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._unsigned()
            if count > len(self.content):
                raise IndexError
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        elif kind == 12:
            return self.struct(depth + 1)[0]
        else:
            raise IndexError
        return None

    def _byte(self) -> int:
        self.place += 1
        return self.content[self.place - 1]

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise IndexError
        return value | byte << shift

    def _number(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)


def _allowed(limit: int) -> str:
    return f"allowed: {bytes_text(limit)}; `max_memory` sets another limit"
