"""Submits the jobs of a ladder, and submits them again, until all are done. Start reading at reconcile.py."""
