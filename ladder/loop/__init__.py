"""The training loop: one jitted step with donated state, scheduled by the host. Start reading at train.py."""
