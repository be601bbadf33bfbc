"""Ladders as Python functions: demo, olmo2, kaplan. loader.py loads one by name; wsd.py makes trunks and branches."""
