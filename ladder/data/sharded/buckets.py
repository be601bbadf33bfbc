"""The steps between reading and writing: a bucket is all documents whose hashes lie in a range, so it holds all that
are equal. They are ordered and distinct (`merge`), then tokens (`tokenize`)."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from etils import epath

from ladder.data import documents
from ladder.data import tokenizer as tokenizers
from ladder.data.records import SPLITS
from ladder.data.sharded import parts, work
from ladder.rundir.files import read_json

SIZES = np.dtype([("bytes", "<i8"), ("tokens", "<i8")])  # of a document
ENCODED_AT_ONCE = 1 << 20  # tokens


def marker(folder: str, bucket: int) -> epath.Path:
    return _file(folder, bucket, "json")


def _file(folder: str, bucket: int, kind: str) -> epath.Path:
    return epath.Path(folder) / "buckets" / f"{bucket:06}.{kind}"


def numbers(folder: str, _: Iterable[None]) -> Iterator[int]:
    """The buckets to merge, once all parts are read; none where a part could not be."""
    job = work.read_job(folder)
    if not any("error" in read_json(parts.marker(folder, i)) for i in range(len(job.parts))):
        yield from range(job.n_buckets)


def merge(folder: str, bucket: int) -> None:
    """Order the documents of a bucket by their hashes. Of equal ones the first stays: the lowest part (source, file),
    and in it the lowest offset. Writes .places (PLACES) and the marker."""
    if marker(folder, bucket).exists():
        return
    job = work.read_job(folder)
    rows = np.concatenate([parts.places(folder, part, bucket) for part in range(len(job.parts))])
    order, is_first = documents.order_of(np.stack([rows["first"], rows["second"]], axis=1))
    distinct = rows[order[is_first]]
    work.write_file(_file(folder, bucket, "places"), [distinct.tobytes()])
    counts = {"duplicates": len(rows) - len(distinct), "rows": len(distinct), **totals(distinct, job.validation)}
    work.write_json(marker(folder, bucket), counts)


def totals(rows: np.ndarray, validation: float) -> dict:
    """Counts of rows: {"documents", "bytes": {split: n}}; and "least", the least second half of a hash, or None."""
    is_held_out = rows["second"] < documents.held_out_below(validation)
    in_split = {"train": ~is_held_out, "validation": is_held_out}
    return {
        "documents": {split: int(in_split[split].sum()) for split in SPLITS},
        "bytes": {split: int(rows["size"][in_split[split]].sum()) for split in SPLITS},
        "least": int(rows["second"].min()) if len(rows) else None,
    }


def places(folder: str, bucket: int, n: int | None = None) -> np.ndarray:
    """The first n PLACES of a bucket that is merged."""
    return work.read_rows(_file(folder, bucket, "places"), work.PLACES, 0, n)


def held_out(rows: np.ndarray, bucket: int, validation: float, one: Sequence[int] | None) -> np.ndarray:
    """bool[n]: which documents of a bucket are held out. one: (bucket, row) of one that is, whatever its hash."""
    is_held_out = rows["second"] < documents.held_out_below(validation)
    if one is not None and one[0] == bucket:
        is_held_out[one[1]] = True
    return is_held_out


def reader(folder: str, bucket: int) -> Callable[[np.ndarray], str]:
    """read(row of PLACES) -> the text of a document of the bucket. The texts of a part are read at its first."""
    loaded = functools.cache(lambda part: parts.texts(folder, part, bucket))

    def read(row: np.ndarray) -> str:
        first_byte, content = loaded(int(row["part"]))
        start = int(row["offset"]) - first_byte
        return content[start : start + int(row["size"])].decode("utf-8")

    return read


def tokenize(folder: str, name: str, bucket: int) -> None:
    """Tokenize the documents of a bucket that belong to the corpus `name`.

    Writes two files for each split: .tokens, and .sizes with a row of SIZES for each document. Then writes a marker
    that holds the sums of the sizes."""
    if tokens_marker(folder, name, bucket).exists():
        return
    plan = read_json(epath.Path(folder) / name / "plan.json")
    tokenizer = tokenizers.load(epath.Path(folder) / name)
    rows = places(folder, bucket, plan["rows"][bucket])
    is_held_out = held_out(rows, bucket, work.read_job(folder).validation, plan["held_out"])
    sums, read = {}, reader(folder, bucket)
    for split in SPLITS:
        chosen = rows[is_held_out == (split == "validation")]
        sizes = np.zeros(len(chosen), SIZES)
        sizes["bytes"] = chosen["size"]
        encoded = (tokenizer.encode_document(read(row)) for row in chosen)
        work.write_file(tokens_file(folder, name, split, bucket, "tokens"), _chunks(encoded, sizes["tokens"]))
        work.write_file(tokens_file(folder, name, split, bucket, "sizes"), [sizes.tobytes()])
        sums[split] = {field: int(sizes[field].sum()) for field in SIZES.names}
    work.write_json(tokens_marker(folder, name, bucket), sums)


def _chunks(encoded: Iterable[np.ndarray], n_tokens: np.ndarray) -> Iterator[bytes]:
    """The tokens of documents, many at a time; puts the tokens of each into `n_tokens`."""
    pending, n_pending = [], 0
    for i, ids in enumerate(encoded):
        n_tokens[i] = len(ids)
        pending.append(ids)
        n_pending += len(ids)
        if n_pending >= ENCODED_AT_ONCE:
            yield np.concatenate(pending).tobytes()
            pending, n_pending = [], 0
    if pending:
        yield np.concatenate(pending).tobytes()


def tokens_marker(folder: str, name: str, bucket: int) -> epath.Path:
    return epath.Path(folder) / name / "tokens" / f"{bucket:06}.json"


def tokens_file(folder: str, name: str, split: str, bucket: int, kind: str) -> epath.Path:
    return epath.Path(folder) / name / "tokens" / f"{bucket:06}-{split}.{kind}"
