"""One process of test_processes.py: `ladder train`, and which windows of the training split it read.

python process.py WINDOWS.json RUN_DIR [flags of `ladder train`]
"""

import json
import sys
from pathlib import Path

from ladder.corpus import Corpus
from launch import cli


class Counting:
    def __init__(self, source):
        self.source, self.records = source, []

    def __getitem__(self, record):
        self.records.append(int(record))
        return self.source[record]


def main() -> int:
    counted, *arguments = sys.argv[1:]
    opened, train = Corpus.source, []

    def source(self, split):
        found = Counting(opened(self, split))
        if split == "train":
            train.append(found)
        return found

    Corpus.source = source
    code = cli.main(["train", *arguments])
    Path(counted).write_text(json.dumps([record for one in train for record in one.records]))
    return code


if __name__ == "__main__":
    sys.exit(main())
