"""Files on a disk or in an object store, read by byte range. Start reading at ranges.py, then disk.py and store.py."""
