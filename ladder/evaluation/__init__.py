"""From requests to packed rows to the scores of tasks, in one jitted function. Start reading at evaluator.py."""
