"""What jax computes on, and what this machine has beside that."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from launch.doctor.finding import Finding

# Devices are counted in a process of its own: jax takes seconds to import, may wait for other hosts, and takes the TPU.
COUNT_DEVICES = """
import json, jax
devices = jax.local_devices()
print(json.dumps({"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)}))
"""
SECONDS = 60  # for jax to answer; on one host of several it never does
PCI = Path("/sys/bus/pci/devices")
GOOGLE, NVIDIA = "0x1ae0", "0x10de"  # PCI vendors


def accelerators(pci: Path = PCI) -> dict[str, int]:
    """{"tpu" or "gpu": how many are on the PCI bus}, whatever jax sees."""
    counts = {}
    for device in pci.glob("*"):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == GOOGLE and not kind.startswith(("0x01", "0x02")):  # Google's disks and network cards
            counts["tpu"] = counts.get("tpu", 0) + 1
        if vendor == NVIDIA and kind.startswith("0x03"):
            counts["gpu"] = counts.get("gpu", 0) + 1
    return counts


def start() -> subprocess.Popen:
    env = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # leave a GPU's memory to those who use it
    command = [sys.executable, "-P", "-c", COUNT_DEVICES]  # -P: nothing of the current folder is imported
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def devices(process: subprocess.Popen, chips: Mapping[str, int], env: Mapping[str, str]) -> Finding:
    """What jax computes on. chips: as of `accelerators`."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        reason = "another process may hold the TPU, or this is one host of several, which wait for each other"
        return Finding("note", "devices", f"jax did not find its devices within {SECONDS} s: {reason}")
    chosen = env.get("JAX_PLATFORMS", "")
    mend = f"; JAX_PLATFORMS={chosen}: unset it if it is not meant" if chosen else ""
    if process.returncode:
        last = (err.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        return Finding("stop", "devices", f"jax finds no device: {last}{mend}")
    found = json.loads(out.splitlines()[-1])
    message = f"{found['count']} x {found['kind']} ({found['platform']})"
    if found["platform"] != "cpu" or not chips:
        return Finding("ok", "devices", message)
    hidden = " and ".join(f"{count} {kind.upper()}" for kind, count in chips.items())
    message = f"jax uses the CPU, but this machine has {hidden}"
    if chosen:
        return Finding("note", "devices", message + mend)
    if "tpu" in chips:
        return Finding("stop", "devices", f"{message}; run: pip install 'jax[tpu]'")
    return Finding("note", "devices", f"{message}; to use it, run: pip install 'jax[cuda12]'")
