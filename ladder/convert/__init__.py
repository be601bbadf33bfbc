"""Reads models of other projects. gguf.py reads llama.cpp's files."""
