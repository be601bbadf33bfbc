"""The order in which a ladder's runs are trained."""

from itertools import groupby

from configs import loader
from launch import prepare
from launch.scheduler import jobs


def test_the_branches_of_a_trunk_follow_it():
    ladder = loader.load("study-scaling")
    rungs = ladder.rungs[::-1]  # branches before their trunks
    configs = [(f"runs/{rung.run_id}", prepare.run_config(ladder, rung)) for rung in rungs]
    ordered = jobs.of_configs(configs)
    assert sorted(job.run_id for job in ordered) == sorted(rung.run_id for rung in rungs)
    families = [[job.kind for job in family] for _, family in groupby(ordered, lambda job: job.size)]
    trained = [family for family in families if "trunk" in family]
    assert len(trained) == sum(rung.kind == "trunk" for rung in rungs) > 3
    assert all(family[0] == "trunk" and "branch" in family[1:] for family in trained)
    for i, job in enumerate(ordered):
        assert {run_id for run_id, _ in job.after} <= {earlier.run_id for earlier in ordered[:i]}
