"""The mathematics of the model, which knows no mesh. Start reading at transformer.py."""
