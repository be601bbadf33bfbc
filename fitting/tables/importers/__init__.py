"""Other projects' results as runs tables. Nothing is dropped in silence: Table.left_out names what was not imported.

paper_csv.py, lm_eval_results.py, lm_eval_samples.py, llm_foundry_json.py, wandb_csv.py: what their names say. Logs of
other trainers: start reading at trainer_log.py; maxtext_log.py, olmo_core_log.py, levanter_log.py; emitted.py: what we
wrote beside their configs. wide.py: a wide table of losses. metrics.py: names of metrics.
"""

from fitting.tables.importers.levanter_log import levanter
from fitting.tables.importers.llm_foundry_json import llm_foundry
from fitting.tables.importers.lm_eval_results import lm_eval
from fitting.tables.importers.maxtext_log import maxtext
from fitting.tables.importers.olmo_core_log import olmo_core
from fitting.tables.importers.paper_csv import MMLU_WEIGHTS, paper
from fitting.tables.importers.wandb_csv import is_panel, wandb

__all__ = [
    "MMLU_WEIGHTS",
    "is_panel",
    "levanter",
    "llm_foundry",
    "lm_eval",
    "maxtext",
    "olmo_core",
    "paper",
    "wandb",
]
