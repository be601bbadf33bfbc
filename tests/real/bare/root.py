"""What a bare machine boots with: Debian's smallest system, and a Python that uv downloads from this machine."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.real.bare.network import HOST, PROXY_PORT

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
SUITE = "bullseye"  # its Python is 3.9
PYTHON = ".".join(map(str, sys.version_info[:3]))
# By the C library, and by packages: the parts of the C library that are empty today.
_LOADED_LATER = ("libgcc_s.so.1", "libstdc++.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1")
# In a Python that runs on an older system than the one it was built for: it brings the C library too.
_START = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/../lib/libs/ld.so" --argv0 "$0" --library-path "$here/../lib/libs" "$here/python.bin" "$@"
"""


def debian(folder: Path) -> Path:
    """The root file system, made once by debootstrap from the mirror that this machine uses."""
    root = folder / SUITE
    if not root.exists():
        sources = "".join(path.read_text() for path in Path("/etc/apt").glob("sources.list*/*.sources"))
        sources += "".join(path.read_text() for path in Path("/etc/apt").glob("sources.list"))
        mirror = re.search(r"https?://[^\s\]]+", re.sub(r"(?m)^#.*$", "", sources))[0]
        partial = folder / f"{SUITE}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        packages = "--include=python3,ca-certificates,curl"
        command = ["debootstrap", "--variant=minbase", packages, SUITE, str(partial), mirror]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        partial.rename(root)
    return root


def python_download(folder: Path) -> dict[str, dict]:
    """Write python.tar.gz, of the Python that runs this, and return what uv wants to know of it."""
    base, path = Path(sys.base_prefix), folder / "python.tar.gz"
    tree = folder / "python"
    shutil.copytree(
        base / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}", tree / _library(), ignore=_left_out
    )
    (tree / "bin").mkdir()
    libraries = tree / "lib" / "libs"
    libraries.mkdir()
    program = Path(sys.executable).resolve()
    shutil.copy(program, tree / "bin" / "python.bin")
    for path_ in _libraries(program, *(tree / _library() / "lib-dynload").glob("*.so")):
        shutil.copy(path_, libraries / ("ld.so" if path_.name.startswith("ld-") else path_.name))
    names = ("python", "python3", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    for name in names:
        (tree / "bin" / name).write_text(_START)
        (tree / "bin" / name).chmod(0o755)
    with tarfile.open(path, "w:gz", compresslevel=1, dereference=True) as tar:
        tar.add(tree, arcname="python")
    shutil.rmtree(tree)
    major, minor, patch = sys.version_info[:3]
    about = {"name": "cpython", "arch": {"family": "x86_64", "variant": None}, "os": "linux", "libc": "gnu"}
    about |= {"major": major, "minor": minor, "patch": patch, "prerelease": "", "variant": None, "build": "1"}
    about |= {"url": f"http://{HOST}/python.tar.gz", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return {f"cpython-{PYTHON}-linux-x86_64-gnu": about}


def _library() -> str:
    return f"lib/python{sys.version_info[0]}.{sys.version_info[1]}"


def _left_out(folder: str, names: list[str]) -> set[str]:
    return {
        name for name in names if name in ("site-packages", "test", "__pycache__", "idlelib") or name.endswith(".a")
    }


def _libraries(*programs: Path) -> list[Path]:
    """The shared libraries that these programs need."""
    printed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True).stdout
    paths = {Path(match) for match in re.findall(r"(?:=> |^\s*)(/\S+) \(0x", printed, re.MULTILINE)}
    paths |= {path for name in _LOADED_LATER if (path := Path("/lib/x86_64-linux-gnu", name)).exists()}
    return sorted(paths)


def settle(root: Path, gcloud: str, downloads: dict) -> None:
    """The differences between a machine and its image: names, gcloud, and how it reaches the package registries."""
    files = {
        "etc/hosts": f"127.0.0.1 localhost\n{HOST} metadata.google.internal\n",
        "etc/apt/apt.conf.d/proxy": f'Acquire::http::Proxy "http://{HOST}:{PROXY_PORT}";\n',
        "etc/ssl/certs/ca-certificates.crt": CERTIFICATES.read_text(),
        "opt/downloads.json": json.dumps(downloads),
        "usr/bin/gcloud": gcloud,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "usr/bin/gcloud").chmod(0o755)
