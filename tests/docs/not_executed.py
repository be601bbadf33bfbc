"""Which commands of the docs no test executes as they stand, and why; and what stands for the names to fill in."""

CLOUD = "asks a cloud or a server outside this machine"
TPU = "needs libtpu, the TPU compiler: tests/launch/aot and make proof-tpu call it"
MINUTES = "takes minutes"
DOWNLOAD = "downloads"
OTHERS = "starts other machines or a scheduler, which their own tests do"
BEAM = "needs Apache Beam (make beam): make proof-beam calls it"
STUDY = "needs the runs of a study: tests/fitting/studies/test_least_compute.py makes them"
INSTALLS = "changes the environment of the tests"

NOT_EXECUTED = {
    "make demo": MINUTES,
    "make test": MINUTES,
    "make test-slow": MINUTES,
    "make lint": MINUTES,
    ".ci/run": MINUTES,
    "make studies": MINUTES,
    "make forecast": MINUTES,
    "make proof-real": MINUTES,
    "make docs": DOWNLOAD,
    "make beam": DOWNLOAD,
    "pip install .": INSTALLS,
    "pip install '.[tpu]'": INSTALLS,
    "ladder demo": MINUTES,
    "ladder demo --quick": MINUTES,
    "ladder demo --full": MINUTES,
    "ladder demo --text my/notes more.jsonl.gz": MINUTES,
    "ladder demo --forecast --text prose.jsonl --root runs/prose": MINUTES,
    "ladder study branches": MINUTES,
    "ladder study noise data.text=my/notes": MINUTES,
    "ladder study errors runs.csv --run 1B-10xC": MINUTES,
    "ladder study scaling --backend slurm": OTHERS,
    "ladder study scaling runs.csv --batch-study runs/study-batch/study.json -o scaling.html": STUDY,
    "ladder train RUN_DIR --coordinator host0:1234 --processes 2 --process 0": OTHERS,
    "ladder check olmo2 --rung 7B-4T --topology v5p:8x8x8": TPU,
    "ladder check olmo2 --rung 7B-4T --topology v5p:8x8x8 --recommend": TPU,
    "ladder doctor --root gs://my-bucket/runs": CLOUD,
    "ladder track demo --to wandb --follow": CLOUD,
    "ladder data index gs://bucket/tokens --dtype uint16 --eos 0": CLOUD,
    "ladder verify gs://bucket/tokens": CLOUD,
    "ladder data build my/ladder.py:mine --runner direct --runner-option direct_num_workers=8": BEAM,
    "ladder data build my/ladder.py:mine data.text=gs://bucket/text --corpora gs://bucket/corpora --runner dataflow"
    " --runner-option project=NAME region=europe-west4 temp_location=gs://bucket/tmp max_num_workers=50": CLOUD,
    "ladder data paper": DOWNLOAD,
    "ladder eval runs/demo --tasks olmes --max-docs 100": MINUTES,
    "ladder study shape --ladder my/studies.py:shape": MINUTES,
    "ladder eval SmolLM2-135M-Instruct.Q4_1.gguf --tasks olmes --max-docs 40": DOWNLOAD,
    "ladder eval runs/demo --tasks olmes my/questions.jsonl tfds:piqa": DOWNLOAD,
    "ladder eval runs/demo --tasks olmes my/questions.jsonl tfds:piqa:validation": DOWNLOAD,
}

# Flags with which a test executes a command, so that it takes seconds.
ONE_RUN = ["--rung", "d24-2xC"]
ONE_DOC = ["--max-docs", "1", *ONE_RUN]
SMALLER = {
    "ladder eval runs/demo --tasks olmes my/questions.jsonl": ONE_DOC,
    "ladder eval runs/demo --tasks olmes:gold": ONE_DOC,
    "ladder eval runs/demo --tasks my-tasks/demo_words.jsonl my-tasks/demo_names.jsonl": ONE_RUN,
    "ladder eval runs/demo --missing": ONE_RUN,
    "ladder report runs/demo -o english.html": ["--target", "20k,400k"],
    "ladder eval runs/demo --tasks arc_easy_val:0shot csqa_val:0shot openbookqa_val:0shot": ONE_DOC,
    "ladder eval my/OLMo-2-0425-1B --tasks olmes": ["--max-docs", "1"],
    "ladder eval my/OLMo-2-0425-1B --tasks olmes --json scores.json": ["--max-docs", "1"],
}
