"""What everything else stands on: checks of arguments, devices, parameters, files written whole, tables."""
