"""From text to tokens to batches. batches(step) is a pure function. Start reading at corpus.py."""
