"""ladder.toml: on which machines a user's ladders run. All tables and keys are optional; unknown ones are refused."""

import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

from ladder.errors import InputError
from ladder.topologies import Slice, parse

FILE = Path("ladder.toml")
FLEX_START_HOURS = 7 * 24  # Google's limit
_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|PRIVATE")
# Keys of common services (Hugging Face, OpenAI, GitHub, GitLab, Slack, AWS, Google, W&B), private keys, signed web
# tokens, and a password in an address.
_SECRET_VALUE = re.compile(
    r"\b(hf_\w{20,}|sk-[\w-]{20,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}"
    r"|(AKIA|ASIA)[A-Z0-9]{16}\b|AIza[\w-]{35}|ya29\.[\w-]{20,}|wandb_v\d_\w{20,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]+:[^/\s@]+@"
)


@dataclass(frozen=True)
class Environment:
    """variables: plain text, written into manifests. secrets: NAME -> "secret/key", which the backend looks up."""

    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for name in (*self.variables, *self.secrets):
            _check(_NAME.fullmatch(name), f"env {name!r}: capital letters, digits and underscores only")
        for name, value in self.variables.items():
            _check("\0" not in value, f"env.{name}: contains a NUL character; remove it")
            _check(
                not SECRET_NAME.search(name) and not _SECRET_VALUE.search(value),
                f"env.{name}: looks like a secret and would be written into manifests; use a reference in [secrets]",
            )
        for name, reference in self.secrets.items():
            match = re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/[A-Za-z0-9._-]{1,253}", reference)
            _check(match, f'secrets.{name}: write "secret-name/key", never the secret itself')


@dataclass(frozen=True)
class Slurm:
    """partition, qos, options: for training; options: more flags of sbatch ("--gres=gpu:8"). fit_partition: for the
    fit, which needs no GPU; "" is the cluster's default. A run has tasks_per_node x nodes processes, joined by
    jax.distributed. seconds_to_save: how long before the time limit a run gets SIGTERM."""

    partition: str = ""
    fit_partition: str = ""
    account: str = ""
    qos: str = ""
    time: str = ""
    nodes: int = 1
    tasks_per_node: int = 1
    seconds_to_save: int = 60
    options: tuple[str, ...] = ()

    def __post_init__(self):
        names = ("partition", "fit_partition", "account", "qos", "time")
        _check_texts("slurm", self, names, r"[A-Za-z0-9_.:,-]*", "only letters, digits and _.:,-")
        for name in ("nodes", "tasks_per_node", "seconds_to_save"):
            _check(getattr(self, name) >= 1, f"slurm.{name} = {getattr(self, name)}: must be at least 1")
        for option in self.options:
            _check(re.fullmatch(r"--[a-z][^\0\n]*", option), f"slurm.options: {option!r}: write --flag or --flag=value")


@dataclass(frozen=True)
class Gke:
    """topology: by size of the ladder ("7B" = "v5p:4x4x4"), "default" for the others. slices: of every run, joined by
    multislice. queue: of Kueue, or "" without Kueue; fit_queue: for the fit, which takes no TPU. image: a container
    image with `ladder` (see Dockerfile); pull_secret: the Kubernetes secret to pull it with. flex_start_hours: how long
    a run may keep nodes that flex-start gives it (Dynamic Workload Scheduler); 0: not flex-start.
    scratch_gib: how much of a node's disk copied corpora may take. cache_gib: of the disk, for a mounted bucket."""

    image: str = ""
    namespace: str = "default"
    context: str = ""
    pull_secret: str = ""
    queue: str = "multislice-queue"
    fit_queue: str = ""
    priority: str = ""
    service_account: str = ""
    spot: bool = False
    reservation: str = ""
    flex_start_hours: float = 0.0
    slices: int = 1
    max_restarts: int = 10
    fit_cpu: str = "4"
    fit_memory: str = "16Gi"
    scratch_gib: int = 40  # a node with a boot disk of 100 GiB lets its pods have about 49
    cache_gib: int = 10
    topology: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        names = ("namespace", "queue", "fit_queue", "priority", "service_account", "reservation", "pull_secret")
        allowed = "at most 63 small letters, digits, dots and hyphens"
        _check_texts("gke", self, names, r"|[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", allowed)
        _check_texts("gke", self, ("image",), r"|[\w./:@-]+", "write REGISTRY/IMAGE:TAG")
        _check(self.max_restarts >= 0, f"gke.max_restarts = {self.max_restarts}: must not be negative")
        _check(
            0 <= self.flex_start_hours <= FLEX_START_HOURS,
            f"gke.flex_start_hours = {self.flex_start_hours}: must be at most {FLEX_START_HOURS}, and not negative",
        )
        both = self.flex_start_hours and (self.spot or self.reservation)
        _check(not both, "gke: flex_start_hours excludes spot and reservation; set only one")
        _check_slices("gke", self)

    def check(self) -> None:
        """Raise InputError where a setting without a default, which a submission needs, is missing."""
        _check(self.image, "gke.image is not set: build one from the Dockerfile and name it in ladder.toml under [gke]")
        _check(self.topology, 'gke.topology is not set: in ladder.toml under [gke], topology = { default = "v5e:4x4" }')

    def slice_of(self, size: str) -> Slice:
        return _slice_of("gke", self.topology, size)


@dataclass(frozen=True)
class Tpu:
    """topology: by size, "fit" for the fit, "default" for the others. archive: a folder in a bucket for the code.
    runtime_version: of the image; "" is the one that Google names for JAX on the kind of TPU. python: what uv brings.
    reservation: its full name. wait_hours: how long a request may wait for machines (0: without limit).
    scratch_gib: how much of a machine's disk copied corpora may take. cache_gib: of the disk, for a mounted bucket.
    data_disk: projects/PROJECT/zones/ZONE/disks/NAME, with corpora that then need no copy; every machine reads it."""

    project: str = ""
    zone: str = ""
    archive: str = ""
    runtime_version: str = ""
    python: str = "3.11.18"
    network: str = ""
    subnetwork: str = ""
    service_account: str = ""
    spot: bool = False
    reservation: str = ""
    slices: int = 1
    wait_hours: float = 0.0
    scratch_gib: int = 50  # the boot disk has 100 GiB, with the system and the packages on it
    cache_gib: int = 10
    data_disk: str = ""
    topology: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        names = ("project", "zone", "runtime_version", "network", "subnetwork", "service_account", "reservation")
        _check_texts("tpu", self, names, r"[A-Za-z0-9@./:_-]*", "only letters, digits and @./:_-")
        _check_texts("tpu", self, ("python",), r"3\.(1[1-9])(\.\d+)?", "write a version from 3.11 on, such as 3.11.18")
        _check(not self.archive or self.archive.startswith("gs://"), f"tpu.archive = {self.archive!r}: write gs://...")
        disk = r"|projects/[\w:.-]+/zones/[\w-]+/disks/[\w-]+"
        _check_texts("tpu", self, ("data_disk",), disk, "write projects/PROJECT/zones/ZONE/disks/NAME")
        kinds = {text.partition(":")[0] for text in self.topology.values()}
        reason = (
            f"tpu.runtime_version = {self.runtime_version!r}: topology has several kinds of TPU, and each has its own"
        )
        _check(not self.runtime_version or len(kinds) < 2, f"{reason}; leave it out")
        gke_only = [text for text in self.topology.values() if text.startswith("tpu7x:")]
        _check(not gke_only, f"tpu.topology: the Cloud TPU API does not offer {', '.join(gke_only)}; use --backend gke")
        _check(self.wait_hours >= 0, f"tpu.wait_hours = {self.wait_hours}: must not be negative")
        _check_slices("tpu", self)

    def check(self) -> None:
        """Raise InputError where a setting without a default, which a submission needs, is missing."""
        for name in ("project", "zone", "archive", "topology"):
            _check(getattr(self, name), f"tpu.{name} is not set: set it in ladder.toml under [tpu]")

    def slice_of(self, size: str) -> Slice:
        return _slice_of("tpu", self.topology, size)


@dataclass(frozen=True)
class Limits:
    """dollars: what `submit` may start at most, by the high end of its estimate; 0 for no limit."""

    dollars: float = 0.0

    def __post_init__(self):
        _check(0 <= self.dollars < float("inf"), f"limits.dollars = {self.dollars}: must not be negative or infinite")


@dataclass(frozen=True)
class Settings:
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    prices: dict[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    slurm: Slurm = field(default_factory=Slurm)
    gke: Gke = field(default_factory=Gke)
    tpu: Tpu = field(default_factory=Tpu)

    @property
    def environment(self) -> Environment:
        return Environment(self.env, self.secrets)


def load(path: Path = FILE) -> Settings:
    """The settings in a file; the defaults where there is no ladder.toml. Raises InputError that names file and key."""
    if not path.exists():
        if path != FILE:
            raise InputError(f"{path}: no such file")
        return Settings()
    try:
        return from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error})") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def from_dict(tables: dict) -> Settings:
    """Settings from plain tables, as in ladder.toml or submit.json."""
    settings = _dataclass(Settings, tables, "")
    settings.environment  # noqa: B018 (checks)
    return settings


def _dataclass(kind, table, prefix: str):
    """prefix: of the table's keys, for messages, such as "gke."."""
    _check(isinstance(table, dict), f"{prefix.rstrip('.')}: a table was expected")
    known, values = [f.name for f in fields(kind)], {}
    for name, value in table.items():
        _check(name in known, f"{prefix}{name}: unknown; there are {', '.join(known)}")
        values[name] = _value(getattr(kind(), name), value, f"{prefix}{name}")
    return kind(**values)


def _value(default, value, key: str):
    """`value` checked, and converted to the type of the default."""
    if hasattr(default, "__dataclass_fields__"):
        return _dataclass(type(default), value, key + ".")
    if isinstance(default, dict):
        _check(isinstance(value, dict), f"{key}: a table was expected")
        for name, text in value.items():
            _check(isinstance(text, str), f"{key}.{name} = {text!r}: a text in quotes was expected")
        return dict(value)
    if isinstance(default, tuple):
        is_list = isinstance(value, list | tuple) and all(isinstance(i, str) for i in value)
        _check(is_list, f"{key} = {value!r}: a list of texts in quotes was expected")
        return tuple(value)
    expected = {str: "a text in quotes", bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
    same_type = type(value) is type(default) or (type(default) is float and type(value) is int)
    _check(same_type, f"{key} = {value!r}: {expected} was expected")
    return type(default)(value)


def _check_texts(table: str, settings, names: tuple[str, ...], pattern: str, allowed: str) -> None:
    """allowed: the pattern in words."""
    for name in names:
        text = getattr(settings, name)
        _check(re.fullmatch(pattern, text), f"{table}.{name} = {text!r}: {allowed}")


def _check_slices(table: str, settings: Gke | Tpu) -> None:
    """Which TPU slices, how many, how they are paid for, and what may be written to their disks."""
    _check(settings.slices >= 1, f"{table}.slices = {settings.slices}: must be at least 1")
    for name in ("scratch_gib", "cache_gib"):
        _check(getattr(settings, name) >= 0, f"{table}.{name} = {getattr(settings, name)}: must not be negative")
    both = settings.spot and settings.reservation
    _check(not both, f"{table}: spot and reservation exclude each other; set only one")
    for size, text in settings.topology.items():
        try:
            parse(text)
        except InputError as error:
            raise InputError(f"{table}.topology.{size}: {error}") from None


def _slice_of(table: str, topology: dict[str, str], size: str) -> Slice:
    text = topology.get(size, topology.get("default"))
    _check(text, f'{table}.topology: none for size {size}; add the key "{size}" or "default"')
    return parse(text)


def _check(condition, message: str) -> None:
    if not condition:
        raise InputError(message)
