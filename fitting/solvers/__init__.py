"""Many small least-squares problems at once. Start reading at batch.py."""
