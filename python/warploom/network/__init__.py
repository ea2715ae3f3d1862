"""A network before any number is computed: tensors, layers' calls, names, parameters, and its form as JSON."""
