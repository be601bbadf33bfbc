"""Checkpoints: each one is complete and verified, or it is ignored. The only file that imports orbax.

    checkpoints/<step>/state/...      orbax's files
    checkpoints/<step>/MANIFEST.json  size and sha256 of every file; written last, it publishes the step
    checkpoints/bad-<step>-<k>/       did not match its manifest: set aside (renamed), never deleted
    checkpoints/<step>/ without MANIFEST.json, *.orbax-checkpoint-tmp
                                      left by a process that was killed; ignored

Orbax detects truncated and missing files when it reads them. It does not detect a flipped bit, and it never falls back
to an earlier step. So the manifest is checked before orbax opens a directory.
"""

import hashlib
import logging
import re

import jax
from orbax.checkpoint import v1 as ocp

from ladder.config import canonical_json
from ladder.errors import InputError
from ladder.parallel import processes
from ladder.rundir.files import absolute, files_under, read_json, write_atomic
from ladder.rundir.kill_points import phase

_MANIFEST = "MANIFEST.json"
_UNFINISHED = ".orbax-checkpoint-tmp"
# If orbax creates a directory in the background and fails, the process takes minutes to exit.
_ASYNC = ocp.options.AsyncOptions(create_directories_asynchronously=False)
_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run. To save a step, call `start` and then `commit`; only one save may be pending.

    A state is a pytree of jax arrays. An abstract state is the same tree of jax.ShapeDtypeStruct with shardings; its
    mesh may differ from the mesh that saved. In a run of several processes all of them call every method except
    `steps`. Each process hashes the files that it wrote and verifies its share of the files; only process 0 writes
    manifests and deletes.
    """

    def __init__(self, directory, process_index=0):
        self.directory = absolute(directory)  # orbax accepts only absolute paths
        self.process_index = process_index
        self._started = None  # (step, orbax's response, leaves)
        logging.getLogger("absl").addFilter(_is_not_from_orbax)

    def start(self, step, state):
        """Start to save `state`. When this returns, its device buffers may be donated.

        Raises OSError if the state cannot be written; `commit` may raise it later for the same reason.
        """
        if self._started:
            raise RuntimeError(f"step {self._started[0]} is not committed yet")
        path = self._path(step)
        if (path / _MANIFEST).exists():
            raise RuntimeError(f"{path} is published already")
        leaves = {name: _dtype_and_shape(leaf) for name, leaf in _named_leaves(state)}
        try:
            with ocp.Context(async_options=_ASYNC):
                # overwrite: a process that was killed before it published this step may have left files
                response = ocp.save_async(path, state, checkpointable_name="state", overwrite=True)
        except (OSError, ValueError) as error:
            raise self._discard(step, error) from error
        self._started = (step, response, leaves)
        phase("save-started")

    def commit(self, step):
        """Wait for the save of `step` and publish it. Raises OSError if any process could not write its part."""
        response, leaves = self._take_started(step)
        errors = (OSError, ValueError)  # orbax raises ValueError for a full disk
        try:
            parts = processes.together(lambda: self._hash_own_files(step, response), errors)
            files = {name: part[name] for part in parts for name in part}
            manifest = {"schema_version": 1, "step": step, "leaves": leaves, "files": dict(sorted(files.items()))}
            processes.together(lambda: self._publish(step, manifest), errors)
        except errors as error:
            raise self._discard(step, error) from error
        phase("manifest-written")

    def _hash_own_files(self, step, response):
        """Wait until the files are on the disk; {name: size and sha256} of those that this process wrote."""
        response.result()
        phase("before-manifest")
        paths = _data_files(self._path(step))
        own = {name: path for name, path in paths.items() if _writer(name) == self.process_index}
        return {name: {"size": path.stat().length, "sha256": _sha256(path)} for name, path in own.items()}

    def _publish(self, step, manifest):
        if self.process_index == 0:
            write_atomic(self._path(step) / _MANIFEST, _with_own_hash(manifest))

    def steps(self):
        """The published steps, ascending."""
        return [step for step in self._saved() if (self._path(step) / _MANIFEST).exists()]

    def restore(self, abstract_state):
        """(step, state) of the newest intact checkpoint, or None.

        A step whose files do not match its manifest is set aside with one warning, and the step before it is tried.
        Raises InputError if the checkpoint is one of another model.
        """
        if self.directory.exists() and self.process_index == 0:
            for path in self.directory.glob(f"*{_UNFINISHED}"):
                self._delete(path)
        for step in reversed(processes.gather(self._saved())[0]):
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

    def verify(self, step, share=slice(None)):
        """The problems of the files of `step`, one line each; [] if it is intact. share: the files to check."""
        path = self._path(step)
        try:
            manifest = read_json(path / _MANIFEST)
        except FileNotFoundError:
            return [f"{_MANIFEST}: missing"]
        except (InputError, OSError) as error:
            return [f"{_MANIFEST}: cannot be read ({error})"]
        body = {key: value for key, value in manifest.items() if key != "sha256"}
        if (path / _MANIFEST).read_bytes() != _with_own_hash(body).encode():
            return [f"{_MANIFEST}: its own hash differs"]
        if body["step"] != step:
            return [f"{_MANIFEST}: belongs to step {body['step']}"]
        paths, listed = _data_files(path), body["files"]
        extra = [f"{name}: extra" for name in sorted(paths.keys() - listed.keys())]
        checked = (_problem(paths.get(name), name, expected) for name, expected in list(listed.items())[share])
        return [problem for problem in checked if problem] + extra

    def retain(self, keep):
        """Delete every step that is not in `keep`, unpublished ones of killed processes included."""
        keep = {*keep, self._started[0]} if self._started else {*keep}
        for step in self._saved():
            if step not in keep:
                self._delete(self._path(step))

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
        saved = read_json(path / _MANIFEST)["leaves"]
        wanted = {name: _dtype_and_shape(leaf) for name, leaf in _named_leaves(abstract_state)}
        for name in sorted(saved.keys() | wanted.keys()):
            in_checkpoint, in_run = saved.get(name, "absent"), wanted.get(name, "absent")
            if in_checkpoint != in_run:
                reason = f"state{name} is {in_checkpoint} in the checkpoint and {in_run} in this run"
                raise InputError(f"{path}: {reason}; use the model and the optimizer that it was saved with")
        return ocp.load(path, abstract_state, checkpointable_name="state")

    def _set_aside(self, step, problems):
        """Rename a damaged step so that it is not tried again, and warn; one without a manifest stays where it is."""
        path, reason = self._path(step), problems[0]
        if len(problems) > 1:
            reason += f" (and {len(problems) - 1} more)"
        if not (path / _MANIFEST).exists():
            _log.warning("%s: %s (never published, or deleted); ignored", path, reason)
            return
        k = 0
        while (self.directory / f"bad-{step}-{k}").exists():
            k += 1
        path.rename(self.directory / f"bad-{step}-{k}")
        _log.warning("%s: %s; renamed to %s", path, reason, f"bad-{step}-{k}")

    def _discard(self, step, error):
        """Delete the files of a save that failed; returns the OSError to raise."""
        for name in (f"{step}", f"{step}{_UNFINISHED}"):
            self._delete(self.directory / name)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return OSError(f"{self._path(step)}: could not be saved: {reason}")

    def _delete(self, path):
        if self.process_index == 0 and path.exists():
            (path / _MANIFEST).unlink(missing_ok=True)  # first, so that a half-deleted step does not count as published
            path.rmtree()


def _named_leaves(tree):
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in flat]


def _dtype_and_shape(leaf):
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _data_files(directory):
    """{relative name: path} of every file under `directory` except the manifest."""
    return {name: path for name, path in files_under(directory).items() if name != _MANIFEST}


def _writer(name):
    """Index of the process that wrote a file: orbax puts it in a directory name; shared files count as process 0's."""
    match = re.search(r"ocdbt\.process_(\d+)/", name)
    return int(match[1]) if match else 0


def _sha256(path):
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _with_own_hash(manifest):
    sha256 = hashlib.sha256(canonical_json(manifest).encode()).hexdigest()
    return canonical_json(manifest | {"sha256": sha256}) + "\n"


def _problem(path, name, expected):
    """One line on what is wrong with a file, or None."""
    if path is None:
        return f"{name}: missing"
    try:
        size = path.stat().length
        if size != expected["size"]:
            return f"{name}: truncated or grown, {size} bytes instead of {expected['size']}"
        return None if _sha256(path) == expected["sha256"] else f"{name}: its hash differs"
    except OSError as error:
        return f"{name}: cannot be read ({error})"


def _is_not_from_orbax(record):
    """Log filter: orbax logs the traceback of every error that it also raises."""
    return "/orbax/" not in record.pathname
