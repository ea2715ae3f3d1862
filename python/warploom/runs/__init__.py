"""A training run in a folder: what was asked for, its files, its pictures, and how it goes on."""
