#!/bin/bash
# One training over the GPUs of several hosts of a SLURM cluster (docs/cluster.md):
#
#     sbatch launch/cluster/slurm.sh
#
# Folders are on a file system that all hosts see. Submitted again, it goes on from its last checkpoint.
#SBATCH --job-name=cascade_jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --open-mode=append

# A process for each GPU: as many tasks as GPUs on a host. No --gpus-per-task, since each process picks its own of all.
# Two minutes before the time is over SIGTERM has them save; one that fails ends the others.
srun --kill-on-bad-exit=1 \
    cascade-jax train --config=emidec --workdir=runs/emidec --config.data.root=emidec-dataset-1.0.1 --distributed
