"""Stands in for Beam: runs the same steps one after the other in this process."""

from ladder.data.sharded import buckets, parts, shards, work


class InProcess:
    """stop: raises Killed before this step of all that are run; counts down over all runs."""

    def __init__(self, stop: float = float("inf")):
        self.stop = stop

    def check(self, paths, root) -> None:
        pass

    def run(self, step: str, folder, name: str = "") -> None:
        folder = str(folder)
        job = work.read_job(folder)
        if step == "read":
            self._each(range(len(job.parts)), lambda i: parts.read(folder, i))
            self._each(buckets.numbers(folder, []), lambda bucket: buckets.merge(folder, bucket))
        else:
            self._each(range(job.n_buckets), lambda bucket: buckets.tokenize(folder, name, bucket))
            self._each(shards.plan(folder, name), lambda shard: shards.write(folder, name, shard))

    def _each(self, items, do) -> None:
        for item in reversed(list(items)):  # no step depends on another of its kind
            if self.stop == 0:
                raise Killed
            self.stop -= 1
            do(item)


class Killed(Exception):
    pass
