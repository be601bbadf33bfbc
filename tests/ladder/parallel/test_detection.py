"""`join("auto")`: JAX's own detectors, given what machines of GKE and of Cloud TPU say, number every process once."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import jax
import pytest
from jax._src.clusters import cloud_tpu_cluster, cluster

from ladder.parallel import processes

VMS = 4  # machines of a slice


class Metadata(BaseHTTPRequestHandler):
    """The metadata server of a Cloud TPU machine: `attributes` of the machine that asks next."""

    attributes: ClassVar[dict[str, str]] = {}

    def do_GET(self):
        value = self.attributes.get(self.path.rpartition("/")[2])
        self.send_response(404 if value is None else 200)
        self.end_headers()
        self.wfile.write((value or "").encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture
def metadata(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{server.server_port}")
    yield Metadata
    server.shutdown()
    server.server_close()


@pytest.fixture
def detected(monkeypatch):
    """detected() -> (coordinator, count, index) that JAX finds for a call of join("auto")."""
    asked: dict = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda **settings: asked.update(settings))
    for module in (cloud_tpu_cluster, cluster):
        monkeypatch.setattr(module, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "10.0.0.1")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between questions to the metadata server
    monkeypatch.delenv("TPU_SKIP_MDS_QUERY", raising=False)
    monkeypatch.setenv("LADDER_COORDINATOR", "auto")

    def detect() -> tuple:
        processes.join()
        names = ("coordinator_address", "num_processes", "process_id", "local_device_ids", "cluster_detection_method")
        found = cluster.ClusterEnv.auto_detect_unset_distributed_params(*map(asked.get, names), 10)
        return found[:3]

    return detect


def megascale(slices: int, number: int, coordinator: str) -> dict[str, str]:
    if slices == 1:
        return {}
    names = ("MEGASCALE_NUM_SLICES", "MEGASCALE_SLICE_ID", "MEGASCALE_COORDINATOR_ADDRESS")
    return dict(zip(names, (str(slices), str(number), coordinator), strict=True))


@pytest.mark.parametrize("slices", [1, 2])
def test_gke(slices, detected, metadata, monkeypatch):
    """GKE sets TPU_* and MEGASCALE_* in the pods of a JobSet; the completion index counts the pods of one slice.

    JAX asks the metadata server first, which there knows nothing of a worker's number."""
    metadata.attributes = {}
    found = []
    for number in range(slices):
        hosts = [f"run-w-{number}-{worker}.run" for worker in range(VMS)]
        for worker in range(VMS):
            env = {"TPU_WORKER_ID": worker, "TPU_WORKER_HOSTNAMES": ",".join(hosts), "JOB_COMPLETION_INDEX": worker}
            env |= {"KUBERNETES_SERVICE_HOST": "10.0.0.2"} | megascale(slices, number, "run-w-0-0.run")
            for name, value in env.items():
                monkeypatch.setenv(name, str(value))
            found.append(detected())
    assert found == [("run-w-0-0.run:8482", VMS * slices, index) for index in range(VMS * slices)]


@pytest.mark.parametrize("slices", [1, 2])
def test_cloud_tpu(slices, detected, metadata):
    """Machines of a queued resource ask the metadata server."""
    found = []
    for number in range(slices):
        addresses = [f"10.{number}.0.{worker}" for worker in range(VMS)]
        for worker in range(VMS):
            lines = megascale(slices, number, "10.0.0.0:8080") | {"ACCELERATOR_TYPE": "v5p-32"}
            metadata.attributes = {
                "agent-worker-number": str(worker),
                "worker-network-endpoints": ",".join(f"unknown:unknown:{address}" for address in addresses),
                "tpu-env": "".join(f"{name}: '{value}'\n" for name, value in lines.items()),
            }
            found.append(detected())
    assert found == [("10.0.0.0:8482", VMS * slices, index) for index in range(VMS * slices)]
