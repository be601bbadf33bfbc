"""Learning rates and updates. Start reading at adamw.py."""
