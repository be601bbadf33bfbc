"""Forecasts of a larger run: (N, D) to the loss of every task, to its accuracy, with intervals.

Start reading at predict.py.
"""
