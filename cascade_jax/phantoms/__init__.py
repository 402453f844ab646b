"""Simulated hearts with labels: as files with real signals (`simulated`), and drawn at random on the device."""
