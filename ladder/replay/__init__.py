"""Look at a step of a run again. Start reading at repeat.py."""
