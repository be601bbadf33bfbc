"""How a test changes a command before it executes it: names that are to be filled in, and smaller tables."""

from tests.docs import prepared, trained
from tests.docs.commands import Command

WITH_CHECKPOINTS = ("--rung", "d24-1xC")  # the other runs follow a law
READ_CHECKPOINTS = (["eval", "runs/demo"], ["verify", "demo"])
# Other words in the place of a command's own.
INSTEAD = {
    # The end of a document in another tokenizer.
    "ladder data index my/tokens --dtype uint16 --eos 50279 --validation 0.001": {"50279": str(prepared.END)},
    "ladder verify mine": {"mine": "demo"},
    # A table with few smaller ladders in it.
    "ladder study errors runs.csv --run 1B-10xC": {"runs.csv": "few.csv"},
}
WHERE_PREPARED = {"tfds:piqa": "tfds:piqa@my/tfds", "tfds:piqa:validation": "tfds:piqa:validation@my/tfds"}


def words(command: Command, bucket: str | None) -> list[str]:
    """The words after the program, as they are executed. bucket: gs://NAME of the tests, for the docs' own."""
    instead = WHERE_PREPARED | INSTEAD.get(command.text, {})
    filled = [_filled(instead.get(word, word), command, bucket) for word in command.words[1:]]
    return [*filled, *WITH_CHECKPOINTS] if filled[:2] in READ_CHECKPOINTS else filled


def _filled(word: str, command: Command, bucket: str | None) -> str:
    if "RUN_ID" in word:
        return word.replace("RUN_ID", trained.run_id("diverged" if "replay" in command.words else "done"))
    if bucket and word.startswith("gs://"):
        return "/".join([bucket, *word.split("/")[3:]])
    return word
