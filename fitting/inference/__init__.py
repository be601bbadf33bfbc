"""Resamples, run noise and intervals. Start reading at bootstrap.py."""
