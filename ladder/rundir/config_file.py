"""config.json of a run directory: the rung, and the values derived from it, which must agree with its run_id."""

from ladder.config import NUMERICS_VERSION, Rung
from ladder.errors import DamagedError, InputError
from ladder.flops import flops_per_token
from ladder.overrides import from_dict
from ladder.rundir.record import Record
from ladder.sizes import n_non_embedding, n_params, n_total

_WRITE_AGAIN = "write it again with ladder submit, or ladder train NAME --rung RUNG"


def read(record: Record) -> tuple[dict, Rung]:
    """(config.json, its rung). Raises InputError where it is damaged or edited: its settings give another run_id, or
    the derived values are not those of the rung."""
    config, where = record.read_config(), f"{record.directory}/config.json"
    rung = _rung(config, where)
    numerics = config.get("numerics_version", NUMERICS_VERSION)
    if numerics != NUMERICS_VERSION:
        raise InputError(
            f"{where}: written by a version of ladder that computes other numbers (numerics_version {numerics}, here "
            f"{NUMERICS_VERSION}); use that version, or train the run in a new directory"
        )
    if rung.run_id != config["run_id"]:
        raise DamagedError(
            f"{where}: edited: its settings are those of {rung.run_id}, not of {config['run_id']}; restore it, or train"
            " the changed rung in its own directory: ladder train NAME --rung RUNG"
        )
    _check_derived(config["derived"], rung, where)
    return config, rung


def _rung(config: dict, where: str) -> Rung:
    rung = config.get("rung")
    data = rung.get("data") if isinstance(rung, dict) else None
    if isinstance(data, dict) and type(data.get("eos")) is int:  # data.eos was the id before it was a name
        rung = rung | {"data": data | {"eos": None, "eos_id": data["eos"]}}
    try:
        return from_dict(Rung, rung, "rung.")
    except InputError as error:
        raise DamagedError(f"{where}: {error}; {_WRITE_AGAIN}") from None


def _check_derived(found: dict, rung: Rung, where: str) -> None:
    """Compare the values that both versions of ladder know, the one that wrote the file and this one."""
    parent_run = found.get("parent_run")
    expected = derived(rung, parent_run)
    for name in sorted(found.keys() & expected.keys()):
        if found[name] != expected[name]:
            reason = f"derived.{name} is {found[name]!r}, but its rung gives {expected[name]!r}"
            raise DamagedError(f"{where}: edited: {reason}; {_WRITE_AGAIN}")
    if (parent_run or "").rpartition("-")[2] != (rung.parent or ""):
        reason = f"derived.parent_run is {parent_run!r}, but the rung's parent is {rung.parent!r}"
        raise DamagedError(f"{where}: edited: {reason}; {_WRITE_AGAIN}")


def corpus_dirs(config: dict) -> list[str]:
    """The folders of a run's corpora: one, or for a mixture one for each source in order; none of a fit directory. Of
    token files it is the folder of their index."""
    one = [config["corpus_dir"]] if "corpus_dir" in config else []
    return config.get("corpus_dirs") or one


def token_indexes(config: dict) -> list[tuple[str, str]]:
    """(folder, hash) of the index of each source of a run that is token files."""
    sources = config.get("rung", {}).get("data", {}).get("sources", [])
    named = zip(sources, corpus_dirs(config), strict=False)
    return [(folder, source["corpus"]) for source, folder in named if source.get("format") == "tokens"]


def tokenizer_dir(config: dict) -> str | None:
    """The folder of a run's tokenizer, where a source is token files; corpora hold it themselves."""
    return config.get("tokenizer_dir")


def derived(rung: Rung, parent_run: str | None) -> dict:
    """Values computed from the rung, for readers of its run directory. parent_run: the run_id of a branch's trunk."""
    return {
        "size": rung.size,
        "multiple": rung.multiple,
        "kind": rung.kind,
        "parent": rung.parent,
        "parent_run": parent_run,
        "seed": rung.seed,
        "n_params": n_params(rung.model),
        "n_non_embedding": n_non_embedding(rung.model),
        "n_total": n_total(rung.model),
        "flops_per_token": flops_per_token(rung.model),
        "tokens": rung.tokens,
        "steps": rung.steps,
        "warmup_steps": rung.warmup_steps,
        "decay_steps": rung.decay_steps,
        "parent_step": rung.parent_step,
        "batch_tokens": rung.batch_tokens,
        "peak_lr": rung.optimizer.peak_lr,
        "schedule": rung.optimizer.schedule,
        "lr_final_fraction": rung.optimizer.lr_final_fraction,
        "corpus": rung.content,
        "tokenizer": rung.data.tokenizer_hash,
    }
