"""Networks on images of other sizes than their own: padded to what the network divides, in tiles where memory is short."""
