"""Which commands of the docs no test executes, and why: where a part of each is executed instead."""

CLOUD = "asks a cloud or a server outside this machine"
DOWNLOAD = "downloads"
BEAM = "needs Apache Beam (make beam): tests/ladder/data/sharded/test_beam.py, by make proof-beam"
DEMO = "takes 2 minutes to 2 hours: tests/launch/test_demo.py goes through it with runs that are not trained"
INSTALLS = "changes the environment of the tests: make proof-install installs the wheel in one of its own"
INSTALLED = "would begin by installing this checkout; .ci/run runs it"
NOISE = "fits for more than 10 seconds: tests/fitting/loss_laws/test_noise_floor.py fits with such a floor"
PAPER = "downloads: tests/launch/fetch/test_paper_runs.py fetches from a repository of its own"
PROCESSES = "waits for another machine: tests/ladder/parallel/test_processes.py joins processes of one"
REAL = "downloads 1.7 GB and takes half an hour"
SCALING = "fits for more than 15 seconds: tests/fitting/studies/test_least_compute.py reads such runs and a study.json"
SLURM = "needs Slurm (make slurm): tests/launch/backends/test_slurm.py submits to it"
STUDIES = "takes an hour: tests/launch/test_tiny_studies.py trains each study with tiny models"
TPU = "needs libtpu, and minutes: tests/launch/aot compiles two layers; make proof-tpu compiles the rung"
WANDB = "needs wandb, which make test does not install: tests/launch/trackers/test_wandb.py, by make proof-trackers"

NOT_EXECUTED = {
    "make demo": DEMO,
    "make forecast": DEMO,
    "ladder demo": DEMO,
    "ladder demo --quick": DEMO,
    "ladder demo --full": DEMO,
    "ladder demo --text my/notes more.jsonl.gz": DEMO,
    "ladder demo --forecast --text prose.jsonl --root runs/prose": DEMO,
    "make test": INSTALLED,
    "make test-slow": INSTALLED,
    "make lint": INSTALLED,
    ".ci/run": "runs these tests",
    "make studies": STUDIES,
    "ladder fit runs/demo --noise runs/study-noise/study.json": NOISE,
    "make proof-real": REAL,
    "make docs": DOWNLOAD,
    "make beam": DOWNLOAD,
    "pip install .": INSTALLS,
    "pip install '.[tpu]'": INSTALLS,
    "ladder study scaling --backend slurm": SLURM,
    "ladder study scaling runs.csv --batch-study runs/study-batch/study.json -o scaling.html": SCALING,
    "ladder train RUN_DIR --coordinator host0:1234 --processes 2 --process 0": PROCESSES,
    "ladder check olmo2 --rung 7B-4T --topology v5p:8x8x8": TPU,
    "ladder check olmo2 --rung 7B-4T --topology v5p:8x8x8 --recommend": TPU,
    "ladder track demo --to wandb --follow": WANDB,
    "WANDB_MODE=offline ladder track demo --to wandb": WANDB,
    "ladder data build my/ladder.py:mine --runner direct --runner-option direct_num_workers=8": BEAM,
    "ladder data build my/ladder.py:mine data.text=gs://bucket/text --corpora gs://bucket/corpora --runner dataflow"
    " --runner-option project=NAME region=europe-west4 temp_location=gs://bucket/tmp max_num_workers=50": CLOUD,
    "ladder data paper": PAPER,
}
