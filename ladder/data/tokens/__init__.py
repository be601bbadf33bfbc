"""Token files read where they lie, in windows. Start reading at token_files.py, then index.py and blocks.py."""
