"""Documents from where text lies: files (text_files.py, parquet_files.py), Python code, TFDS datasets."""
