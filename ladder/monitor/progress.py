"""The status line of a run, and the machine's measured matmul rate that utilisation is relative to."""

import math
import time
from functools import cached_property

import jax
import jax.numpy as jnp


def matmul_flops(size: int = 1024, seconds: float = 0.1) -> float:
    """FLOP/s of float32 matmuls on all devices of all processes: the fastest of those that fit in `seconds`.

    All devices of this process multiply at the same time, because emulated devices share the cores of one CPU.
    """
    multiply = jax.jit(lambda x: x @ x)
    devices = jax.local_devices()
    x_N = [jax.device_put(jnp.ones((size, size), jnp.float32), device) for device in devices]
    jax.block_until_ready([multiply(x) for x in x_N])
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        jax.block_until_ready([multiply(x) for x in x_N])
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 * len(devices) * jax.process_count() / best


class StatusLine:
    """Prints "step, epoch, loss, bpb, tokens/s, share of matmul peak, time left" every few seconds.

    Call `restart` after evaluations and saves, so that their time does not count in the rate.
    """

    def __init__(self, label, steps, batch_tokens, flops_per_token, bytes_per_token, every=5.0):
        self.label, self.steps, self.batch_tokens = label, steps, batch_tokens
        self.flops_per_token, self.bytes_per_token, self.every = flops_per_token, bytes_per_token, every
        self.began, self.evaluation_seconds = time.monotonic(), 0.0
        self.restart(None)

    @cached_property
    def peak(self) -> float:
        """FLOP/s; measured when the first line is printed, so a run of a few seconds does not measure it."""
        return matmul_flops()

    def restart(self, step: int | None):
        """Measure the rate from this step and this moment on."""
        self.rate_start, self.rate_step, self.printed = time.monotonic(), step, time.monotonic()

    def evaluated(self, step: int, tokens: int, seconds: float):
        """Print what an evaluation cost, and the share of the time since the start that all evaluations took."""
        self.evaluation_seconds += seconds
        share = self.evaluation_seconds / (time.monotonic() - self.began)
        print(f"{self.label}  evaluated at step {step:,}: {tokens:,} tokens, {seconds:.1f} s; {share:.1%} of the time")

    def due(self) -> bool:
        return time.monotonic() - self.printed >= self.every

    def show(self, step: int, loss: float, epoch: float) -> float:
        """Print the line; returns tokens/s since the last one. loss: nats per token. epoch: passes over the text."""
        now = time.monotonic()
        if self.rate_step is None or step <= self.rate_step:
            self.restart(step)
            return math.nan
        rate = (step - self.rate_step) * self.batch_tokens / (now - self.rate_start)
        left = (self.steps - step) * self.batch_tokens / rate
        bpb = loss / math.log(2) / self.bytes_per_token
        share = rate * self.flops_per_token / self.peak
        print(
            f"{self.label}  step {step:,}/{self.steps:,}  epoch {epoch:.2f}  loss {loss:.4f}  bpb {bpb:.3f}  "
            f"{rate:,.0f} tokens/s  "
            f"{share:.0%} of matmul peak  {left / 60:.0f}m{left % 60:02.0f}s left",
            flush=True,
        )
        self.restart(step)
        return rate
