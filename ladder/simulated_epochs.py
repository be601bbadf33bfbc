"""Rungs that repeat their text as often as a target will, which shows what the repetition costs before it is paid.

A target that reads T tokens of a source with U unique ones passes over it T/U times. A rung that reads t tokens passes
over a subset of U t/T unique ones as often. A subset is the first windows of one permutation of the source
(data/batches.py), so the subset of a rung that reads less is part of that of a rung that reads more.
"""

from dataclasses import replace

from ladder.errors import check


def with_subsets(rung, targets):
    """`rung` with the subsets that its data.simulate_epochs_of asks for, of the labels of `targets`; else as it is.

    Subsets that are filled in stay where there are no targets, as in the ladder of one run. Raises InputError where no
    target has the label, where rung and target differ in their sources, where the rung would read more of a source than
    the target, where it has unique_tokens, and for a trunk or branch: the branches of a trunk differ in length, but
    share its tokens.
    """
    label, where = rung.data.simulate_epochs_of, f"rung {rung.label}: data.simulate_epochs_of"
    if label is None:
        return replace(rung, subsets=()) if rung.subsets and rung.unique_tokens is None else rung
    check(rung.unique_tokens is None, f"{where} and unique_tokens exclude each other; leave one of them out")
    if rung.subsets and not targets:
        return rung
    target = next((target for target in targets if target.label == label), None)
    labels = ", ".join(target.label for target in targets) or "none"
    check(target is not None, f"{where} = {label!r}: the ladder has no such target (it has: {labels})")
    check(rung.kind == "full", f"{where}: a {rung.kind} cannot, it shares its tokens with runs of other lengths")
    names, target_names = _names(rung), _names(target)
    check(names == target_names, f"{where}: its sources are {names}, those of {label} {target_names}; make them equal")
    subsets = []
    for name, mine, targets_own in zip(names, rung.shares, target.shares, strict=True):
        tokens, target_tokens = _tokens(rung) * mine, _tokens(target) * targets_own
        check(
            0 < tokens <= target_tokens,
            f"{where}: it reads {float(tokens):.4g} tokens of source {name}, {label} {float(target_tokens):.4g}; a "
            "rung must read some, and no more than the target: change its weights or its tokens",
        )
        subsets.append(float(tokens / target_tokens))
    return replace(rung, subsets=tuple(subsets))


def _names(rung) -> list[str]:
    return [source.name for source in rung.data.sources] or ["text"]


def _tokens(rung) -> int:
    return rung.steps * rung.batch_tokens
