"""What ladder itself writes of a run, as rows of a runs table. Start reading at run_directories.py."""
