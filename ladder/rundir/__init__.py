"""The run directory: every file that one rung writes. Start reading at record.py, which lists the files."""
