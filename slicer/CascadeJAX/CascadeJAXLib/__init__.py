"""What the panel does that needs no 3D Slicer."""
