"""What watches a run: progress, where the time goes, compilations, hangs. Start reading at progress.py."""
