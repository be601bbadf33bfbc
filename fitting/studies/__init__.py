"""Kaplan's measurements on your own runs, one analysis a file: runs table -> Study (statements, tables, figures).

Start reading at results.py; then branches.py, the shortest. page.py makes the page.
"""
