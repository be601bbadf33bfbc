"""What `ladder data` does: index token files, make tasks from held-out text. Start reading at token_index.py."""
