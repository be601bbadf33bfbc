"""Critical batch size: one size trained at many batch sizes to many losses, at a constant learning rate.

A rate that suits one batch size does not suit another: each batch size is trained with several rates, and the analysis
takes the fewest steps to each loss.
"""

from collections.abc import Sequence
from dataclasses import replace

from configs import demo, olmo2
from configs.studies.makers import Make, cpu, evaluated, tpu, with_schedule
from ladder.config import Ladder, Model
from ladder.sizes import n_params

EVALUATIONS = 60
CPU_MODEL = demo.model(16, n_layers=2)


def batch(
    name: str = "study-batch",
    make: Make = cpu,
    size: str = "d16L2",
    model: Model = CPU_MODEL,
    batches: Sequence[int] = (4, 8, 16, 32, 64, 128),
    steps: Sequence[int] = (3000, 2000, 1300, 900, 700, 550),
    rates: Sequence[float] = (0.7, 1.4),
    most_rate: float = 0.03,
) -> Ladder:
    """batches: in sequences. steps: of each. rates: factors on the size's own rate times sqrt(batch / its batch), which
    stays below most_rate. Runs are trunks: their rate is constant after the warm-up."""
    own = with_schedule(make(size, model, 1, 0), "wsd")
    rungs = {}
    for sequences, n_steps in zip(batches, steps, strict=True):
        for factor in rates:
            rate = factor * min(own.optimizer.peak_lr * (sequences / own.batch_sequences) ** 0.5, most_rate)
            tokens = sequences * model.seq_len
            rung = replace(
                own,
                kind="trunk",
                multiple=None,
                batch_tokens=tokens,
                # The microbatches have at most as many sequences as those that `make` chose for this size.
                mesh=replace(
                    own.mesh,
                    accumulation=demo.microbatches(sequences, own.batch_sequences // own.mesh.accumulation),
                ),
                tokens=n_steps * tokens,
                optimizer=replace(
                    own.optimizer,
                    peak_lr=rate,
                    warmup_tokens=min(n_params(model), n_steps * tokens // 20),
                    # The largest batch measures it with the least noise.
                    noise_scale_every=1 if sequences == max(batches) else None,
                ),
            )
            rungs.setdefault(rung.identity, evaluated(rung, EVALUATIONS))
    return Ladder(name, tuple(rungs.values()))


def batch_tpu() -> Ladder:
    batches = (16, 32, 64, 128, 256, 512, 1024)
    steps = (60_000, 40_000, 28_000, 20_000, 15_000, 12_000, 10_000)
    return batch("study-batch-tpu", tpu, "190M", olmo2.model("190M"), batches, steps, most_rate=3e-3)
