"""Every setting of a run, with its default. The other configs start from this one and say what they change."""

import dataclasses

from ml_collections import ConfigDict, config_dict

from cascade_jax.data.augment_settings import Augmentation, PriorCorruption
from cascade_jax.data.labels import EMIDEC


def stage() -> ConfigDict:
    """How one stage is trained; the paper trains both alike."""
    config = ConfigDict()
    config.steps = 250_000  # training steps of each fold; nnU-Net's schedule, 1000 epochs of 250 steps
    config.optimizer = "adam"  # "adam" (the paper's), "adamw" or "sgd" (nnU-Net's, with Nesterov momentum 0.99)
    config.learning_rate = 0.01  # at the start (the paper's)
    config.schedule = "polynomial"  # "polynomial" (the paper's, exponent 0.9), "cosine" or "constant"
    config.clip_norm = 12.0  # largest global norm of a gradient (nnU-Net's)
    config.steps_per_dispatch = 10  # steps between two looks of the host; one compiled program on an accelerator
    config.validate_every = 2_500  # steps between validations; a multiple of steps_per_dispatch
    config.checkpoint_every = 2_500  # steps between checkpoints; a multiple of steps_per_dispatch
    # In how many parts a batch is taken, one after another, for less memory; 1 takes it whole. The loss is that of the
    # whole batch, whatever the parts. More than 1 costs one more forward pass: a third more time, about.
    config.accumulate = 1  # divides the batch, or each device's share of it
    # Whether feature maps are computed again for the gradient, in the place of being kept: less memory, for one more
    # forward pass.
    config.rematerialise = False
    config.augmentation = ConfigDict(dataclasses.asdict(Augmentation()))  # see cascade_jax/data/augment_settings.py
    return config


def plan_overrides(*names: str) -> ConfigDict:
    return ConfigDict({name: config_dict.placeholder(tuple) for name in names})


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.kind = "cross-validation"  # "cross-validation", or "pretraining" (launch/configs/pretrain.py)
    config.seed = 0  # of the folds, the initialisations and every random draw
    config.num_folds = 5  # of the cross-validation (the paper's)
    config.folds = (0, 1, 2, 3, 4)  # which of them to run; stage two needs stage one of every fold
    # One more cascade, trained on every case, in WORKDIR/all: no vote, but a fifth of the time to predict. It wants the
    # stage one of every fold.
    config.all_cases = False
    config.stages = (1, 2)  # which stages to run
    config.compute_dtype = "auto"  # "auto" (float32 on a CPU, bfloat16 elsewhere), "float32" or "bfloat16"
    # How several devices share a batch: "jit" (whole samples on each, over a mesh) or "pmap" (the same); or "height", a
    # part of each sample's height on each, for samples too large for one device. All train alike.
    config.parallel = "jit"
    # How many folds are trained at once, each on an equal share of the devices; 0 is as many as have room beside each
    # other, each on the devices that its batch keeps busy.
    config.folds_at_once = 0
    # Whether other processes, given the same command and workdir, work on the folds too: each takes those that no other
    # has, and waits at the end of a stage. Each must see the same files, and its own devices.
    config.share_folds = False
    # "" starts from random weights. Weights in the box by name, or the working folder of another run: from its weights,
    # with its networks and its spacing in the place of the plan's, and what comes out is under its licence.
    # "phantom" has seen simulated hearts alone; "emidec", also called "pretrained", the EMIDEC cases (CC BY-NC-SA 4.0):
    # on those, start from "phantom". Fine-tuning needs a lower learning rate than training.
    config.init_from = ""
    # How much of those weights is blended into what comes out: the mean of start and end often finds
    # more. Where the end alone does better on the validation, that comes out; the log says which.
    config.init_share = 0.5  # from 0 (the end of the training alone) to 1
    # The share of training steps that learn from random phantoms (cascade_jax/phantoms/random_phantom.py) in the place
    # of cases: networks keep what they know of other scanners.
    config.phantom_share = 0.0  # from 0 to less than 1; for the challenge's labels and square pixels
    config.mirror = True  # average predictions over in-plane mirror images (nnU-Net's)
    config.figures = 4  # how many cases of each cohort are drawn, from the first to the last; 0: no pictures, no report
    config.figure_cases = ()  # or these cases, by name

    # The labels by value, the background first, and what is evaluated: a name, and the labels that form it together.
    # The first target is the one that every case has.
    config.labels = ConfigDict()
    config.labels.names = EMIDEC.names
    config.labels.targets = tuple(
        (target, tuple(EMIDEC.names[label] for label in members)) for target, members in EMIDEC.targets.items()
    )

    config.data = ConfigDict()
    config.data.root = ""  # folder of the labelled cohort in the challenge's layout; "" makes a phantom cohort
    # Whether data.root is a folder of predictions, of which those cases are learnt from that a reader has corrected
    # (`cascade-jax review`, or a file that another program saved in <case>/Corrected).
    config.data.corrected = False
    config.data.images = (
        ""  # folder of those cases' images; "" takes the ones that `predict --images` wrote beside them
    )
    config.data.held_out = ""  # folder of labelled cases for the five folds' vote (Table 3); "" leaves that out
    config.data.splits = ""  # nnU-Net's splits_final.json, to have its folds; "" deals the cases at random
    # Where the prepared cases go, which several runs on the same cases and plan may have in common: a folder, or a URL
    # as TensorStore takes it (gs://bucket/folder, s3://bucket/folder, file:///folder). "" is WORKDIR/prepared/cohort.
    config.data.prepared = ""
    config.data.processes = 1  # that read and prepare cases at once
    # GB (10^9 bytes) of a device that the prepared cases may take, six bytes a voxel. Larger cohorts are read while
    # training, in the same order: pip install 'cascade_jax[stream]'. 0: half of the device's memory.
    config.data.memory_gb = 0.0
    config.data.phantom = ConfigDict()
    config.data.phantom.cases = 25  # for the cross-validation
    config.data.phantom.held_out_cases = 10  # for the vote
    config.data.phantom.seed = 0  # of the cohort; the held-out cases have the next
    config.data.phantom.field_of_view_mm = 0.0  # about so many mm around the heart; 0 is a whole slice

    # The plan is derived from the cohort by nnU-Net's rules; a value here takes the place of the derived one.
    # mm along (depth, height, width), voxels of a training sample along the same, and (height, width) of the window
    # around stage one's heart that stage two sees, which without a value is the whole plane.
    config.plan = plan_overrides("spacing", "shape", "window")
    for name in ("slices", "volumes"):  # stage one and stage two
        config.plan[name] = plan_overrides("features", "kernel_sizes", "strides")
        config.plan[name].batch_size = config_dict.placeholder(int)

    config.stage1 = stage()
    config.stage2 = stage()
    config.stage2.augmentation.mirror_depth = True
    config.stage2.prior = ConfigDict(dataclasses.asdict(PriorCorruption()))  # faults put into stage one's result
    return config
