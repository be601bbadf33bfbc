"""One process of test_processes.py: `ladder train`, and which windows of the training split it read.

python windows_read.py WINDOWS.json RUN_DIR [flags of `ladder train`]
Beside WINDOWS.json it writes batches-WINDOWS.json: {step: {row: hash of its tokens}}.
"""

import hashlib
import json
import sys
from pathlib import Path

from ladder.data import batches as data
from launch import cli


def main() -> int:
    counted, *arguments = sys.argv[1:]
    read, asked = data._Source.read, []
    batch, hashes = data.Batches.__call__, {}

    def counting(self, indices):
        asked.append([int(self._order[i]) for i in indices.tolist()])
        return read(self, indices)

    def hashing(self, step):
        tokens = batch(self, step)["tokens"]
        rows = {int(row): hashlib.sha256(x.tobytes()).hexdigest() for row, x in zip(self._rows, tokens, strict=True)}
        hashes[step] = rows
        return {"tokens": tokens}

    data._Source.read, data.Batches.__call__ = counting, hashing
    code = cli.main(["train", *arguments])
    path = Path(counted)
    path.write_text(json.dumps(asked))
    (path.parent / f"batches-{path.name}").write_text(json.dumps(hashes))
    return code


def batches(directory: Path, processes: int) -> dict[int, dict[int, str]]:
    """What all processes of a run read, from step to step: {step: {row: hash}}."""
    whole: dict[int, dict[int, str]] = {}
    for i in range(processes):
        for step, rows in json.loads((directory / f"batches-read-{i}.json").read_text()).items():
            whole.setdefault(int(step), {}).update({int(row): digest for row, digest in rows.items()})
    return whole


if __name__ == "__main__":
    sys.exit(main())
