"""What the page shows of a ladder's folder: states, curves, damage, and the forecast after each finished run."""

import json
import os
import threading
from html.parser import HTMLParser
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitting.forecasting import predict
from fitting.tables import runs_table
from fitting.tables.points import Target
from ladder.rundir.record import Record
from launch import cli, goodput
from launch.page import content, curves, forecasts
from launch.page.writer import Page
from launch.scheduler import loop, reconcile, status
from tests.launch import stand_ins

TARGET = Target("big", 640_000.0, 51_200_000.0)
FINISHED = [f"n{n}-{multiple}xC" for n in (20_000, 40_000, 80_000, 160_000) for multiple in (4, 1, 2)]


@pytest.fixture(scope="module")
def law(tmp_path_factory):
    """A ladder of twelve runs that are done, and finished in another order than that of their tokens."""
    folder = stand_ins.ladder_that_follows_a_law(tmp_path_factory.mktemp("runs"))
    for i, name in enumerate(FINISHED):
        with patch("time.time", lambda i=i: 1e9 + 100 * i):
            Record(folder / name).heartbeat(10, 1.0, 1.0)
    return folder


@pytest.fixture
def begun(tmp_path):
    """A ladder of three runs: one that trains, whose metrics have two segments; one that is done; one not begun."""
    folder = tmp_path / "mine"
    for name in ("a", "b", "c"):
        stand_ins.run(folder, name, size=f"size-{name}", n_params=1000)
    for name in ("a", "b"):
        record = Record(folder / name)
        publish(record, 5)
        publish(record, 10)
        if name == "b":
            record.finish(step=10, loss=1.0)
    save(folder / "a", 10)
    return folder


def publish(record, step):
    common = {"step": step, "tokens": 64 * step, "kind": "full", "stderr": None, "n_docs": None}
    pairs = (("train", "loss", 2.0), ("validation", "loss", 1.5), ("validation", "bpb", 3.0), ("train", "grad_norm", 1))
    record.log([common | {"task": task, "metric": metric, "value": value / step} for task, metric, value in pairs])
    record.publish(step)


def save(run, step):
    """The manifest of a checkpoint, as `status` looks for it."""
    (run / "checkpoints" / str(step)).mkdir(parents=True)
    (run / "checkpoints" / str(step) / "MANIFEST.json").write_text(json.dumps({"files": {}, "filler": "x" * 20}))


def read(folder, reader=None):
    reader = reader or content.Reader(folder, "mine", targets=[TARGET])
    return reader.read(status.read(folder))


def texts(path):
    class Texts(HTMLParser):
        found = ""

        def handle_data(self, data):
            self.found += data

    parser = Texts()
    parser.feed(path.read_text().partition("</style>")[2].partition("<script>")[0])
    return parser.found


def test_the_forecast_is_that_of_ladder_predict(law):
    (forecast,) = read(law).forecasts.of_targets
    expected = predict.predict(runs_table.read(law), [TARGET]).tasks[0]
    last = forecast.history[-1]
    assert (last.low, last.value, last.high) == (expected.bpb_interval[0], expected.bpb, expected.bpb_interval[1])
    assert (forecast.task, forecast.unit, last.n_runs) == ("validation", "bits per byte", 12)


def test_each_step_is_the_forecast_of_the_runs_that_had_finished_by_then(law):
    (forecast,) = read(law).forecasts.of_targets
    table = runs_table.read(law)
    assert [step.n_runs for step in forecast.history] == [*range(4, 13)]
    for step in (forecast.history[0], forecast.history[3]):
        expected = predict.predict(table.select(run=FINISHED[: step.n_runs]), [TARGET]).tasks[0]
        assert (step.low, step.value, step.high) == (expected.bpb_interval[0], expected.bpb, expected.bpb_interval[1])
    widths = [step.high - step.low for step in forecast.history]
    assert widths[-1] < 0.5 * widths[0]


def test_it_is_fitted_again_only_when_a_run_finishes(law):
    reader, runs = content.Reader(law, "mine", targets=[TARGET]), status.read(law)
    with patch.object(predict, "predict", wraps=predict.predict) as fitted:
        reader.read(runs[:5])
        assert fitted.call_count == 2  # of four runs, and of five
        reader.read(runs[:5])
        assert fitted.call_count == 2
        reader.read(runs[:6])
        assert fitted.call_count <= 2 + 3


@pytest.mark.parametrize("n, says", [(0, "No run is done yet."), (3, "a forecast needs 4")])
def test_too_few_runs_are_said_in_a_sentence(law, n, says):
    reader = content.Reader(law, "mine", targets=[TARGET])
    (forecast,) = reader.read(status.read(law)[:n]).forecasts.of_targets
    assert says in forecast.missing and not forecast.history


def test_without_a_target_there_is_no_forecast(law):
    assert "No target" in content.Reader(law, "mine").read(status.read(law)).forecasts.missing


def test_damaged_targets_are_said_in_a_sentence(law):
    (law / "submit.json").write_text("{")
    assert "The targets cannot be read" in content.Reader(law, "mine").read(status.read(law)).forecasts.missing
    (law / "submit.json").unlink()


def test_long_histories_have_few_steps():
    assert forecasts._lengths(12, 4) == [*range(4, 12)]
    lengths = forecasts._lengths(1000, 4)
    assert len(lengths) == forecasts.MOST_STEPS and lengths[0] == 4 and lengths[-1] < 1000
    assert forecasts._lengths(3, 4) == []


def test_curves_are_in_bits_per_byte(begun):
    page = read(begun)
    assert [(run.run_id, run.state) for run in page.runs] == [("a", "pending"), ("b", "done"), ("c", "pending")]
    assert page.unit == "bits per byte"
    # 1 nat per token of the validation text is 2 bits per byte.
    assert page.curves["a"].train == [(320, 2 * 2.0 / 5), (640, 2 * 2.0 / 10)]
    assert page.curves["a"].validation == [(320, 0.6), (640, 0.3)]
    assert "c" not in page.curves


def test_a_run_without_validation_text_has_nats():
    one = {"a": curves.Curve([(1.0, 2.0)])}
    assert curves.in_bpb(one) == (one, "nats per token")
    both, unit = curves.in_bpb(one | {"b": curves.Curve(bpb_per_nat=0.5)})
    assert both["a"].train == [(1.0, 1.0)] and unit == "bits per byte"


def test_a_running_run_shows_the_loss_it_has_now(begun):
    with patch.object(Record, "check_lease", lambda _: None):
        Record(begun / "a").heartbeat(12, 0.1, 1e3)
    runs = [run if run.run_id != "a" else _running(run) for run in status.read(begun)]
    assert content.Reader(begun, "mine").read(runs).curves["a"].train[-1] == (12 * 64, 0.2)


def _running(run):
    from dataclasses import replace

    return replace(run, state="running", step=12, loss=0.1)


@pytest.mark.parametrize("cut", [1, 40, -1, None])
@pytest.mark.parametrize("segment, kept", [("000000000-000000005.jsonl", 0), ("000000006-000000010.jsonl", 1)])
def test_a_half_written_segment_ends_only_its_own_curve(begun, tmp_path, cut, segment, kept):
    path, reader = begun / "a" / "metrics" / segment, content.Reader(begun, "mine", targets=[TARGET])
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] if cut else b"\0\xff{" + whole)
    page = read(begun, reader)
    damaged, intact = page.runs[0], page.runs[1]
    assert damaged.state == "damaged" and f"{path}:" in damaged.detail
    assert intact.state == "done" and len(page.curves["b"].train) == 2
    assert len(page.curves["a"].train) >= kept
    Page(begun, tmp_path / "page.html", "mine").write(status.read(begun))
    assert f"{path}:" in texts(tmp_path / "page.html")
    path.write_bytes(whole)  # it was being copied
    mended = read(begun, reader)
    assert mended.runs[0].state == "pending" and len(mended.curves["a"].train) == 2


@pytest.mark.parametrize("name, content_", [("config.json", b"{"), ("DONE.json", b"\0"), ("metrics", None)])
def test_a_damaged_run_is_shown_with_the_reason(begun, name, content_):
    path = begun / "b" / name
    if content_ is None:
        (path / "000000000-000000005.jsonl").write_text("{}\n")
    else:
        path.write_bytes(content_)
    runs = {run.run_id: run for run in read(begun).runs}
    assert runs["b"].state == "damaged" and name in runs["b"].detail
    assert runs["a"].state == "pending"


def test_a_changed_segment_of_a_finished_run_is_left_out_of_the_forecast(begun):
    """Its JSON is intact, but its hash is not that of DONE.json."""
    path = begun / "b" / "metrics" / "000000000-000000005.jsonl"
    path.write_text(path.read_text().replace('"value":0.4', '"value":0.5'))
    runs = {run.run_id: run for run in read(begun).runs}
    assert runs["b"].state == "damaged" and "hash differs" in runs["b"].detail


def test_an_intact_segment_is_read_once(begun):
    reader = content.Reader(begun, "mine", targets=[TARGET])
    read(begun, reader)
    with patch("ladder.rundir.segments.read_bytes", side_effect=AssertionError):
        read(begun, reader)
    record = Record(begun / "a")
    record._published = 10
    publish(record, 15)
    save(begun / "a", 15)
    with patch("ladder.rundir.segments.rows", wraps=curves.segments.rows) as rows:
        assert len(read(begun, reader).curves["a"].train) == 3
    assert [call.args[0].name for call in rows.call_args_list] == ["000000011-000000015.jsonl"]


def test_where_the_time_went_is_shown(begun, tmp_path, monkeypatch):
    seconds = dict.fromkeys(goodput.PARTS, 0.0) | {"productive": 90.0, "lost": 10.0}
    monkeypatch.setattr(goodput, "of_run", lambda record: seconds if record.directory.name == "b" else {})
    Page(begun, tmp_path / "page.html", "mine").write(status.read(begun))
    shown = texts(tmp_path / "page.html")
    assert "1 min 40 s of all runs together, 90% of it productive" in shown
    assert "productive 90.0%" in shown and "lost 10.0%" in shown and "compile" not in shown


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 10**12), st.floats(0.1, 20)), min_size=1, max_size=400), st.integers(2, 50))
def test_thinned_curves_are_means_and_keep_their_end(points, most):
    points = sorted({tokens: value for tokens, value in points}.items())
    thin = curves.thinned(points, most)
    assert len(thin) <= max(most + 1, 2) and thin[-1] == points[-1]
    tokens, values = np.array(thin).T
    assert (np.diff(tokens) > -1e-6 * tokens[1:]).all() and min(v for _, v in points) <= values.min() * (1 + 1e-9)
    assert values.max() <= max(v for _, v in points) * (1 + 1e-9)


def test_the_command_writes_the_page(begun, tmp_path, capsys):
    path = tmp_path / "new" / "status.html"
    assert cli.main(["status", str(begun), "--html", str(path)]) == 0
    shown = texts(path)
    assert "1 of 3 runs are done" in shown and "written again" not in shown and "size-a" in shown
    assert list(path.parent.iterdir()) == [path]
    assert cli.main(["status", str(begun), "--html", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def a_round(folder, settled=False):
    runs = {run.run_id: run for run in status.read(folder)}
    states = dict.fromkeys(runs, next(iter(reconcile.SETTLED)) if settled else "running")
    return loop.Round(runs, states, ())


def test_it_is_written_when_due_and_when_the_ladder_is_settled(begun, tmp_path):
    path, said = tmp_path / "status.html", []
    page = Page(begun, path, "mine", every=3600)
    page.follow(a_round(begun), said.append)
    assert "written again every" in texts(path)
    path.unlink()
    page.follow(a_round(begun), said.append)
    assert not path.exists()
    page.follow(a_round(begun, settled=True), said.append)
    assert "written again" not in texts(path) and said == []


def test_a_page_that_cannot_be_written_stops_nothing(begun, tmp_path):
    path, said = tmp_path / "status.html", []
    page = Page(begun, path, "mine", every=0)
    path.mkdir()
    page.follow(a_round(begun), said.append)
    assert len(said) == 1 and str(path) in said[0]


def test_a_reader_sees_a_whole_page_at_any_moment(begun, tmp_path):
    path, stop, seen = tmp_path / "status.html", threading.Event(), []
    page = Page(begun, path, "mine")
    page.write(status.read(begun))

    def look():
        while not stop.is_set():
            seen.append(path.read_text().endswith("</html>\n"))

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(20):
        page.write(status.read(begun))
    stop.set()
    thread.join()
    assert seen and all(seen) and os.listdir(tmp_path).count("status.html") == 1
