"""The paper's runs are fetched from a git repository at one commit; the test creates such a repository."""

import subprocess

import pytest

from fitting.tables import runs_table
from ladder.errors import InputError
from launch import cli
from launch.fetch import paper_runs


def git(*arguments, folder):
    author = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    return subprocess.run(
        ["git", *author, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def published(tmp_path):
    """(A repository with two runs and another file, the hash of its commit)."""
    repository = tmp_path / "published"
    (repository / paper_runs.RUNS).mkdir(parents=True)
    header = "_step,throughput/total_tokens,eval/downstream_bpb/piqa_val_rc_5shot_bpb\n"
    (repository / paper_runs.RUNS / "190M-1xC.csv").write_text(f"{header}7272,3812622336,1.2\n")
    header = f"{header.removeprefix('_step,').strip()},batch_size_in_tokens\n"  # as the published file has it: no step
    (repository / paper_runs.RUNS / "peteish7_eval_anneal.csv").write_text(f"{header}3945065873408,0.5,4194304\n")
    (repository / "large.bin").write_text("not wanted")
    git("init", "--quiet", folder=repository)
    git("add", ".", folder=repository)
    git("commit", "--quiet", "-m", "runs", folder=repository)
    git("config", "uploadpack.allowFilter", "true", folder=repository)
    git("config", "uploadpack.allowAnySHA1InWant", "true", folder=repository)
    return repository, git("rev-parse", "HEAD", folder=repository)


def test_the_runs_of_one_commit_become_a_table(published, tmp_path):
    repository, commit = published
    folder = tmp_path / "cache"
    runs = runs_table.read(paper_runs.install(folder, repository.as_uri(), commit))
    assert dict(zip(runs["run"], runs["split"], strict=True)) == {"190M-1xC": "train", "7B-4T": "target"}
    assert runs.select(run="7B-4T")["step"] == [940577]
    assert not (folder / "repository" / "large.bin").exists()
    assert paper_runs.install(folder, "nowhere", commit) == folder / "runs.csv.gz"  # exists already


def test_a_commit_that_is_not_there(published, tmp_path):
    repository, _ = published
    with pytest.raises(InputError, match="0000"):
        paper_runs.install(tmp_path / "cache", repository.as_uri(), "0" * 40)
    assert not (tmp_path / "cache" / "runs.csv.gz").exists()


def test_it_takes_no_name(capsys):
    assert cli.main(["data", "paper", "demo"]) == 2
    assert "takes no 'demo'" in capsys.readouterr().err
