"""`ladder new`: its file is a ladder that the other verbs accept, within the budget, with the published shapes."""

import dataclasses

import numpy as np
import pytest

from configs import by_rules, loader, olmo2
from fitting.laws.published import PUBLISHED
from ladder.flops import flops_per_token
from launch import cli
from launch.ladder_file import choose


@pytest.mark.parametrize("size", ["190M", "370M", "760M", "1B", "7B", "13B"])
def test_a_published_size_comes_out_as_published(size):
    theirs = olmo2.rung(size, 5)
    ours = by_rules.by_rules(
        "x", {"a": theirs.model.d_model}, (5,), ("t", 4096, 10**12), olmo2.DATA, olmo2.TASKS, 100_352, 4096
    ).rungs[0]
    assert ours.model == theirs.model
    assert (ours.tokens, ours.batch_tokens, ours.optimizer) == (theirs.tokens, theirs.batch_tokens, theirs.optimizer)


def test_the_constants_are_the_published_ones():
    assert {tuple(sorted(p.params.items())) for p in PUBLISHED.values() if p.name == "besiroglu"} == {
        tuple(sorted(choose.LAW.items()))
    }


def test_derivatives_are_those_of_the_law():
    n, d, step = np.array([1e8, 1e9, 1e10]), np.array([2e9, 1e11, 1e12]), 1e-6
    by_hand = choose._derivatives(n, d)
    log_n, log_d = np.log(n).mean(), np.log(d).mean()

    def log_loss(E=0.0, ln_a=0.0, ln_b=0.0, alpha=0.0, beta=0.0):
        law = choose.LAW
        of_n = law["A"] * np.exp(ln_a + alpha * log_n) * n ** -(law["alpha"] + alpha)
        of_d = law["B"] * np.exp(ln_b + beta * log_d) * d ** -(law["beta"] + beta)
        return np.log(law["E"] + E + of_n + of_d)

    for column, name in enumerate(("E", "ln_a", "ln_b", "alpha", "beta")):
        numeric = (log_loss(**{name: step}) - log_loss(**{name: -step})) / (2 * step)
        assert by_hand[:, column] == pytest.approx(numeric, rel=1e-5, abs=1e-9)


CASES = {
    "published": (["--target", "7B,4T", "--budget", "1%"], 1e-2),
    "in FLOPs": (["--target", "big=13.2B,5T", "--budget", "1e21"], None),
    "small": (["--target", "1.3M,27M", "--tokenizer", "bpe:1024", "--tasks", "none", "--seq-len", "128"]
              + ["--budget", "10%", "--data", "python"], 1e-1),
}  # fmt: skip


@pytest.mark.parametrize("flags, share", CASES.values(), ids=CASES)
def test_the_file_is_a_ladder_within_the_budget(flags, share, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "2nd ladder.py", *flags]) == 0
    assert len((tmp_path / "2nd ladder.py").read_text().splitlines()) <= 30
    ladder = loader.load("2nd ladder.py:ladder")
    assert ladder.name == "nd-ladder"
    cost = sum(flops_per_token(rung.model) * rung.tokens for rung in ladder.rungs)
    (target,) = ladder.targets
    assert cost <= (share * flops_per_token(target.model) * target.tokens if share else 1e21)
    assert len(ladder.rungs) >= 9
    assert cli.main(["plan", "2nd ladder.py:ladder"]) == 0
    assert target.label in capsys.readouterr().out


def test_a_larger_budget_is_surer():
    chosen = [choose.choose(7e9, 4e12, share * 2e23, 100_352, 4096) for share in (0.003, 0.01, 0.03)]
    widths = [choice.half_width for choice in chosen]
    assert widths == sorted(widths, reverse=True) and len({*widths}) == 3
    assert all(dataclasses.asdict(choice)["flops"] > 0 for choice in chosen)


WRONG = {
    "exists": (["here.py", "--target", "7B,4T"], "here.py: is there already"),
    "not Python": (["m.txt", "--target", "7B,4T"], "name it m.py"),
    "no tokens": (["n.py", "--target", "7B"], "write N,D"),
    "too much": (["n.py", "--target", "7B,4T", "--budget", "200%"], "write a share of the target's FLOPs"),
    "too little": (["n.py", "--target", "7B,4T", "--budget", "1e12"], "the cheapest needs"),
    "too small": (["n.py", "--target", "10K,1M"], "name a smaller vocabulary"),
    "too large": (["n.py", "--target", "1e15,1e15"], "at most"),
    "tokenizer": (["n.py", "--target", "7B,4T", "--tokenizer", "foo"], "bpe:SIZE"),
    "folder": (["no/n.py", "--target", "7B,4T"], "cannot be written"),
}


@pytest.mark.parametrize("arguments, message", WRONG.values(), ids=WRONG)
def test_wrong_wishes_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.py").write_text("")
    assert cli.main(["new", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "n.py").exists()
