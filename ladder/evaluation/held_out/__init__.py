"""Ranked-choice tasks from held-out text: the true continuation against corrupted ones. Start reading at tasks.py."""
