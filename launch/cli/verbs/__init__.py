"""The verbs of the `ladder` command. A verb reads its flags, calls what does the work, and shows the result.

Start reading at run.py.
"""
