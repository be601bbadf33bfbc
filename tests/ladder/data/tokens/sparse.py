"""Two sparse files of 10 GB each: all tokens are 0 but one at each of PLACES, which shows a wrong offset."""

from pathlib import Path

import numpy as np

from ladder.data.tokens import blocks, index

SIZE = 10 << 30  # bytes of each of two files
PLACES = [5, 2048 * 1000 + 17, SIZE // 2 - 1, SIZE // 2, SIZE // 2 + 77_777, SIZE - 5000]  # tokens of both files


def marker(at: int, most: int) -> int:
    """The token at one of PLACES."""
    return 1 + at % most


def write(folder: Path, most: int = 50_000) -> list[bytearray]:
    """The two files, with tokens up to `most`; returns the hashes of their blocks. Those of holes are all the same."""
    block, hashes = blocks.BLOCK, []
    for i in range(2):
        hashes.append(bytearray(blocks.digest(bytes(block)) * (SIZE // block)))
        with open(folder / f"{i}.bin", "wb") as file:
            file.truncate(SIZE)
            for at in PLACES:
                if at // (SIZE // 2) == i:
                    byte = at % (SIZE // 2) * 2
                    data = bytearray(block)
                    data[byte % block : byte % block + 2] = marker(at, most).to_bytes(2, "little")
                    file.seek(byte // block * block)
                    file.write(data)
                    hashes[-1][byte // block * 8 : byte // block * 8 + 8] = blocks.digest(data)
    return hashes


def write_with_index(folder: Path, most: int = 50_000) -> None:
    """The files and the index that `ladder data index` would make in minutes, in `folder`/ladder-index."""
    entries = []
    for i, hashes in enumerate(write(folder, most)):
        counts = {"documents": {"train": 1, "validation": 0}, "tokens": {"train": SIZE // 2, "validation": 0}}
        row = index.Entry(
            **counts,
            **{"name": f"{i}.bin", "format": "raw", "dtype": "uint16", "start": 0, "size": SIZE, "whole": False},
            **{"largest": [most, 0], "smallest": [0, 0], "pages": "", "stretches": 0, "validation": ""},
        )
        entries.append(index.write_part(folder / "ladder-index", row, bytes(hashes), np.empty((0, 2)), {}))
    content = index.content_hash(entries, 0, None)
    index.write(index.Index(folder / "ladder-index", folder, tuple(entries), content, 0, None, "", 0.0, None))
