"""The `ladder` command. Start reading at cli/entry.py, the list of verbs."""
