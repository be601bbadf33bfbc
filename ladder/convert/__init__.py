"""Published models in, ours out. gguf.py reads llama.cpp's files; hf.py names our tensors as Hugging Face does."""
