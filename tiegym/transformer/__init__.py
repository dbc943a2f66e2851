"""What is trained: the transformer, tying its layers, figures of them, and its files."""
