"""Token files read where they lie. Start reading at token_files.py, then index.py, blocks.py and store.py."""
