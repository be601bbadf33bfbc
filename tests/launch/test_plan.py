"""The plan: FLOPs against the paper's sums, trunks counted once, the keys of plan.json."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from configs import loader
from ladder.config import Ladder
from launch import plan, terminal

# Reference: sum of nominal FLOPs by size, Bhagia et al. 2024's runs (cumulative 1.30e20, 5.91e20, 2.33e21, 6.99e21)
CUMULATIVE = {"190M": 1.30e20, "370M": 5.91e20, "760M": 2.33e21, "1B": 6.99e21}


def test_the_sixteen_rungs_cost_what_the_paper_says():
    ladder_plan = plan.make(loader.load("olmo2"))
    assert len(ladder_plan.rungs) == 16
    total = 0
    for size, published in CUMULATIVE.items():
        total += sum(row.flops for row in ladder_plan.rungs if row.size == size)
        assert total == pytest.approx(published, rel=0.005)
    assert f"{ladder_plan.flops:.2e}" == "6.99e+21"
    # 3.6 % of the 7B-4T run, 1.5 % of the 13B-5T run, 1.07 % of both
    assert ladder_plan.shares == {"7B-4T": pytest.approx(0.0358, abs=5e-4), "13B-5T": pytest.approx(0.0153, abs=5e-4)}
    assert ladder_plan.flops / sum(t.flops for t in ladder_plan.targets) == pytest.approx(0.0107, abs=5e-5)


def test_target_flops_as_published():
    targets = plan.make(loader.load("olmo2")).targets
    assert [f"{t.flops:.4e}" for t in targets] == ["1.9493e+23", "4.5669e+23"]


def test_a_trunk_is_paid_once():
    ladder_plan = plan.make(loader.load("demo"))
    for trunk in (row for row in ladder_plan.rungs if row.kind == "trunk"):
        branches = [row for row in ladder_plan.rungs if row.branch_of == trunk.run_id]
        assert len(branches) >= 3
        assert trunk.own_flops == trunk.flops
        for branch in branches:
            assert branch.own_flops == branch.flops - branch.flops_per_token * branch.parent_step * branch.batch_tokens
            assert branch.depends_on == (trunk.run_id,)
    assert (
        ladder_plan.flops
        == sum(row.own_flops for row in ladder_plan.rungs)
        < sum(row.flops for row in ladder_plan.rungs)
    )


def test_plan_json():
    value = json.loads(json.dumps(plan.to_json(plan.make(loader.load("demo")))))
    wanted = {"run_id", "size", "multiple", "n_params", "n_non_embedding", "n_total", "tokens", "steps"}
    wanted |= {"batch_tokens", "peak_lr", "flops", "depends_on", "branch_of"}
    for row in value["rungs"] + value["targets"]:
        assert wanted <= row.keys()
    known = {row["run_id"] for row in value["rungs"]}
    assert all(set(row["depends_on"]) <= known for row in value["rungs"])


def test_memory_is_less_on_more_devices():
    one, many = (plan.make(loader.load("olmo2"), devices).rungs[0].memory_bytes for devices in (1, 64))
    assert sum(one.values()) - one["logits"] == pytest.approx(64 * (sum(many.values()) - many["logits"]), rel=1e-3)


def test_the_table_names_the_runs_that_mask_documents():
    first = loader.load("demo").rungs[0]
    masked = replace(first, seed=1, name="masked", data=replace(first.data, mask_documents=True))

    def shown(*rungs):
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(plan.table(plan.make(Ladder("some", rungs))))
        return [line for line in console.export_text().splitlines() if "within a document" in line]

    assert shown(first) == []
    [alone], [both] = shown(masked), shown(first, masked)
    assert alone.startswith("Attention and positions stay within a document; FLOPs are")
    assert "within a document (data.mask_documents: masked); FLOPs" in both


@pytest.mark.parametrize("name", loader.BUILT_IN)
def test_the_table_shows_every_run_uncut(name):
    ladder = loader.load(name)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(plan.table(plan.make(ladder)))
    text = console.export_text()
    for rung in ladder.all:
        assert f" {rung.label} " in text
    assert "…" not in text
    assert f"Sum of the {len(ladder.rungs)} rungs" in text


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (terminal.size, 1536, "1.5 KiB"),
        (terminal.size, 3 * 2**30, "3 GiB"),
        (terminal.duration, 8.4, "8 s"),
        (terminal.duration, 59.6, "1 min 00 s"),
        (terminal.duration, 200, "3 min 20 s"),
        (terminal.duration, 7500, "2 h 05 min"),
    ],
)
def test_numbers_for_people(function, value, text):
    assert function(value) == text
