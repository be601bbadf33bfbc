"""Other projects' results as runs tables. Nothing is dropped in silence: Table.left_out names what was not imported.

paper_csv.py: the task-ladder paper's CSVs; lm_eval_results.py and lm_eval_samples.py: lm-evaluation-harness;
llm_foundry_json.py: llm-foundry; wandb_csv.py: Weights & Biases; metrics.py: which metrics are known, by which names.
"""

from fitting.tables.importers.llm_foundry_json import llm_foundry
from fitting.tables.importers.lm_eval_results import lm_eval
from fitting.tables.importers.paper_csv import MMLU_WEIGHTS, paper
from fitting.tables.importers.wandb_csv import is_panel, wandb

__all__ = ["MMLU_WEIGHTS", "is_panel", "llm_foundry", "lm_eval", "paper", "wandb"]
