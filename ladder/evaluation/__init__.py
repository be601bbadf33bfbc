"""Requests to packed rows to scores of tasks, in one jitted function. Start reading at evaluator.py."""
