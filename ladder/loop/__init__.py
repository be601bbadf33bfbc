"""The training loop: one jitted, donated step, scheduled by the host. Start reading at train.py."""
