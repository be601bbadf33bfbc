"""The ladders of `ladder study NAME`: each at CPU size, at most 15 minutes on two cores, and at TPU size.

Start reading at branches.py; makers.py makes their rungs.
"""
