"""One process of test_processes.py: `ladder train`, and which windows of the training split it read.

python windows_read.py WINDOWS.json RUN_DIR [flags of `ladder train`]
"""

import json
import sys
from pathlib import Path

from ladder.data import batches
from launch import cli


def main() -> int:
    counted, *arguments = sys.argv[1:]
    read, asked = batches._read, []

    def counting(record, corpus, windows):
        asked.append(list(map(int, windows)))
        return read(record, corpus, windows)

    batches._read = counting
    code = cli.main(["train", *arguments])
    Path(counted).write_text(json.dumps(asked[1:]))  # the first are those of the validation text
    return code


if __name__ == "__main__":
    sys.exit(main())
