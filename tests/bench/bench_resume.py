"""What a restart costs in compilation: a resumed rung of known shape reads its programs from the cache on disk.

make bench ARGS="-k resume"
"""

import statistics

from ladder.rundir.record import Record
from launch import goodput
from tests.ladder.conftest import World
from tests.ladder.loop.training import kill

REPEATS = 3


def test_a_resumed_run_compiles_from_the_cache(tmp_path, monkeypatch):
    """Three runs with a cache of their own, each killed after step 20, resumed from step 15 and killed after step 20
    again: both sittings compile the train step and the evaluation, the first also the initial state."""
    ratios = []
    for i in range(REPEATS):
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / f"compiled{i}"))  # the tests share one
        world = World(tmp_path)
        [directory] = world([world.rung()], tmp_path / f"runs{i}")
        kill(directory, "step:29")  # after an evaluation at step 20
        kill(directory, "step:14")
        goodput_sittings = goodput.sittings(Record(directory))
        first, resumed = (sitting.seconds["compile"] for sitting in goodput_sittings)
        ratios.append(first / resumed)
        print(f"compilation: first start {first:.2f} s, resumed {resumed:.2f} s, {first / resumed:.1f} times as long")
    print(f"median {statistics.median(ratios):.1f}")
