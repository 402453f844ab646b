"""The body of each command; flags are in `launch`."""
