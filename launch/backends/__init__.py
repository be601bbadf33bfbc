"""Backends that run jobs: this machine, Slurm, GKE, Cloud TPU. protocol.py says what a backend must do."""
