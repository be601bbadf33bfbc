"""The study of size, data and compute.

Start reading at analysis.py: which runs, which laws, which statements. least_compute.py: the same with C_min, the
compute that training far below the critical batch size would take. convergence.py: how far from convergence the best
size stops. universality.py: learning curves. figures.py: figures and tables.
"""
