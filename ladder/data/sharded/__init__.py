"""A corpus that many processes build on Apache Beam: byte for byte the one that one process builds.

Start reading at texts.py, which asks for the steps in parts.py, buckets.py and shards.py; pipeline.py runs them. Only
pipeline.py knows Beam.
"""
