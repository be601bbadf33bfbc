"""`ladder submit --dry-run`: what would be asked for, from the config and from what is at hand. Nothing is written.

What could not be looked up (a corpus that is not built yet, a bucket without gcsfs, requests of tasks) is said, a line
each. A run_id whose corpus is not known yet is not final: its hash then begins with an x.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from etils import epath

from ladder.config import Data, Ladder
from ladder.errors import InputError
from ladder.rundir.files import absolute, as_path, is_local
from launch import epochs, prepare
from launch.backends.archive import Code, publish
from launch.backends.bucket_mount import Placement
from launch.prepare import Built
from launch.scheduler import placement, status, submission
from launch.scheduler.status import Status
from launch.scheduler.submission import BackendConfig, Submission


@dataclass
class DryRun:
    """notes: a line for each thing that a user should know. not_checked: and for each that could not be looked up."""

    ladder: Ladder
    root: str
    corpora: str
    notes: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)

    def plan(self, targets: bool, config: BackendConfig, stage: placement.Stage) -> Submission:
        """What would be submitted. Raises InputError where the config itself is wrong."""
        self._check_tasks()
        if config.backend == "tpu":
            config = replace(config, code=self._code(config.settings.tpu.archive))
        built, is_final = self._built()
        rungs = built.ladder.all if targets else built.ladder.rungs
        for rung in rungs:
            prepare.check_batch(rung, built)
        if config.tpu:
            prepare.check_layouts(rungs, config.tpu.slice_of, config.tpu.slices)
        config = replace(config, placement=self._placement(built, rungs, config, stage, is_final))
        name = str if is_final else _marked
        return submission.planned(built.ladder, rungs, epath.Path(self.root), config, name)

    def runs(self, submitted: Submission) -> dict[str, Status]:
        """The state of every run: "pending" where it has no run directory, or where that could not be read."""
        with self._noting(f"which runs are done in {self.root}"):
            as_path(self.root)  # raises InputError where the package that reads it is missing
            return status.of_planned(submitted.jobs)
        return status.pending(submitted.jobs)

    @contextmanager
    def _noting(self, what: str, errors: tuple[type[Exception], ...] = (InputError, OSError)) -> Iterator[None]:
        """Note that `what` could not be looked up, where the block raises one of `errors`."""
        try:
            yield
        except errors as error:
            self.not_checked.append(f"{what} ({error})")

    def _check_tasks(self) -> None:
        from ladder.evaluation import tasks

        names = sorted({task for rung in self.ladder.all for task in tasks.expand(rung.eval.tasks)})
        for name in names:
            tasks.check_name(name)
        if downloaded := [name for name in names if name.startswith("tfds:")]:
            self.not_checked.append(f"the questions of {', '.join(downloaded)} (reading them may download them)")
        with self._noting("the questions of tasks"):
            for name in names:
                if name not in downloaded:
                    prepare.check_task(name)

    def _code(self, archive: str) -> Code:
        with self._noting("the code that machines fetch"):
            return publish(archive, dry=True)
        return Code(f"{archive}/COMMIT.tar.gz", "COMMIT", "HASH")

    def _built(self) -> tuple[Built, bool]:
        """The ladder with the hashes of those corpora that are built, and whether these are all."""
        from ladder.data.storage.locations import location, real
        from ladder.data.tokens.source import TokenSource

        prepare.check_tokenizers(self.ladder, named=False)
        keys = dict.fromkeys((rung.data, rung.model.seq_len) for rung in self.ladder.all)
        windows = {key: self._windows(*key) for key in keys}
        for rung in self.ladder.all:
            prepare.check_data(rung, windows[rung.data, rung.model.seq_len])
        ladder = self.ladder.map(
            lambda rung: replace(rung, data=prepare.with_hashes(rung.data, windows[rung.data, rung.model.seq_len]))
        )
        ladder, _ = prepare.with_published(ladder)
        every = [corpus for of_rung in windows.values() for corpus in of_rung]
        folders = {
            c.hash: location(real(c.directory)) if isinstance(c, TokenSource) else absolute(c.directory)
            for c in filter(None, every)
        }
        of_each = {corpus.hash: corpus.windows["train"] for corpus in every if corpus}
        return Built(ladder, folders, windows=of_each), None not in every

    def _windows(self, data: Data, seq_len: int) -> list:
        """The corpus of each source; None where it is not built yet or cannot be read."""
        from ladder.data import corpus
        from ladder.data.tokens import source as token_source

        opened = []
        known = epochs.built(data, seq_len, epath.Path(self.corpora)) if self._can_read(self.corpora) else None
        for i, source in enumerate(data.sources or [data]):
            one, where = None, f"data.sources.{source.name}" if data.sources else "data.text"
            if getattr(source, "format", "text") == "tokens":
                with self._noting(f"{where}: its token files"):
                    one = token_source.find(source.text, source.corpus, data.tokenizer, seq_len)
            elif known and (name := source.corpus or known[i]):
                with self._noting(f"{where}: its corpus"):
                    one = corpus.open_corpus(epath.Path(self.corpora) / name)
            else:
                reason = "not built yet" if is_local(self.corpora) else "not built yet, or not readable from here"
                self._note_once(f"{where}: its corpus in {self.corpora} ({reason}), so hashes of runs are not final")
            opened.append(one)
        return opened

    def _can_read(self, folder: str) -> bool:
        try:
            as_path(folder)
        except InputError:
            return False
        return True

    def _note_once(self, line: str) -> None:
        if line not in self.not_checked:
            self.not_checked.append(line)

    def _placement(self, built: Built, rungs, config: BackendConfig, stage, is_final: bool) -> Placement:
        root, corpora = epath.Path(self.root), epath.Path(self.corpora)
        limits = config.tpu
        if limits is None:
            return Placement()
        if is_final:
            with self._noting("the sizes of the corpora", (OSError,)):
                placed, notes = placement.place(built, rungs, root, config.backend, config.settings, stage, dry=True)
                self.notes += notes
                return placed
        elif is_local(corpora):
            self.notes.append(placement.not_visible([str(corpora)], "--corpora", config.backend))
        if stage == "never":
            return Placement(placement.buckets([corpora], limits))
        self.not_checked.append(
            f"the sizes of the corpora: they are shown as copied; if those of a run exceed {config.backend}.scratch_gib"
            f" = {limits.scratch_gib}, their bucket is mounted instead (--stage never shows that)"
        )
        return Placement()


def _marked(run_id: str) -> str:
    """A run_id that is not final."""
    front, _, identity = run_id.rpartition("-")
    return f"{front}-x{identity[1:]}"
