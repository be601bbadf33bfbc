"""What one rung leaves behind: its run directory. Start reading at record.py, which lists the files."""
