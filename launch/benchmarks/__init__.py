"""What `python -m launch.benchmark` runs: contestants in processes of their own, in turns."""
