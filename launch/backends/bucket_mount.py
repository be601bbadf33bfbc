"""How a job on Google Cloud reads its corpora: copied to the machine's disk, or through buckets mounted by gcsfuse.

A mount serves corpora, which are files of array_record; token files are read from their bucket by range, and need none.
"""

import shlex
from dataclasses import dataclass

ROOT = "/gcs"  # gs://BUCKET is mounted at /gcs/BUCKET; LADDER_MOUNT tells the job
CACHE = "/var/cache/gcsfuse"  # of a TPU VM
STAT_CACHE_MIB = 256  # what is known of about 170,000 files

# The package of Google's own documentation: https://cloud.google.com/storage/docs/cloud-storage-fuse/install
_INSTALL = """\
if ! command -v gcsfuse >/dev/null; then
  key=/usr/share/keyrings/cloud.google.asc
  curl -sf https://packages.cloud.google.com/apt/doc/apt-key.gpg -o $key
  echo "deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" \\
    >/etc/apt/sources.list.d/gcsfuse.list
  wait_for_apt='-o DPkg::Lock::Timeout=300'  # at the first boot, the system installs updates
  apt-get $wait_for_apt -q update && apt-get $wait_for_apt -qy install gcsfuse \\
    || give_up 'gcsfuse could not be installed'
fi"""


@dataclass(frozen=True)
class Placement:
    """mounted: names of buckets that are mounted read-only; if there are any, nothing is copied. copied_gib: of the
    machine's disk, for the copies of a run's corpora; 0 where it is not known."""

    mounted: tuple[str, ...] = ()
    copied_gib: int = 0


COPIED = Placement()


def commands(placement: Placement, cache_gib: int) -> list[str]:
    """Lines of a TPU VM's start-up script: install gcsfuse if it is absent, and mount. They use its `give_up`."""
    if not placement.mounted:
        return []
    flags = ["-o", "ro", "--implicit-dirs", "--metadata-cache-ttl-secs=-1"]
    flags += [f"--stat-cache-max-size-mb={STAT_CACHE_MIB}", f"--file-cache-max-size-mb={cache_gib * 1024}"]
    lines = [f"export LADDER_MOUNT={ROOT}", _INSTALL]
    for bucket in placement.mounted:
        folder, cache = f"{ROOT}/{bucket}", f"{CACHE}/{bucket}"
        mount = shlex.join(["gcsfuse", *flags, f"--cache-dir={cache}", bucket, folder])
        lines += [f"mkdir -p {folder} {cache}", f"mountpoint -q {folder} || {mount} || give_up 'cannot mount {bucket}'"]
    return lines


def annotations(placement: Placement, cache_gib: int) -> dict[str, str]:
    """Of a pod on GKE: they bring the container that runs gcsfuse, and bound what it takes."""
    if not placement.mounted:
        return {}
    limits = {"cpu": "4", "memory": "2Gi", "ephemeral-storage": f"{cache_gib * len(placement.mounted) + 1}Gi"}
    return {"gke-gcsfuse/volumes": "true"} | {f"gke-gcsfuse/{name}-limit": limit for name, limit in limits.items()}


def volumes(placement: Placement, cache_gib: int) -> tuple[list[dict], list[dict]]:
    """The volumes of a pod on GKE, and where its container sees them."""
    # The container runs as another user than gcsfuse: everybody may read.
    options = ["implicit-dirs", "file-mode=444", "dir-mode=555", "metadata-cache:ttl-secs:-1"]
    options += [f"metadata-cache:stat-cache-max-size-mb:{STAT_CACHE_MIB}"]
    options += [f"file-cache:max-size-mb:{cache_gib * 1024}"]
    made, mounts = [], []
    for i, bucket in enumerate(placement.mounted):
        attributes = {"bucketName": bucket, "mountOptions": ",".join(options)}
        driver = {"driver": "gcsfuse.csi.storage.gke.io", "readOnly": True, "volumeAttributes": attributes}
        made.append({"csi": driver, "name": f"bucket-{i}"})
        mounts.append({"mountPath": f"{ROOT}/{bucket}", "name": f"bucket-{i}", "readOnly": True})
    return made, mounts
