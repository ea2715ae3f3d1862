"""Trains a model: the same as `warploom train`. See `python train.py --help`."""

import sys

try:
    from warploom.cli import main
except ImportError as error:
    print(f"train.py needs the installed package: run `pip install .` in this folder first ({error})", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
