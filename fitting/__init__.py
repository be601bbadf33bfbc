"""Runs table to laws to predictions. Start reading at task_laws/two_step.py and loss_laws/loss_fit.py."""
