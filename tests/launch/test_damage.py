"""Whatever is damaged in a run directory or a corpus, no command gives a wrong answer without a word, or a traceback.

One file is damaged, then `verify`, `status`, `export` and `train` run, and everything is restored. A damage counts as
  named     verify says that something is damaged
  refused   export leaves the run out and says so, or train stops with one line
  harmless  every answer is that of the undamaged files: the table, the trained numbers, the states
A damage is silent if it is none of these.
"""

import contextlib
import hashlib
import io
import json
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from ladder.rundir.files import read_sealed, sealed
from launch import cli
from tests.ladder.conftest import World
from tests.ladder.loop.test_train import numbers
from tests.ladder.loop.training import run

pytestmark = pytest.mark.usefixtures("quick_compile")
EXCEPTED = ("timing.jsonl", "heartbeat.json", "log.txt", "lease.lock", "job.lock", "VERIFIED.json")


class Killed(BaseException):
    pass


def die_at(name: str, count: int):
    """A stand-in for kill_points.phase: the process dies at the count-th call of phase `name`."""
    reached = Counter()

    def phase(reached_name):
        reached[reached_name] += 1
        if reached_name == name and reached[name] == count:
            raise Killed

    return phase


class Undamaged:
    """A finished run with an evaluation, and one that was killed between a segment and its checkpoint; the answers."""

    def __init__(self, folder: Path):
        folder.mkdir()
        world = World(folder)
        self.folder, self.copy, self.root = folder, folder.parent / "undamaged", folder / "runs"
        self.finished, self.unfinished = world([world.rung(), world.rung(seed=1)], self.root)
        self.ladder = self.finished.parent
        assert run(self.finished) == 0
        lines = [json.loads(line) for line in world.requests.read_text().splitlines()]
        quiz = folder / "quiz.jsonl"
        quiz.write_text("".join(json.dumps(line | {"task_name": "quiz"}) + "\n" for line in lines))
        assert cli.main(["eval", str(self.finished), "--tasks", str(quiz)]) == 0
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr("ladder.rundir.record.phase", die_at("metrics-published", 3))
            run(self.unfinished)
        while list(self.unfinished.rglob("*.orbax-checkpoint-tmp")):  # orbax's threads live on, unlike after kill -9
            time.sleep(0.01)
        shutil.copytree(folder, self.copy)
        assert run(self.unfinished) == 0
        self.trained = numbers(self.unfinished)
        self.restore()
        self.states = self.ask("status")["json"]
        self.exported = self.ask("export")["table"]
        assert self.ask("verify")["code"] == 0

    def restore(self):
        for name in ("runs", "corpora"):
            shutil.rmtree(self.folder / name)
            shutil.copytree(self.copy / name, self.folder / name)

    def files(self):
        paths = [path for name in ("runs", "corpora") for path in (self.folder / name).rglob("*") if path.is_file()]
        return sorted(path for path in paths if path.name not in EXCEPTED and ".compiled" not in path.parts)

    def ask(self, verb: str) -> dict:
        """Run a verb; its code, what it printed, and what it wrote. Whatever is raised is a traceback for the user."""
        out, table = self.folder / "out.json", self.folder / "table.csv"
        out.unlink(missing_ok=True)
        table.unlink(missing_ok=True)
        arguments = {
            "verify": ["verify", str(self.ladder), "--json", str(out)],
            "status": ["status", str(self.ladder), "--json", str(out)],
            "export": ["export", str(self.ladder), "-o", str(table)],
            "train": ["train", str(self.unfinished)],
        }[verb]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = cli.main(arguments)
        answer = {"code": code, "said": said.getvalue()}
        answer["json"] = json.loads(out.read_text()) if out.exists() else None
        answer["table"] = table.read_text() if table.exists() else None
        return answer

    def judge(self, train: bool) -> set[str]:
        """What the commands make of the damage; AssertionError where one is silent."""
        found = set()
        verify, status, export = self.ask("verify"), self.ask("status"), self.ask("export")
        if verify["code"] == 1:
            found.add("named")
        assert verify["code"] in (0, 1, 2), verify["said"]
        assert status["code"] in (0, 2) and export["code"] in (0, 2), (status["said"], export["said"])
        if export["code"] == 2:
            assert len(export["said"].splitlines()) == 1, export["said"]
            found.add("refused")
        elif export["table"] != self.exported:
            assert f"{self.finished.name}: " in export["said"], "export is another table, without a word"
            found.add("refused")
        if not train:
            return found
        trained = self.ask("train")
        if trained["code"] == 0:
            leaves, rows = numbers(self.unfinished)
            assert rows == self.trained[1], "other metrics, without a word"
            assert all(x.tobytes() == self.trained[0][name].tobytes() for name, x in leaves.items()), "other parameters"
        else:
            assert trained["code"] in (2, 75), trained["said"]  # 75: a damaged lease counts until it expires
            assert len(trained["said"].splitlines()[-1:]) == 1 and "Traceback" not in trained["said"], trained["said"]
            found.add("refused")
        return found


def damages(path: Path, others: list[Path], draw: random.Random) -> dict:
    """{name: what it does to the file}. others: files of the same name elsewhere."""
    content = path.read_bytes()
    kinds = {"deleted": path.unlink}
    if content:
        kinds["empty"] = lambda: path.write_bytes(b"")
        at, cut = draw.randrange(8 * len(content)), draw.randrange(len(content))
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        kinds["a bit"] = lambda: path.write_bytes(flipped)
        kinds["cut"] = lambda: path.write_bytes(content[:cut])
        kinds["longer"] = lambda: path.write_bytes(content + draw.randbytes(draw.randint(1, 9)))
        kinds["noise"] = lambda: path.write_bytes(draw.randbytes(len(content)))
        digits = [i for i, byte in enumerate(content) if chr(byte) in "0123456789"]
        if digits and path.suffix in (".json", ".jsonl"):
            i = draw.choice(digits)
            other = draw.choice([d for d in b"123456789" if d != content[i]])
            kinds["a digit"] = lambda: path.write_bytes(content[:i] + bytes([other]) + content[i + 1 :])
    if others:
        another = draw.choice(others)
        kinds["another's"] = lambda: shutil.copyfile(another, path)
    return kinds


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory):
    return Undamaged(tmp_path_factory.mktemp("damage") / "world")


def inject(undamaged, n: int, seed: int, train: bool) -> Counter:
    """Damage n files, every kind of file and of damage in turn; counts what was made of it."""
    draw, counts, silent = random.Random(seed), Counter(), []
    paths = undamaged.files()
    by_name = {path.name: [p for p in paths if p.name == path.name] for path in paths}
    names = sorted(by_name)
    for i in range(n):
        path = draw.choice(by_name[names[i % len(names)]])
        others = [p for p in by_name[path.name] if p != path and p.read_bytes() != path.read_bytes()]
        if path.suffix == ".jsonl" or "array_record" in path.name:  # of another step, or of another split
            others = others or [p for p in path.parent.iterdir() if p != path and p.is_file()]
        kinds = damages(path, others, draw)
        kind = draw.choice(sorted(kinds))
        kinds[kind]()
        where = path.relative_to(undamaged.folder)
        try:
            found = undamaged.judge(train and undamaged.finished.name not in where.parts)
            counts.update(found or {"harmless"})
            counts["damages"] += 1
            if "named" not in found and kind != "deleted":
                print(f"not named: {where} {kind} {found}")
        except Exception as error:
            silent.append(f"{where}, {kind}: {type(error).__name__}: {error}"[:600])
        undamaged.restore()
    print(dict(counts))
    assert not silent, "\n".join(silent)
    return counts


def test_a_few_damages(undamaged):
    assert inject(undamaged, 24, seed=0, train=False)["damages"] == 24


@pytest.mark.chaos
def test_three_hundred_damages(undamaged):
    assert inject(undamaged, 300, seed=1, train=True)["damages"] == 300


def test_an_edited_setting_is_refused(undamaged, capsys):
    """A person edits the learning rate, and even the hash in the file."""
    path = undamaged.unfinished / "config.json"
    try:
        config = read_sealed(path)
        config["rung"]["optimizer"]["peak_lr"] = 0.5
        path.write_text(sealed(config))
        assert cli.main(["train", str(undamaged.unfinished)]) == 2
        said = capsys.readouterr().err
        assert "config.json: edited: its settings are those of" in said and said.count("\n") == 1
        assert undamaged.ask("verify")["code"] == 1
        config = json.loads((undamaged.copy / "runs" / "tiny" / path.parent.name / "config.json").read_text())
        del config["sha256"]
        config["derived"]["n_params"] += 1
        path.write_text(sealed(config))
        assert cli.main(["train", str(undamaged.unfinished)]) == 2
        assert "config.json: edited: derived.n_params is" in capsys.readouterr().err
    finally:
        undamaged.restore()


def test_runs_made_before_hashes_were_kept_still_open(undamaged, capsys):
    """Their files as the version before wrote them: no hashes, no run_id; orbax's files beside the manifest."""
    try:
        for directory in (undamaged.finished, undamaged.unfinished):
            as_before(directory)
        answer = undamaged.ask("verify")
        assert answer["code"] == 0, answer["said"]
        runs = {run["name"]: run for run in answer["json"]["runs"]}
        assert set(runs[undamaged.finished.name]["unchecked"]) == {"config.json", "DONE.json", "metrics", "evaluations"}
        assert set(runs[undamaged.unfinished.name]["unchecked"]) == {"config.json", "metrics"}
        assert "unchecked, made before ladder kept hashes" in " ".join(answer["said"].split())
        assert undamaged.ask("status")["code"] == 0
        assert undamaged.ask("export")["table"] == undamaged.exported
        assert undamaged.ask("train")["code"] == 0
        assert numbers(undamaged.unfinished)[1] == undamaged.trained[1]
    finally:
        undamaged.restore()


def as_before(directory: Path) -> None:
    for name in ("config.json", "DONE.json"):
        path = directory / name
        if path.exists():
            drop = ("sha256", "numerics_version", "metrics") + (("run_id",) if name == "DONE.json" else ())
            value = {k: v for k, v in json.loads(path.read_text()).items() if k not in drop}
            path.write_text(json.dumps(value | {"schema_version": 1}, indent=2) + "\n")
    shutil.rmtree(directory / "leases")
    for step in (directory / "checkpoints").iterdir():
        if not (step / "MANIFEST.json").exists():  # it was killed while it saved this step
            shutil.rmtree(step)
            continue
        manifest = json.loads((step / "MANIFEST.json").read_text())
        [data] = step.glob("data-*")
        for path in list(data.iterdir()):
            path.rename(step / path.name)
        data.rmdir()
        manifest_before(step / "MANIFEST.json", {k: manifest[k] for k in ("step", "leaves", "files")})
    folder = directory / "evaluations"
    for path in folder.glob("0*.json"):
        rows = json.loads(path.read_text())["rows"]
        path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        path.unlink()
    (folder / "INDEX.json").unlink(missing_ok=True)


def manifest_before(path: Path, body: dict) -> None:
    def text(value):
        return json.dumps(value, sort_keys=True, separators=(",", ":"))

    body = body | {"schema_version": 1}
    path.write_text(text(body | {"sha256": hashlib.sha256(text(body).encode()).hexdigest()}) + "\n")
