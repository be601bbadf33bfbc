import jax
import pytest


@pytest.fixture(scope="module")
def quick_compile():
    """XLA compiles in a third of the time; for tests of what is computed, not of how fast or in how much memory."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
