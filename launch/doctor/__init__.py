"""`ladder doctor`: what on this machine would stop a run. Start reading at examine.py."""
