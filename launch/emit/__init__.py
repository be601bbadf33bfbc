"""A ladder as config files of another trainer: MaxText, OLMo-core or Levanter. Start reading at files.py.

rungs.py: what all of them need of a rung; maxtext.py, olmo_core.py and levanter.py: one trainer each; yaml_text.py: a
tree of values as YAML with comments; train_olmo_core.py: a script that is copied beside the configs of OLMo-core.
"""
