"""Train and evaluate one rung. Start reading at loop/train.py, the loop, and config.py, what a rung is."""
