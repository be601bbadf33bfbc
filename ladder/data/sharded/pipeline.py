"""The Beam pipelines: which steps run for each part, bucket and shard, and which wait for all of those before them.

The only file that knows Beam. It runs in Beam's environment (environment.py), without jax.
"""

import contextlib
import difflib
import io
import os
import sys
from functools import partial
from importlib.util import find_spec

from ladder.data.sharded import buckets, parts, shards, work
from ladder.errors import InputError

RUNNERS = {
    # Not Beam's DirectRunner: that may hand a pipeline to a program that it first downloads.
    "direct": "apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "dataflow": "DataflowRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
}


def run(step: str, folder: str, name: str, runner: str, options: list[str]) -> None:
    """Run a step ("read" or "write") to its end. Raises InputError for wrong options."""
    pipeline = build(step, folder, name, checked(runner, options))
    if runner == "dataflow" and find_spec("apitools") is None:
        install = f"{sys.executable} -m pip install 'apache-beam[gcp]' gcsfs"
        raise InputError(f"Beam's environment lacks what Dataflow needs; run: {install}", "runner")
    pipeline.run().wait_until_finish()


def build(step: str, folder: str, name: str, options):
    """The pipeline of a step.

    read: read each part; once all are read, merge each bucket. write: encode each bucket; once all are encoded, write
    each shard. A step that was finished before is skipped, so that any runner may run it twice.
    """
    import apache_beam as beam

    n_parts, n_buckets = len(work.read_job(folder).parts), work.read_job(folder).n_buckets
    first, then, last = {
        "read": (partial(parts.read, folder), partial(buckets.numbers, folder), partial(buckets.merge, folder)),
        "write": (
            partial(buckets.tokenize, folder, name),
            partial(shards.plan, folder, name),
            partial(shards.write, folder, name),
        ),
    }[step]
    names = {
        "read": ("read each part", "choose the buckets", "merge each bucket"),
        "write": ("encode each bucket", "choose the shards", "write each shard"),
    }[step]
    pipeline = beam.Pipeline(options=options)
    (
        pipeline
        | "number" >> beam.Create(range(n_parts if step == "read" else n_buckets))
        | "spread" >> beam.Reshuffle()
        | names[0] >> beam.Map(first)
        | "wait for all" >> beam.combiners.ToList()
        | names[1] >> beam.FlatMap(then)
        | "spread again" >> beam.Reshuffle()
        | names[2] >> beam.Map(last)
    )
    return pipeline


def checked(runner: str, given: list[str]):
    """Beam's PipelineOptions. Raises InputError for those that Beam does not know, or refuses."""
    from apache_beam.options import pipeline_options, pipeline_options_validator
    from apache_beam.runners.runner import create_runner

    flags = [f"--runner={RUNNERS[runner]}", *(f"--{option}" for option in given)]
    keys = [option.partition("=")[0] for option in given]
    if runner == "direct":
        if "direct_num_workers" not in keys:
            flags.append(f"--direct_num_workers={os.cpu_count()}")
        if "direct_running_mode" not in keys:
            flags.append("--direct_running_mode=multi_processing")
    options = pipeline_options.PipelineOptions(flags)
    refused = io.StringIO()
    try:
        with contextlib.redirect_stderr(refused):
            known = pipeline_options.PipelineOptions([]).get_all_options()
            used = options.get_all_options(retain_unknown_options=True)
    except SystemExit:  # of argparse, which has written why
        raise InputError(refused.getvalue().strip().rpartition("error: ")[2], "runner_option") from None
    for key in sorted(used.keys() - known.keys()):
        near = difflib.get_close_matches(key, known, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"{key!r}: Beam has no such option{meant}", "runner_option")
    validator = pipeline_options_validator.PipelineOptionsValidator(options, create_runner(RUNNERS[runner]))
    problems = validator.validate()
    if problems:
        raise InputError(f"{runner} refuses its options: {' '.join(' '.join(problems).split())}", "runner_option")
    return options
