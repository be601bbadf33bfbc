"""Token files read where they lie, without a copy. Start reading at token_files.py, then index.py."""
