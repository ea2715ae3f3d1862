"""What explains a network: summary, trace, gradient flow, bypass, and its picture. Each takes a Network, not a Model."""
