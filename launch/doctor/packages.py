"""Do the installed packages fit each other, and are they the versions that the project is tested with?"""

import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from launch.doctor.finding import Finding

OURS = "ladder-lm"
SHOWN = ("jax", "jaxlib", "flax")  # each on a line of its own
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"  # of a checkout; an installed package has none
OLDEST_PYTHON = "3.11"  # where our own metadata are not installed


def examine(has_tpu: bool) -> Iterator[Finding]:
    """has_tpu: whether this machine has a TPU, for which libtpu must be there."""
    tested = constraints(CONSTRAINTS)
    yield python()
    for name in SHOWN:
        yield package(name, tested.get(name))
    yield libtpu(has_tpu, tested.get("libtpu"))
    yield others()


def python() -> Finding:
    """Whether our package runs on this Python."""
    ours, version = _installed(OURS), platform.python_version()
    needed = (ours and ours.metadata["Requires-Python"]) or f">={OLDEST_PYTHON}"
    if Requirement(f"python{needed}").specifier.contains(version, prereleases=True):
        return Finding("ok", "python", version)
    return Finding("stop", "python", f"{version}, but ladder needs python{needed}; make an environment with that")


def package(name: str, tested: str | None) -> Finding:
    """One package: its version, what the others ask of it. tested: its version in constraints.txt."""
    found = _installed(name)
    if found is None:
        return Finding("stop", name, f"not installed; run: pip install {name}")
    unmet = [(asker, requirement) for asker, requirement in _unmet() if _name(requirement) == name]
    if unmet:
        asked = " and ".join(f"{asker} needs {requirement}" for asker, requirement in unmet)
        wanted = " ".join(f"'{text}'" for text in sorted({str(requirement) for _, requirement in unmet}))
        return Finding("stop", name, f"{found.version}, but {asked}; run: pip install {wanted}")
    return _compared(name, found.version, tested)


def libtpu(has_tpu: bool, tested: str | None) -> Finding:
    """The compiler and driver of TPUs: needed on a TPU, and elsewhere by `ladder check`. An older version than jax was
    made for does not work; a newer one usually does."""
    found, jax = _installed("libtpu"), _installed("jax")
    mend = f"run: pip install 'jax[tpu]=={jax.version}'" if jax else "install jax first"
    if found is None:
        if has_tpu:
            return Finding("stop", "libtpu", f"not installed, but this machine has a TPU; {mend}")
        return Finding("ok", "libtpu", "not installed; only TPUs and ladder check need it")
    asked = [r for r in _requirements(jax, "tpu") if _name(r) == "libtpu"] if jax else []
    if all(r.specifier.contains(found.version, prereleases=True) for r in asked):
        return _compared("libtpu", found.version, tested)
    [wanted] = asked[:1]
    is_older = Version(found.version) < _least(wanted)
    message = f"{found.version}, but jax {jax.version} was made for {wanted.name}{wanted.specifier}"
    if is_older:
        return Finding("stop" if has_tpu else "note", "libtpu", f"{message}; {mend}")
    if found.version == tested and not has_tpu:
        return Finding("ok", "libtpu", f"{message}; ladder check is tested with it")
    return Finding("note", "libtpu", f"{message}; newer, which usually works; if the TPU fails, {mend}")


def others() -> Finding:
    """All that ladder depends on, and what these packages ask for, but those on lines of their own."""
    ours = _installed(OURS)
    if ours is None:
        return Finding("note", "packages", f"{OURS} is not installed as a package: what it needs was not compared")
    problems = {}
    for asker, requirement in _unmet():
        if _name(requirement) not in SHOWN:
            found = _installed(requirement.name)
            state = f"{requirement.name} {found.version}" if found else f"{requirement.name} is not installed"
            problems.setdefault(f"{state}, but {asker} needs {requirement}", f"'{requirement}'")
    if problems:
        return Finding("stop", "packages", f"{'; '.join(problems)}; run: pip install {' '.join(problems.values())}")
    return Finding("ok", "packages", f"all {len(_requirements(ours))} that ladder needs fit each other")


def constraints(path: Path) -> dict[str, str]:
    """{package: version} that constraints.txt names for this Python; {} where there is no such file."""
    versions = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        if (requirement := _parsed(text.partition("#")[0])) and _applies(requirement):
            versions |= {_name(requirement): s.version for s in requirement.specifier if s.operator == "=="}
    return versions


def _compared(name: str, version: str, tested: str | None) -> Finding:
    if tested in (None, version):
        return Finding("ok", name, version + (", as in constraints.txt" if tested else ""))
    return Finding("note", name, f"{version}; tested with {tested} (constraints.txt): pip install {name}=={tested}")


def _installed(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _unmet() -> list[tuple[str, Requirement]]:
    """(who asks, for what): requirements of ladder, and of the packages that it requires, that are not installed so."""
    ours = _installed(OURS)
    names = [OURS, *(r.name for r in _requirements(ours))] if ours else list(SHOWN)
    unmet = []
    for name in dict.fromkeys(names):
        asker = _installed(name)
        for requirement in _requirements(asker) if asker else ():
            found = _installed(requirement.name)
            if found is None or not _is_met(requirement, found.version):
                unmet.append((name if name == OURS else f"{name} {asker.version}", requirement))
    return unmet


def _is_met(requirement: Requirement, version: str) -> bool:
    try:
        return requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _requirements(distribution: metadata.Distribution, extra: str = "") -> list[Requirement]:
    """Those that hold for this Python and machine, with `extra`."""
    parsed = map(_parsed, distribution.requires or ())
    return [requirement for requirement in parsed if requirement and _applies(requirement, extra)]


def _parsed(text: str) -> Requirement | None:
    try:
        return Requirement(text.strip())
    except InvalidRequirement:  # an empty line, or of an older standard
        return None


def _applies(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _name(requirement: Requirement) -> str:
    return canonicalize_name(requirement.name)


def _least(requirement: Requirement) -> Version:
    """The lowest version that a requirement allows."""
    lower = [Version(s.version.removesuffix(".*")) for s in requirement.specifier if s.operator in ("==", ">=", "~=")]
    return max(lower, default=Version("0"))
