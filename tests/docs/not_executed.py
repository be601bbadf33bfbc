"""Which commands of the docs no test executes as they stand, and why; and what stands for the names to fill in."""

CLOUD = "asks a cloud or a server outside this machine"
TPU = "needs libtpu, the TPU compiler: tests/launch/aot and make proof-tpu call it"
MINUTES = "takes minutes"
DOWNLOAD = "downloads"
OTHERS = "starts other machines or a scheduler, which their own tests do"
BEAM = "needs Apache Beam (make beam): make proof-beam calls it"
STUDY = "needs the runs of a study: tests/fitting/studies/test_least_compute.py makes them"
WANDB = "needs wandb, which make test does not install: make proof-trackers runs it"
RUNS = "trains runs or reads trained ones, a minute to prepare: the tests of its verb do so"
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
    "WANDB_MODE=offline ladder track demo --to wandb": WANDB,
    "ladder data paper": DOWNLOAD,
    "ladder eval runs/demo --tasks olmes --max-docs 100": MINUTES,
    "ladder study shape --ladder my/studies.py:shape": MINUTES,
    "ladder eval SmolLM2-135M-Instruct.Q4_1.gguf --tasks olmes --max-docs 40": DOWNLOAD,
    "ladder eval runs/demo --tasks olmes my/questions.jsonl tfds:piqa": DOWNLOAD,
    "ladder eval runs/demo --tasks olmes my/questions.jsonl tfds:piqa:validation": DOWNLOAD,
    "ladder submit my/ladder.py:mine": RUNS,
    "ladder watch demo --html status.html": RUNS,
    "ladder export runs/demo/RUN_ID --to hf my-model": RUNS,
    "ladder replay runs/demo/RUN_ID": RUNS,
    "ladder eval runs/demo --tasks olmes my/questions.jsonl": RUNS,
    "ladder data tasks demo data.text=my/notes -o my-tasks": RUNS,
    "ladder eval my/OLMo-2-0425-1B --tasks olmes": RUNS,
    "ladder train my/ladder.py:mine --rung NAME": RUNS,
    "ladder verify mine": RUNS,
    "ladder eval runs/demo --missing": RUNS,
    "ladder eval my/OLMo-2-0425-1B --tasks olmes --json scores.json": RUNS,
    "ladder eval runs/demo --tasks olmes:gold": RUNS,
    "ladder eval runs/demo --tasks my-tasks/demo_words.jsonl my-tasks/demo_names.jsonl": RUNS,
    "ladder fit runs/mine --reach 3.2 --law kaplan-n --n n_non_embedding": RUNS,
    "ladder extrapolate runs/demo --first 0.7": RUNS,
    "ladder export runs/demo -o demo.csv.gz": RUNS,
    "ladder predict runs/demo --target big=230000,4600000": RUNS,
    "ladder status demo": RUNS,
    "ladder logs demo --rung d32-2xC": RUNS,
    "ladder track demo --to tensorboard --follow": RUNS,
    "ladder data build my/ladder.py:mine": RUNS,
    'ladder data build my/ladder.py:mine data.tokenizer=my/tokenizer.json --eos "<|end|>"': RUNS,
    "ladder status demo --goodput": RUNS,
    "ladder train demo --rung d24-trunk --profile 50:55": RUNS,
    "ladder train demo --rung d24-trunk --vmap seeds=8": RUNS,
    "ladder train my/ladder.py:mine --rung NAME init_from=my/OLMo-2-0425-1B"
    " data.tokenizer=my/OLMo-2-0425-1B/tokenizer.json": RUNS,
    "ladder train demo --rung d24-trunk optimizer.noise_scale_every=10": RUNS,
    "ladder status demo --noise-scale": RUNS,
    "ladder eval runs/demo --tasks arc_easy_val:0shot csqa_val:0shot openbookqa_val:0shot": RUNS,
    "ladder report runs/demo -o english.html": RUNS,
    "ladder fit runs/demo --noise runs/study-noise/study.json": RUNS,
}
