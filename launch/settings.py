"""ladder.toml: where and on what a user's ladders run. Every table and key is optional; unknown ones are refused."""

import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

from ladder.errors import InputError
from ladder.topologies import Slice, parse

FILE = Path("ladder.toml")
_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|PRIVATE")


@dataclass(frozen=True)
class Environment:
    """variables: plain; they stand in manifests. secrets: NAME -> "secret/key", which the engine looks up."""

    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for name in (*self.variables, *self.secrets):
            _check(_NAME.fullmatch(name), f"env {name!r}: capital letters, digits and underscores only")
        for name, value in self.variables.items():
            _check("\0" not in value, f"env.{name}: a NUL character")
            _check(
                not _SECRET.search(name),
                f"env.{name}: looks like a secret and would stand in manifests; name it under [secrets] by reference",
            )
        for name, reference in self.secrets.items():
            ok = re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/[A-Za-z0-9._-]{1,253}", reference)
            _check(ok, f'secrets.{name}: write "secret-name/key", never the secret itself')


@dataclass(frozen=True)
class Slurm:
    """options: further flags of sbatch for training ("--gres=gpu:8"). tasks_per_node x nodes processes, joined by
    jax.distributed. seconds_to_save: before the time limit."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    time: str = ""
    nodes: int = 1
    tasks_per_node: int = 1
    seconds_to_save: int = 60
    options: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("partition", "account", "qos", "time"):
            text = getattr(self, name)
            _check(re.fullmatch(r"[A-Za-z0-9_.:,-]*", text), f"slurm.{name} = {text!r}: not a name that Slurm has")
        for name in ("nodes", "tasks_per_node", "seconds_to_save"):
            _check(getattr(self, name) >= 1, f"slurm.{name} = {getattr(self, name)}: must be at least 1")
        for option in self.options:
            _check(re.fullmatch(r"--[a-z][^\0\n]*", option), f"slurm.options: {option!r} is not a flag of sbatch")


@dataclass(frozen=True)
class Gke:
    """topology: by size of the ladder ("7B" = "v5p:4x4x4"), "default" for the others; slices: of every run, joined by
    multislice. queue: of Kueue, or "" without it. image: holds `ladder` (Dockerfile)."""

    image: str = ""
    namespace: str = "default"
    context: str = ""
    queue: str = "multislice-queue"
    priority: str = ""
    service_account: str = ""
    spot: bool = False
    reservation: str = ""
    slices: int = 1
    max_restarts: int = 10
    fit_cpu: str = "4"
    fit_memory: str = "16Gi"
    topology: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for name in ("namespace", "queue", "priority", "service_account", "reservation"):
            text = getattr(self, name)
            _check(re.fullmatch(r"|[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", text), f"gke.{name} = {text!r}: not a name")
        _check(re.fullmatch(r"|[\w./:@-]+", self.image), f"gke.image = {self.image!r}: not an image")
        _check(self.slices >= 1, f"gke.slices = {self.slices}: must be at least 1")
        _check(self.max_restarts >= 0, f"gke.max_restarts = {self.max_restarts}: must not be negative")
        _check(not (self.spot and self.reservation), "gke: spot and reservation exclude each other")
        _check_topologies("gke", self.topology)

    def check(self) -> None:
        """What a submission needs beyond the defaults."""
        _check(self.image, "gke.image is not set: build one from the Dockerfile and name it in ladder.toml under [gke]")
        _check(self.topology, 'gke.topology is not set: in ladder.toml, [gke.topology] default = "v5e:4x4"')

    def slice_of(self, size: str) -> Slice:
        return _slice_of("gke", self.topology, size)


@dataclass(frozen=True)
class Tpu:
    """topology: by size, "fit" for the fit, "default" for the others. archive: a bucket's folder for the code.
    reservation: its full name. wait_hours: how long a request may wait for machines (0: for ever)."""

    project: str = ""
    zone: str = ""
    archive: str = ""
    runtime_version: str = "v2-alpha-tpuv5-lite"
    python: str = "python3"
    network: str = ""
    subnetwork: str = ""
    service_account: str = ""
    spot: bool = False
    reservation: str = ""
    slices: int = 1
    wait_hours: float = 0.0
    topology: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for name in ("project", "zone", "runtime_version", "network", "subnetwork", "service_account", "reservation"):
            text = getattr(self, name)
            _check(re.fullmatch(r"[A-Za-z0-9@./:_-]*", text), f"tpu.{name} = {text!r}: not a name")
        _check(re.fullmatch(r"[\w./-]+", self.python), f"tpu.python = {self.python!r}: not a program")
        _check(
            self.archive == "" or self.archive.startswith("gs://"), f"tpu.archive = {self.archive!r}: write gs://..."
        )
        _check(self.slices >= 1, f"tpu.slices = {self.slices}: must be at least 1")
        _check(self.wait_hours >= 0, f"tpu.wait_hours = {self.wait_hours}: must not be negative")
        _check(not (self.spot and self.reservation), "tpu: spot and reservation exclude each other")
        _check_topologies("tpu", self.topology)

    def check(self) -> None:
        """What a submission needs beyond the defaults."""
        for name in ("project", "zone", "archive", "topology"):
            _check(getattr(self, name), f"tpu.{name} is not set: name it in ladder.toml under [tpu]")

    def slice_of(self, size: str) -> Slice:
        return _slice_of("tpu", self.topology, size)


@dataclass(frozen=True)
class Settings:
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    prices: dict[str, str] = field(default_factory=dict)
    slurm: Slurm = field(default_factory=Slurm)
    gke: Gke = field(default_factory=Gke)
    tpu: Tpu = field(default_factory=Tpu)

    @property
    def environment(self) -> Environment:
        return Environment(self.env, self.secrets)


def load(path: Path = FILE) -> Settings:
    """The settings in a file; the defaults where ladder.toml is not there. Raises InputError with file and line."""
    if not path.exists():
        if path != FILE:
            raise InputError(f"{path}: no such file")
        return Settings()
    try:
        return of(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error})") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def of(value: dict) -> Settings:
    """Settings from plain tables, as in ladder.toml or submit.json."""
    made = _made(Settings, value, "")
    made.environment  # noqa: B018 (checks)
    return made


def _made(kind, value, where: str):
    _check(isinstance(value, dict), f"{where.rstrip('.')}: a table was expected")
    known, given = {f.name: f for f in fields(kind)}, {}
    for name, item in value.items():
        _check(name in known, f"{where}{name}: unknown; there are {', '.join(known)}")
        default = getattr(kind(), name)
        given[name] = _value(default, item, f"{where}{name}")
    return kind(**given)


def _value(default, item, where: str):
    """`item` as something of the default's type."""
    if hasattr(default, "__dataclass_fields__"):
        return _made(type(default), item, where + ".")
    if isinstance(default, dict):
        _check(isinstance(item, dict), f"{where}: a table was expected")
        for key, one in item.items():
            _check(isinstance(one, str), f"{where}.{key} = {one!r}: a text was expected")
        return dict(item)
    if isinstance(default, tuple):
        _check(isinstance(item, list | tuple) and all(isinstance(i, str) for i in item), f"{where}: a list of texts")
        return tuple(item)
    wanted = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
    ok = type(item) is type(default) or (type(default) is float and type(item) is int)
    _check(ok, f"{where} = {item!r}: {wanted} was expected")
    return type(default)(item)


def _check_topologies(table: str, topology: dict[str, str]) -> None:
    for size, text in topology.items():
        try:
            parse(text)
        except InputError as error:
            raise InputError(f"{table}.topology.{size}: {error}") from None


def _slice_of(table: str, topology: dict[str, str], size: str) -> Slice:
    text = topology.get(size, topology.get("default"))
    _check(text, f'{table}.topology: nothing for size {size}; add "{size}" or "default"')
    return parse(text)


def _check(ok, message: str) -> None:
    if not ok:
        raise InputError(message)
