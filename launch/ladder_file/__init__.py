"""`ladder new`: the runs that predict a target best for a budget, as a Python file. Start reading at write.py."""
