"""samples_TASK_TIME.jsonl of lm-evaluation-harness (--log_samples): bits per byte of the correct answers.

A line holds one document: its requests ("arguments": context and continuation), the log-likelihood of each
continuation ("filtered_resps"), and which one is correct ("target": an index or the answer itself).
"""

import json
import math
import re
from pathlib import Path

import numpy as np

from fitting.errors import InputError
from fitting.tables import reader
from fitting.tables.importers.metrics import NAMES, check_share, is_number

NAME = re.compile(r"samples_(?P<task>.+?)(_\d{4}-\d\d-\d\dT[\d.:-]+)?\.jsonl(\.gz)?")
# Metrics whose mean over documents is the task's value.
MEANS = ("acc", "acc_norm", "exact_match", "f1")


class NoGoldAnswer(Exception):
    """Why the log-likelihood of a document's correct answer cannot be read."""


def read(path: Path) -> tuple[dict, list[str]]:
    """({(task, metric): columns}, what was left out): the means over a file's documents."""
    name = NAME.fullmatch(path.name)
    task = name["task"] if name else path.name.removesuffix(".gz").removesuffix(".jsonl")
    documents = _documents(path)
    if not documents:
        raise InputError(f"{path}: it has no documents")
    # A document stands once for each filter; the log-likelihoods are the same.
    filters = list(dict.fromkeys(str(document.get("filter")) for _, document in documents))
    documents = [(line, document) for line, document in documents if str(document.get("filter")) == filters[0]]
    left_out = [f"{path}: {metric} under the filter {other}" for other in filters[1:] for metric in MEANS
                if metric in documents[0][1]]  # fmt: skip
    values = {}
    for metric in MEANS:
        column = [document.get(metric) for _, document in documents]
        if all(map(is_number, column)):
            values[NAMES[metric]] = column
        elif any(value is not None for value in column):
            left_out.append(f"{path}: {metric} of {task} (it is not a number in every document)")
    try:
        values["bpb"] = [_gold_bpb(document, f"document {line}") for line, document in documents]
    except NoGoldAnswer as reason:
        left_out.append(f"{path}: bpb of {task} ({reason})")
    rows = {}
    for metric, column in values.items():
        n_docs, value = len(column), float(np.mean(column))
        check_share(metric, value, f"{path}: task {task}")
        stderr = float(np.std(column, ddof=1) / math.sqrt(n_docs)) if n_docs > 1 else None
        rows[task, metric] = {"value": value, "stderr": stderr, "n_docs": n_docs, "place": str(path)}
    return rows, left_out


def _documents(path: Path) -> list[tuple[int, dict]]:
    """(line, document) of every document; 0.4.0 and 0.4.1 wrote one JSON array instead of lines."""
    _, text = reader.content(path)
    if not text.lstrip().startswith("["):
        return list(reader.json_lines(text, str(path)))
    try:
        array = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    if not all(isinstance(document, dict) for document in array):
        raise InputError(f"{path}: not samples of lm-evaluation-harness: the array holds more than objects")
    return list(enumerate(array, start=1))


def _gold_bpb(document: dict, place: str) -> float:
    """-log2 p(correct answer) / its UTF-8 bytes, leading space included (Bhagia et al. 2024). Raises NoGoldAnswer."""
    requests, scores = _requests(document, place), _scores(document, place)
    if len(requests) != len(scores):
        raise NoGoldAnswer(f"{place}: {len(requests)} requests and {len(scores)} log-likelihoods")
    # acc_mutual_info asks for every answer a second time, without a context.
    if any(context for context, _ in requests):
        both = [(request, score) for request, score in zip(requests, scores, strict=True) if request[0]]
        requests, scores = [request for request, _ in both], [score for _, score in both]
    answers = [answer for _, answer in requests]
    gold = _gold(answers, document.get("target"), place)
    best = [i for i, score in enumerate(scores) if score == max(scores)]
    if len(answers) > 1 and len(best) == 1 and document.get("acc") in (0, 1) and (best[0] == gold) != document["acc"]:
        raise NoGoldAnswer(
            f"{place}: target {document.get('target')!r} and acc {document['acc']} contradict each other"
        )
    if not answers[gold]:
        raise NoGoldAnswer(f"{place}: the correct answer is empty")
    return -scores[gold] / (math.log(2) * len(answers[gold].encode()))


def _requests(document: dict, place: str) -> list[tuple[str, str]]:
    """(context, continuation) of each request: {"gen_args_0": {"arg_0", "arg_1"}} or, in memory, [[context, ...]]."""
    arguments = document.get("arguments")
    if isinstance(arguments, dict):
        arguments = list(arguments.values())
    if not isinstance(arguments, list) or not arguments or not all(isinstance(pair, list | dict) for pair in arguments):
        raise NoGoldAnswer(f"{place}: no arguments")
    pairs = [tuple(pair.values() if isinstance(pair, dict) else pair) for pair in arguments]
    if not all(len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], str) for pair in pairs):
        raise NoGoldAnswer("no log-likelihoods of answers: the model generated them, or whole texts were scored")
    return pairs


def _scores(document: dict, place: str) -> list[float]:
    """The log-likelihood (nats) of each request: [[-3.1, False], ...], as numbers or as text."""
    scores = []
    responses = document.get("filtered_resps")
    for response in responses if isinstance(responses, list) else []:
        try:
            scores.append(float(response[0] if isinstance(response, list) else response))
        except (TypeError, ValueError, IndexError, OverflowError):
            raise NoGoldAnswer("no log-likelihoods of answers: the model generated them") from None
    if not all(map(math.isfinite, scores)):
        raise NoGoldAnswer(f"{place}: a log-likelihood is not finite")
    return scores


def _gold(answers: list[str], target, place: str) -> int:
    """Index of the correct answer. Raises NoGoldAnswer unless the target names exactly one."""
    if len(answers) == 1:
        return 0
    text = str(target).strip()
    same = {i for i, answer in enumerate(answers) if answer.strip() == text}
    if text.isdecimal() and int(text) < len(answers):
        same.add(int(text))  # an answer may be a number too: then both must agree
    if len(same) != 1:
        raise NoGoldAnswer(f"{place}: target {text[:40]!r} names {len(same)} of the {len(answers)} answers")
    return same.pop()
