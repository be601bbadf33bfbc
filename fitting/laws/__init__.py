"""Every law: formula, parameters, where a fit starts, and the source. Start reading at base.py."""
