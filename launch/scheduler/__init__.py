"""Jobs of a ladder, submitted and kept going until all are done. Start reading at reconcile.py."""
