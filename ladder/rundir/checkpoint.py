"""Checkpoints: each one is complete and verified, or it is ignored. The only file that imports orbax.

    checkpoints/<step>/data-<lease>/  orbax's files, in a folder named after the number of the lease that wrote them
    checkpoints/<step>/MANIFEST.json  size and hash of every file, and of every segment of the metrics up to the step;
                                      created last, it publishes the step
    checkpoints/<step>/MANIFEST.json, "closed"
                                      this step was being saved when another process took the lease; not published
    checkpoints/bad-<step>-<k>/       did not match its manifest: set aside (renamed), never deleted
    checkpoints/<step>/ without MANIFEST.json
                                      left by a process that was killed; ignored

Orbax detects truncated and missing files when it reads them. It does not detect a flipped bit, and it never falls back
to an earlier step. So the manifest is checked before orbax opens a directory.

Where file locks do not work, a process may be paused, lose its lease, and go on. It publishes nothing: it checks its
lease when its data are written, and then creates the manifest only if there is none. The process that takes over
creates a "closed" manifest for every step that is being saved (`close`), before it reads which steps are published; it
alone writes its own manifest over that one, and leaves it when it deletes the step.
"""

import base64
import contextlib
import hashlib
import logging
import re

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from ladder.errors import InputError, Preempted
from ladder.parallel import processes
from ladder.rundir.files import (
    CLOSED,
    MANIFEST,
    absolute,
    create,
    entries_under,
    is_local,
    is_store_error,
    manifests,
    published_steps,
    read_bytes,
    read_sealed,
    sealed,
    write_atomic,
)
from ladder.rundir.kill_points import phase

# If orbax creates a directory in the background and fails, the process takes minutes to exit.
_ASYNC = ocp.options.AsyncOptions(create_directories_asynchronously=False)
_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run. To save a step, call `start` and then `commit`; only one save may be pending.

    A state is a pytree of jax arrays. An abstract state is the same tree of jax.ShapeDtypeStruct with shardings; its
    mesh may differ from the mesh that saved. In a run of several processes all of them call every method except
    `steps`. Each process hashes the files that it wrote and verifies its share of the files; only process 0 writes
    manifests and deletes.

    lease: the number of the lease (lease.py), the same in all processes; 0 where there is none.
    """

    def __init__(self, directory, process_index=0, lease=0):
        self.directory = absolute(directory)  # orbax accepts only absolute paths
        self.process_index = process_index
        self.data = f"data-{lease}"
        self._started = None  # (step, orbax's response, leaves)
        self._closed = set()  # steps that another process may still want to publish
        logging.getLogger("absl").addFilter(_is_not_from_orbax)

    def start(self, step, state):
        """Start to save `state`. When this returns, its device buffers may be donated.

        Raises OSError if the state cannot be written; `commit` may raise it later for the same reason. Raises Preempted
        if the step is published already: then another process has the lease.
        """
        if self._started:
            raise RuntimeError(f"step {self._started[0]} is not committed yet")
        path = self._path(step) / self.data
        leaves = {name: _dtype_and_shape(leaf) for name, leaf in _named_leaves(state)}
        try:
            processes.together(lambda: self._open(step), (OSError, Preempted))
            with _store_errors(), ocp.Context(async_options=_ASYNC):
                # overwrite: a save of this process that failed may have left files
                response = ocp.save_async(path, state, checkpointable_name="state", overwrite=True)
        except (OSError, ValueError) as error:
            raise self._discard(step, error) from error
        self._started = (step, response, leaves)
        phase("save-started")

    def abandon(self):
        """Wait for a save that was started, and do not publish it: a process that ends while orbax writes is noisy."""
        if self._started:
            _, response, _ = self._started
            self._started = None
            with contextlib.suppress(Exception):
                response.result()

    def commit(self, step, metrics=None, check=lambda: None):
        """Wait for the save of `step` and publish it. Raises OSError if any process could not write its part.

        metrics: the segments of the metrics up to the step (record.py), kept in the manifest. check: of the lease; it
        raises Preempted if the lease is lost, and then nothing is published.
        """
        response, leaves = self._take_started(step)
        errors = (OSError, ValueError)  # orbax raises ValueError for a full disk
        try:
            parts = processes.together(lambda: self._hash_own_files(step, response), errors)
            files = {name: part[name] for part in parts for name in part}
            manifest = {"run_id": self.directory.parent.name, "step": step, "leaves": leaves, "data": self.data}
            manifest |= {"files": dict(sorted(files.items())), "metrics": metrics or {}}
            processes.together(lambda: self._publish(step, manifest, check), (Preempted, *errors))
        except errors as error:
            raise self._discard(step, error) from error
        phase("manifest-written")

    def _hash_own_files(self, step, response):
        """Wait until the files are on the disk; {name: size and sha256} of those that this process wrote."""
        with _store_errors():
            response.result()
        phase("before-manifest")
        entries = entries_under(self._path(step) / self.data)
        own = {name: entry for name, entry in entries.items() if _writer(name) == self.process_index}
        return {name: {"size": entry.size} | _hash(entry) for name, entry in own.items()}

    def _publish(self, step, manifest, check):
        if self.process_index != 0:
            return
        check()
        phase("lease-checked")
        try:
            created = create(self._path(step) / MANIFEST, sealed(manifest))
        except OSError:  # such as a folder that the next holder of the lease has deleted
            check()
            raise
        if not created and step in self._closed:
            write_atomic(self._path(step) / MANIFEST, sealed(manifest))
        elif not created:
            raise self._published_by_another(step)

    def _open(self, step):
        """Raise Preempted if another process has published the step that this one begins to save."""
        if self.process_index == 0 and self._is_published(step):
            raise self._published_by_another(step)

    def _published_by_another(self, step):
        return Preempted(f"{self._path(step)}: another process trains this run: it has published this step")

    def close(self):
        """Let no earlier holder of the lease publish a step that it is still saving."""
        for step in self._saved():
            if create(self._path(step) / MANIFEST, CLOSED) or not self._is_published(step):
                self._closed.add(step)

    def steps(self):
        """The published steps, ascending."""
        return published_steps(manifests(self.directory))

    def cut_steps(self):
        """The steps whose manifest is too short to be one, ascending: they are ignored."""
        entries = {name.removesuffix(f"/{MANIFEST}"): entry for name, entry in manifests(self.directory).items()}
        short = {int(s): e.path for s, e in entries.items() if s.isdigit() and e.size <= len(CLOSED)}
        return [step for step, path in sorted(short.items()) if read_bytes(path) != CLOSED.encode()]

    def _is_published(self, step):
        try:
            return len(read_bytes(self._path(step) / MANIFEST)) > len(CLOSED)
        except FileNotFoundError:
            return False
        except IsADirectoryError:  # damaged: `verify` says so
            return True

    def metrics(self, step):
        """The segments of the metrics that the manifest of a step lists; None if it was made before they were."""
        return read_sealed(self._path(step) / MANIFEST).get("metrics")

    def restore(self, abstract_state):
        """(step, state) of the newest intact checkpoint, or None.

        A step whose files do not match its manifest is set aside with one warning, and the step before it is tried.
        Call it as the holder of the lease. Raises InputError if the checkpoint is one of another model.
        """
        if self.process_index == 0:
            self.close()
        for step in reversed(processes.gather(self._saved())[0]):
            if not processes.gather(self._is_published(step))[0]:
                _log.warning("%s: never published, or its %s was deleted; ignored", self._path(step), MANIFEST)
                continue
            problems = self._problems(step)
            if not problems:
                return step, self._load(step, abstract_state)
            if self.process_index == 0:
                self._set_aside(step, problems)
        return None

    def read(self, step, abstract_state):
        """The verified state of one published step. Raises InputError if it is absent or damaged."""
        problems = self._problems(step)
        if problems:
            raise InputError(f"{self._path(step)}: {problems[0]}; train that run again")
        return self._load(step, abstract_state)

    def reader(self, step, dtype):
        """read(path) -> numpy array: one leaf of the verified state of a published step, such as ("params", "head").

        Each call reads that leaf only, whatever mesh saved it. Raises InputError if the step is absent or damaged.
        """
        problems = self._problems(step)
        if problems:
            raise InputError(f"{self._path(step)}: {problems[0]}; choose another checkpoint, or train the run again")
        manifest = read_sealed(self._path(step) / MANIFEST)
        options = ocp.options.PyTreeOptions(loading=ocp.options.PyTreeOptions.Loading(partial_load=True))

        def read(path):
            tree = np.empty(0, dtype)  # asks orbax for a numpy array of this type
            for key in reversed(path):
                tree = {key: tree}
            with ocp.Context(pytree_options=options):
                tree = ocp.load(self._path(step) / manifest.get("data", ""), tree, checkpointable_name="state")
            for key in path:
                tree = tree[key]
            return tree

        return read

    def verify(self, step, share=slice(None)):
        """The problems of the files of `step`, one line each; [] if it is intact. share: the files to check."""
        path = self._path(step)
        try:
            manifest = read_sealed(path / MANIFEST)
        except FileNotFoundError:
            return [f"{MANIFEST}: missing"]
        except (InputError, OSError) as error:
            return [f"{MANIFEST}: cannot be read ({error})"]
        run = self.directory.parent.name
        if (manifest["step"], manifest.get("run_id", run)) != (step, run):
            return [f"{MANIFEST}: belongs to step {manifest['step']} of {manifest.get('run_id', 'this run')}"]
        entries, listed = _data_files(path, manifest), manifest["files"]
        extra = [f"{name}: extra" for name in sorted(entries.keys() - listed.keys())]
        checked = (_problem(entries.get(name), name, expected) for name, expected in list(listed.items())[share])
        return [problem for problem in checked if problem] + extra

    def retain(self, keep):
        """Delete every step that is not in `keep`, unpublished ones of killed processes included."""
        keep = {*keep, self._started[0]} if self._started else {*keep}
        for step in self._saved():
            if step not in keep:
                self._delete_step(step)

    def _delete_step(self, step):
        """Delete a step. In a bucket the manifest of a closed one stays, because a paused process could create it."""
        path = self._path(step)
        if self.process_index != 0 or is_local(path) or step not in self._closed:
            self._delete(path)
            return
        write_atomic(path / MANIFEST, CLOSED)
        for folder in {name.partition("/")[0] for name in entries_under(path)} - {MANIFEST}:
            (path / folder).rmtree()

    def _problems(self, step):
        """`verify` by all processes together; each checks a share of the files."""
        share = slice(self.process_index, None, jax.process_count())
        gathered = processes.gather(self.verify(step, share))
        return list(dict.fromkeys(problem for problems in gathered for problem in problems))

    def _saved(self):
        if not self.directory.exists():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdigit())

    def _path(self, step):
        return self.directory / str(step)

    def _take_started(self, step):
        if not self._started or self._started[0] != step:
            raise RuntimeError(f"the save of step {step} was not started")
        _, response, leaves = self._started
        self._started = None
        return response, leaves

    def _load(self, step, abstract_state):
        path = self._path(step)
        manifest = read_sealed(path / MANIFEST)
        saved = manifest["leaves"]
        wanted = {name: _dtype_and_shape(leaf) for name, leaf in _named_leaves(abstract_state)}
        for name in sorted(saved.keys() | wanted.keys()):
            in_checkpoint, in_run = saved.get(name, "absent"), wanted.get(name, "absent")
            if in_checkpoint != in_run:
                reason = f"state{name} is {in_checkpoint} in the checkpoint and {in_run} in this run"
                raise InputError(f"{path}: {reason}; use the model and the optimizer that it was saved with")
        return ocp.load(path / manifest.get("data", ""), abstract_state, checkpointable_name="state")

    def _set_aside(self, step, problems):
        """Rename a damaged step so that it is not tried again, and warn."""
        path, reason = self._path(step), problems[0]
        if len(problems) > 1:
            reason += f" (and {len(problems) - 1} more)"
        if not is_local(path):  # an object store would copy every file
            (path / MANIFEST).unlink()
            _log.warning("%s: %s; no longer published", path, reason)
            return
        k = 0
        while (self.directory / f"bad-{step}-{k}").exists():
            k += 1
        path.rename(self.directory / f"bad-{step}-{k}")
        _log.warning("%s: %s; renamed to %s", path, reason, f"bad-{step}-{k}")

    def _discard(self, step, error):
        """Delete the files of a save that failed; returns the OSError to raise."""
        self._delete(self._path(step) / self.data)
        for path in self._path(step).glob(f"{self.data}.*"):  # orbax's temporary folder
            self._delete(path)
        with contextlib.suppress(OSError):  # not empty
            self._path(step).rmdir()
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return OSError(f"{self._path(step)}: could not be saved: {reason}")

    def _delete(self, path):
        if self.process_index == 0 and path.exists():
            (path / MANIFEST).unlink(missing_ok=True)  # first, so that a half-deleted step does not count as published
            path.rmtree()


def _named_leaves(tree):
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in flat]


def _dtype_and_shape(leaf):
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _data_files(path, manifest):
    """{relative name: entry} of the files of a step; manifests of schema_version 1 list those beside the manifest."""
    if "data" in manifest:
        return entries_under(path / manifest["data"])
    return {name: entry for name, entry in entries_under(path).items() if name != MANIFEST}


def _writer(name):
    """Index of the process that wrote a file: orbax puts it in a directory name; shared files count as process 0's."""
    match = re.search(r"ocdbt\.process_(\d+)/", name)
    return int(match[1]) if match else 0


@contextlib.contextmanager
def _store_errors():
    """Raise OSError where orbax raises what a bucket's client does."""
    try:
        yield
    except Exception as error:
        if is_store_error(error):
            raise OSError(str(error)) from error
        raise


def _hash(entry, kind=None):
    """{kind: hash} of a file's content. In a bucket the kind is crc32c, which the bucket has computed: to read a large
    checkpoint once more would take longer than to save it. On a disk it is sha256, but for a copy from a bucket."""
    kind = kind or ("sha256" if entry.crc32c is None else "crc32c")
    if kind == "crc32c" and entry.crc32c is not None:
        return {kind: entry.crc32c}
    digest = _crc32c() if kind == "crc32c" else hashlib.sha256()
    with entry.path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {kind: base64.b64encode(digest.digest()).decode() if kind == "crc32c" else digest.hexdigest()}


def _crc32c():
    try:
        import google_crc32c
    except ImportError:
        raise InputError(
            "a checkpoint from a bucket is checked with google-crc32c: pip install google-crc32c"
        ) from None
    return google_crc32c.Checksum()


def _problem(entry, name, expected):
    """One line on what is wrong with a file, or None."""
    if entry is None:
        return f"{name}: missing"
    if entry.size != expected["size"]:
        return f"{name}: truncated or grown, {entry.size} bytes instead of {expected['size']}"
    try:
        kind = "crc32c" if "crc32c" in expected else "sha256"
        return None if _hash(entry, kind)[kind] == expected[kind] else f"{name}: its hash differs"
    except OSError as error:
        return f"{name}: cannot be read ({error})"


def _is_not_from_orbax(record):
    """Log filter: orbax logs the traceback of every error that it also raises."""
    return "/orbax/" not in record.pathname
