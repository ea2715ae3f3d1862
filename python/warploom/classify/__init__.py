"""From features to classes."""
