"""The optimizer of a rung: AdamW, its schedule, and what is done with single steps."""

from dataclasses import asdict, dataclass
from typing import Literal

from ladder.errors import check as _check

INF = float("inf")
MOST_TOKENS = 2**63 - 1


@dataclass(frozen=True)
class Optimizer:
    """AdamW and its schedule (optim/schedule.py). Rates are per step. decay_fraction: share of steps in a WSD decay.

    mu_dtype, nu_dtype: in which the first and second moment are stored (None: model.param_dtype); updated in float32.
    skip_step_sigma: skip a step whose loss or gradient norm is so many standard deviations above the mean of the last
    skip_step_window steps (optim/skip_step.py); None: never.
    noise_scale_every: measure the gradient noise scale at every such step (optim/noise_scale.py); None: never.
    """

    peak_lr: float
    warmup_tokens: int
    schedule: Literal["cosine", "wsd"] = "cosine"
    lr_final_fraction: float = 0.1
    decay_fraction: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    grad_clip: float = 1.0
    z_loss: float = 1e-5
    mu_dtype: Literal["float32", "bfloat16"] | None = None
    nu_dtype: Literal["float32", "bfloat16"] | None = None
    skip_step_sigma: float | None = None
    skip_step_window: int = 128
    noise_scale_every: int | None = None

    def __post_init__(self):
        _check(0 < self.peak_lr < 1, f"optimizer.peak_lr = {self.peak_lr}: must lie between 0 and 1")
        _check(self.warmup_tokens >= 0, f"optimizer.warmup_tokens = {self.warmup_tokens}: must not be negative")
        _check(self.warmup_tokens <= MOST_TOKENS, f"optimizer.warmup_tokens = {self.warmup_tokens}: must be below 2^63")
        for name in ("lr_final_fraction", "decay_fraction", "beta1", "beta2", "weight_decay", "z_loss"):
            value = getattr(self, name)
            _check(0 <= value < INF, f"optimizer.{name} = {value}: must not be negative or infinite")
        for name in ("lr_final_fraction", "decay_fraction"):
            _check(getattr(self, name) <= 1, f"optimizer.{name} = {getattr(self, name)}: must be at most 1")
        for name in ("beta1", "beta2"):
            _check(getattr(self, name) < 1, f"optimizer.{name} = {getattr(self, name)}: must be less than 1")
        for name in ("decay_fraction", "eps", "grad_clip"):
            _check(getattr(self, name) > 0, f"optimizer.{name} = {getattr(self, name)}: must be positive")
        _check(
            self.nu_dtype != "bfloat16" or 1 - self.beta2 > 2**-8,
            f"optimizer.beta2 = {self.beta2}: a second moment in bfloat16 could never decrease, because of rounding; "
            "set optimizer.nu_dtype=float32, or beta2 to at most 0.996",
        )
        sigma, window = self.skip_step_sigma, self.skip_step_window
        _check(sigma is None or 0 < sigma < INF, f"optimizer.skip_step_sigma = {sigma}: must be positive, such as 6")
        _check(8 <= window <= 1 << 20, f"optimizer.skip_step_window = {window}: must be 8 to {1 << 20:,} steps")
        _check(
            sigma is not None or window == 128,
            f"optimizer.skip_step_window = {window}: has no effect without optimizer.skip_step_sigma; set both",
        )
        every = self.noise_scale_every
        _check(every is None or every >= 1, f"optimizer.noise_scale_every = {every}: must be at least 1, such as 10")

    @property
    def set_fields(self) -> dict:
        """All fields but those that were added later and are not set: what enters a run_id."""
        later = {"mu_dtype", "nu_dtype", "skip_step_sigma", "noise_scale_every"}
        unset = {name for name in later if getattr(self, name) is None}
        unset |= {"skip_step_window"} if self.skip_step_sigma is None else set()
        return {name: value for name, value in asdict(self).items() if name not in unset}
