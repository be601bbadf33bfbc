"""What stands in the files of TensorBoard and W&B, read as their formats are specified."""

import struct
from pathlib import Path

import google_crc32c


def tensorboard(folder: Path) -> list[tuple[int, str, float]]:
    """(step, tag, value) of all event files that TensorBoard would read, in its order.

    A file is TFRecords (length, its masked CRC32C, bytes, their masked CRC32C), each of which is an Event.
    """
    from tensorboardX.proto.event_pb2 import Event

    points = []
    for path in sorted(path for path in folder.iterdir() if "tfevents" in path.name):
        events = [Event.FromString(record) for record in _tf_records(path.read_bytes())]
        assert events[0].file_version == "brain.Event:2"
        points += [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]
    return points


def _tf_records(content: bytes):
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        assert _masked_crc(content[:8]) == struct.unpack("<I", content[8:12])[0]
        record, content = content[12 : 12 + length], content[12 + length :]
        assert _masked_crc(record) == struct.unpack("<I", content[:4])[0]
        yield record
        content = content[4:]


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
