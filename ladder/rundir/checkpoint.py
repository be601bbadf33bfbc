"""Checkpoints that are whole or do not count: the only file that knows orbax.

    checkpoints/<step>/state/...      orbax's files
    checkpoints/<step>/MANIFEST.json  size and sha256 of every file; the step counts from now on
    checkpoints/bad-<step>-<k>/       failed its manifest: set aside, never deleted
    checkpoints/<step>/ without MANIFEST.json, *.orbax-checkpoint-tmp
                                      left by a process that was killed; does not count

Orbax finds truncated and missing files when it reads them, but restores a flipped bit in silence
and never falls back, so the manifest is checked before orbax opens a directory.
"""

import hashlib
import logging
import re

import jax
from orbax.checkpoint import v1 as ocp

from ladder.config import canonical_json
from ladder.errors import InputError
from ladder.parallel import processes
from ladder.rundir.files import absolute, read_json, write_atomic
from ladder.rundir.kill_points import phase

_MANIFEST = "MANIFEST.json"
_UNFINISHED = ".orbax-checkpoint-tmp"
# Made in the background, a directory that cannot be made keeps the process from ending for minutes.
_ASYNC = ocp.options.AsyncOptions(create_directories_asynchronously=False)
_log = logging.getLogger(__name__)


class Checkpoints:
    """One run's checkpoints. `start` and `commit` a step; one at a time.

    A state is a pytree of jax arrays; an abstract state is the same tree of jax.ShapeDtypeStruct
    with shardings, which may be of another mesh than the one that saved. In a run of several
    processes all of them call everything but `steps`; each hashes what it wrote and verifies its
    share, process 0 alone writes manifests and deletes.
    """

    def __init__(self, directory, process_index=0):
        self.directory = absolute(directory)  # orbax takes no other
        self.process_index = process_index
        self._started = None  # (step, orbax's response, leaves)
        logging.getLogger("absl").addFilter(_not_from_orbax)

    def start(self, step, state):
        """Begin to save `state`; when this returns its device buffers are safe to donate.

        Raises OSError where the disk says no (`commit` may raise it later for the same reason).
        """
        if self._started:
            raise RuntimeError(f"step {self._started[0]} is not committed yet")
        path = self._path(step)
        if (path / _MANIFEST).exists():
            raise RuntimeError(f"{path} is published already")
        leaves = {name: _form(leaf) for name, leaf in _named_leaves(state)}
        try:
            with ocp.Context(async_options=_ASYNC):
                # overwrite: a process that was killed before it published may have left one
                response = ocp.save_async(path, state, checkpointable_name="state", overwrite=True)
        except (OSError, ValueError) as error:
            raise self._failed(step, error) from error
        self._started = (step, response, leaves)
        phase("save-started")

    def commit(self, step):
        """Wait for the save of `step` and publish it; OSError where one process could not write its part."""
        response, leaves = self._take(step)
        errors = (OSError, ValueError)  # orbax: a full disk is a ValueError
        try:
            parts = processes.together(lambda: self._written(step, response), errors)
            files = {name: part[name] for part in parts for name in part}
            body = {"schema_version": 1, "step": step, "leaves": leaves, "files": dict(sorted(files.items()))}
            processes.together(lambda: self._publish(step, body), errors)
        except errors as error:
            raise self._failed(step, error) from error
        phase("manifest-written")

    def _written(self, step, response):
        """Size and sha256 of the files of this process, once they are on the disk."""
        response.result()
        phase("before-manifest")
        mine = {n: f for n, f in _files(self._path(step)).items() if _writer(n) == self.process_index}
        return {name: {"size": path.stat().length, "sha256": _sha256(path)} for name, path in mine.items()}

    def _publish(self, step, body):
        if self.process_index == 0:
            write_atomic(self._path(step) / _MANIFEST, _with_own_hash(body))

    def steps(self):
        """The published steps, ascending."""
        return [step for step in self._saved() if (self._path(step) / _MANIFEST).exists()]

    def restore(self, abstract_state):
        """(step, state) of the newest good step, or None where there is none.

        A step whose files are not what its manifest says is set aside with one warning, and the
        one before is tried. InputError where the checkpoint is another model's.
        """
        if self.directory.exists() and self.process_index == 0:
            for path in self.directory.glob(f"*{_UNFINISHED}"):
                self._delete(path)
        for step in reversed(processes.gather(self._saved())[0]):
            problems = self._problems(step)
            if not problems:
                return step, self._load(step, abstract_state)
            if self.process_index == 0:
                self._leave_out(step, problems)
        return None

    def read(self, step, abstract_state):
        """The state of one published step, verified; InputError where it is absent or damaged."""
        problems = self._problems(step)
        if problems:
            raise InputError(f"{self._path(step)}: {problems[0]}; train that run again")
        return self._load(step, abstract_state)

    def verify(self, step, share=slice(None)):
        """What is wrong with the files of `step` (of a share of them), one line each; empty where nothing is."""
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
            return [f"{_MANIFEST}: is that of step {body['step']}"]
        found = _files(path)
        extra = [f"{name}: extra" for name in sorted(found.keys() - body["files"].keys())]
        checked = (_problem(found.get(name), name, want) for name, want in list(body["files"].items())[share])
        return [problem for problem in checked if problem] + extra

    def retain(self, keep):
        """Delete every step that is not in `keep`, and what killed processes have left."""
        keep = {*keep, self._started[0]} if self._started else {*keep}
        for step in self._saved():
            if step not in keep:
                self._delete(self._path(step))

    def _problems(self, step):
        """`verify` by all processes together, each a share of the files."""
        share = slice(self.process_index, None, jax.process_count())
        found = processes.gather(self.verify(step, share))
        return list(dict.fromkeys(problem for problems in found for problem in problems))

    def _saved(self):
        if not self.directory.exists():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdigit())

    def _path(self, step):
        return self.directory / str(step)

    def _take(self, step):
        if not self._started or self._started[0] != step:
            raise RuntimeError(f"the save of step {step} was not started")
        _, response, leaves = self._started
        self._started = None
        return response, leaves

    def _load(self, step, abstract_state):
        path = self._path(step)
        saved = read_json(path / _MANIFEST)["leaves"]
        wanted = {name: _form(leaf) for name, leaf in _named_leaves(abstract_state)}
        for name in sorted(saved.keys() | wanted.keys()):
            there, here = saved.get(name, "absent"), wanted.get(name, "absent")
            if there != here:
                raise InputError(f"{path}: state{name} is {there} there and {here} in this run")
        return ocp.load(path, abstract_state, checkpointable_name="state")

    def _leave_out(self, step, problems):
        """Say why `step` is not restored; one that was published is set aside, out of the way."""
        path, reason = self._path(step), problems[0]
        if len(problems) > 1:
            reason += f" (and {len(problems) - 1} more)"
        if not (path / _MANIFEST).exists():
            _log.warning("%s: never published, or %s; left out", path, reason)
            return
        k = 0
        while (self.directory / f"bad-{step}-{k}").exists():
            k += 1
        path.rename(self.directory / f"bad-{step}-{k}")
        _log.warning("%s: %s; set aside as %s", path, reason, f"bad-{step}-{k}")

    def _failed(self, step, error):
        for name in (f"{step}", f"{step}{_UNFINISHED}"):
            self._delete(self.directory / name)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return OSError(f"{self._path(step)}: could not be saved: {reason}")

    def _delete(self, path):
        if self.process_index == 0 and path.exists():
            (path / _MANIFEST).unlink(missing_ok=True)  # first: half deleted is not published
            path.rmtree()


def _named_leaves(tree):
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in flat]


def _form(leaf):
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _files(directory):
    """Every file under `directory` but the manifest, by its relative name."""
    found, folders = {}, [directory]
    while folders:
        for path in folders.pop().iterdir():
            if path.is_dir():
                folders.append(path)
            else:
                found[path.relative_to(directory).as_posix()] = path
    return {name: found[name] for name in sorted(found) if name != _MANIFEST}


def _writer(name):
    """The process that wrote a file: orbax names a directory after each; what all share is process 0's."""
    found = re.search(r"ocdbt\.process_(\d+)/", name)
    return int(found[1]) if found else 0


def _sha256(path):
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _with_own_hash(body):
    sha256 = hashlib.sha256(canonical_json(body).encode()).hexdigest()
    return canonical_json(body | {"sha256": sha256}) + "\n"


def _problem(path, name, want):
    """What is wrong with one file, or None."""
    if path is None:
        return f"{name}: missing"
    try:
        size = path.stat().length
        if size != want["size"]:
            return f"{name}: truncated or grown, {size} bytes instead of {want['size']}"
        return None if _sha256(path) == want["sha256"] else f"{name}: its hash differs"
    except OSError as error:
        return f"{name}: cannot be read ({error})"


def _not_from_orbax(record):
    """Orbax logs tracebacks of errors that it raises too; here they are raised only."""
    return "/orbax/" not in record.pathname
