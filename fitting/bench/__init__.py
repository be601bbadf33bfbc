"""How well forecasts did on families of runs whose truth is known, and the constants of the intervals that follow.

Start reading at rows.py.
"""
