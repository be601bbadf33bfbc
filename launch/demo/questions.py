"""Ranked-choice tasks of a demo, from the documents that its own corpus holds out (ladder/evaluation/held_out)."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ladder.config import Ladder, Rung, canonical_json
from ladder.evaluation.held_out import documents, tasks
from ladder.evaluation.held_out.tasks import Settings
from ladder.rundir.files import absolute
from launch.data import held_out_tasks
from launch.prepare import Built


def write(built: Built, settings: Sequence[Settings], folder: Path) -> tuple[list[str], list[str]]:
    """Write the questions of each kind into a folder of their own in `folder`. Returns (the files' paths, a line for
    each kind of which the text gives no or few questions).

    The same corpus and settings give the same files, so that a demo that is resumed asks what it asked before.
    """
    from ladder.data import sources

    data, seq_len = built.ladder.rungs[0].data, built.ladder.rungs[0].model.seq_len
    corpus = sources.open_source("text", built.corpora[data.corpus], seq_len, None)
    asked = canonical_json([data.corpus, [asdict(each) for each in settings]])
    out = absolute(folder / "tasks" / hashlib.sha256(asked.encode()).hexdigest()[:8])
    out.mkdir(parents=True, exist_ok=True)
    texts, paths, lines = documents.documents(corpus), [], []
    for each in settings:
        for kind, docs in tasks.make(texts, each).items():
            if len(docs) < min(each.docs, held_out_tasks.FEW):
                why = f"only {len(docs)}, so its accuracy is uncertain" if docs else "none, so this kind is left out"
                lines.append(f"questions of the kind {kind} from the held-out text: {why}")
            if docs:
                held_out_tasks.write_file(out / f"{kind}.jsonl", docs)
                paths.append(str(out / f"{kind}.jsonl"))
    return paths, lines


def added(ladder: Ladder, paths: Sequence[str]) -> Ladder:
    """The ladder with these tasks at the ends of its runs; a trunk, whose end enters no fit, has none."""

    def with_tasks(rung: Rung) -> Rung:
        if rung.kind == "trunk":
            return rung
        return replace(rung, eval=replace(rung.eval, tasks=(*rung.eval.tasks, *paths)))

    return ladder.map(with_tasks)
