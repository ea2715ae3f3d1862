"""The drawings of the documentation, one module per subject; docs/make_drawings.py writes them."""
