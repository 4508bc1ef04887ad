"""Read curves from TensorBoard's event files, without TensorBoard.

An event file is a sequence of records (length, its checksum, data, its checksum: TFRecord), each a
protocol buffer `Event` with a step and a summary of named values. Only the few fields that hold
scalars are read. Source: tensorboard/compat/proto/{event,summary,tensor}.proto and
tensorflow/core/lib/io/record_writer.h.
"""

from collections.abc import Iterator
from pathlib import Path
from struct import calcsize, error, iter_unpack, unpack_from
from warnings import warn

from thalweg.errors import DataError, ThalwegWarning
from thalweg.files import LARGEST_LOG, check_length
from thalweg.record.logs.scalars import Points

LARGEST = 2**16  # bytes of a record with scalars in it; images and graphs are larger
_POLYNOMIAL = 0x82F63B78  # CRC-32C, reflected
_FORMATS = {
    1: "<f",
    2: "<d",
    3: "<i",
    9: "<q",
}  # by DataType: float, double, ints
_VALUE_FIELDS = {1: 5, 2: 6, 3: 7, 9: 10}  # the field of TensorProto that holds such values
Field = tuple[int, int | bytes]  # number, content


def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ _POLYNOMIAL * (byte & 1)  # noqa: PLW2901
        rows.append(byte)
    return tuple(rows)


_TABLE = _table()


def masked_crc(data: bytes) -> int:
    """The checksum of a record, as the format stores it.

    >>> hex(masked_crc(b"123456789"))
    '0xc78ab0e5'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def event_scalars(path: Path) -> dict[str, Points]:
    """Each tag's points, up to the first damage, of which a warning tells.

    Raises DataError where the first record is damaged already.
    """
    curves: dict[str, Points] = {}
    for record in _records(path):
        try:
            step, values = _event(record)
        except (IndexError, error) as broken:
            raise _no_event_file(path, str(broken)) from broken
        for tag, value in values:
            curves.setdefault(tag, {})[step] = value
    return curves


def _records(path: Path) -> Iterator[bytes]:
    try:
        check_length(path, LARGEST_LOG)
        data = path.read_bytes()
    except OSError as unreadable:
        raise _no_event_file(path, str(unreadable)) from unreadable
    at = 0
    while at < len(data):
        header = data[at : at + 12]
        length = int.from_bytes(header[:8], "little")
        whole = at + 16 + length <= len(data)
        sound = len(header) == 12 and masked_crc(header[:8]) == _crc(header, 8)
        record = data[at + 12 : at + 12 + length] if whole and sound else b""
        if sound and whole and length <= LARGEST:
            sound = masked_crc(record) == _crc(data, at + 12 + length)
        if not (sound and whole):
            _warn_of_damage(path, at, is_cut=sound)
            return
        if length <= LARGEST:
            yield record
        at += 16 + length


def _crc(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _warn_of_damage(path: Path, at: int, *, is_cut: bool) -> None:
    if at == 0:
        raise _no_event_file(path, "the first record does not fit its checksum")
    damage = "breaks off within a record" if is_cut else "is damaged"
    warn(f"{path} {damage} at byte {at}: read up to there", ThalwegWarning, stacklevel=2)


def _no_event_file(path: Path, seen: str) -> DataError:
    return DataError(
        f"{path} is no event file, or a damaged one",
        seen=seen,
        fix="give a file that TensorBoard's SummaryWriter wrote",
    )


def _event(record: bytes) -> tuple[int, list[tuple[str, float]]]:
    """Step and scalars of an Event."""
    step, values = 0, []
    for number, content in _fields(record):
        if number == 2 and isinstance(content, int):
            step = content
        elif number == 5 and isinstance(content, bytes):
            values += [_scalar(v) for n, v in _fields(content) if n == 1 and isinstance(v, bytes)]
    return step, [(tag, value) for tag, value in values if value is not None]


def _scalar(message: bytes) -> tuple[str, float | None]:
    """Tag and number of a Summary.Value; None where it is an image, a histogram, a text."""
    tag, value = "", None
    for number, content in _fields(message):
        if number == 1 and isinstance(content, bytes):
            tag = content.decode("utf-8", "replace")
        elif number == 2 and isinstance(content, bytes):
            value = float(unpack_from("<f", content)[0])
        elif number == 8 and isinstance(content, bytes):
            value = _tensor(content)
    return tag, value


def _tensor(message: bytes) -> float | None:
    """The number in a TensorProto of one element."""
    fields = dict(_fields(message))
    kind, content = fields.get(1), fields.get(4)
    if not isinstance(kind, int) or kind not in _FORMATS:
        return None
    if isinstance(content, bytes) and len(content) == calcsize(_FORMATS[kind]):
        return float(unpack_from(_FORMATS[kind], content)[0])
    values = fields.get(_VALUE_FIELDS[kind])
    if isinstance(values, int):
        return float(values)
    if not isinstance(values, bytes) or not values:
        return None
    if kind in (3, 9):  # packed integers are of variable length
        return float(_varint(values, 0)[0])
    numbers = list(iter_unpack(_FORMATS[kind], values))
    return float(numbers[0][0]) if len(numbers) == 1 else None


def _fields(message: bytes) -> Iterator[Field]:
    """The fields of a protocol buffer, numbers of fixed size as their bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(message, at)
        else:
            length = {1: 8, 5: 4}[wire] if wire in (1, 5) else len(message) + 1
        if at + length > len(message):
            raise IndexError(f"field {number} is longer than its message")
        yield number, message[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends; two's complement in 64 bits."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return (value - 2**64 if value >= 2**63 else value), at
        if shift > 63:
            raise IndexError("a number longer than 64 bits")
