"""How tests compile, and when slow ones stop."""

import os
import time
from pathlib import Path

import pytest

# One cache of compiled programs for all tests of this checkout, the processes they start and later sessions. It is set
# before jax is imported.
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".cache" / "compiled-by-tests"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

pytest_plugins = ("tests.bucket",)
END = time.monotonic() + float(os.environ.get("LADDER_TEST_SECONDS", "inf"))


def pytest_collection_modifyitems(items):
    """Where time is limited, begin at another file for each commit, so that all are run in turn."""
    if commit := os.environ.get("LADDER_TEST_COMMIT"):
        files = list(dict.fromkeys(item.path for item in items))
        first = int(commit, 16) % max(1, len(files))
        place = {path: (i - first) % len(files) for i, path in enumerate(files)}
        items.sort(key=lambda item: place[item.path])


def pytest_runtest_setup(item):
    if time.monotonic() > END:
        pytest.skip(f"{item.nodeid}: LADDER_TEST_SECONDS are over")


@pytest.fixture(scope="module")
def quick_compile():
    """XLA compiles in a third of the time, here and in processes started from here; for tests of what is computed, not
    of how fast or in how much memory."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", before)
