"""The `ladder` command: verbs in verbs/, tables of evaluations in evaluation_tables.py. Start reading at entry.py."""


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    from launch.cli.entry import main

    return main(arguments)
