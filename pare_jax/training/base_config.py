"""All keys of a config, their meaning and their defaults.

`configs/common.py` adds the settings of synthetic people. A run that was trained before a key
existed takes its default: give a new key the value that acts as the code did before it.
"""

from ml_collections import ConfigDict

from pare_jax.training import losses


def base_config() -> ConfigDict:
    """Return all keys, at the report's final recipe (ResNet-50, three blocks, SWA)."""
    config = ConfigDict()
    config.seed = 0  # of weights, order of the data and augmentation
    config.precision = "float32"  # of activations, or "bfloat16"; parameters stay float32
    config.num_epochs = 120.0  # may be a fraction
    config.num_steps = 0  # if not 0, the length of the run instead of num_epochs
    config.batch_size = 64  # over all devices
    config.accumulate_steps = 1  # parts that a batch is computed in, if it does not fit at once
    config.image_size = 224  # side of the network's input in pixels, a multiple of 32
    config.crop_scale = 1.2  # in prediction, the crop's side over the longer side of a box
    config.body_model = ""  # .npz or .pkl in SMPL's format; "": the free body

    config.model = ConfigDict()
    config.model.name = "pare"  # or "baseline": no branches, no attention
    # or "keypoints": layers over body points, no backbone; only input and points_* matter then
    config.model.input = "image"  # or "keypoints", which "pare" and "baseline" see as heat maps
    config.model.map_side = 16  # cells along these maps' side
    config.model.points_width = 384  # channels of each layer of "keypoints"
    config.model.points_blocks = (2, 1, 1)  # residual blocks of each of its stages
    config.model.backbone = "resnet50"  # resnet18, 34, 50, 101, 152, hrnet_w32, hrnet_w48
    config.model.backbone_width = 64  # channels of the stem; the rest follows in proportion
    config.model.num_blocks = 3  # blocks in each branch: 3 is final, 2 is shallow
    # After a ResNet each block doubles the maps' side; after an HRNet it does not.
    config.model.branch_features = 256  # channels of both branches
    config.model.shape_features = 64  # channels pooled for shape and camera
    config.model.pose_hidden = ()  # widths of hidden layers in the heads; (): one linear layer
    config.model.shape_hidden = ()
    config.model.camera_hidden = ()
    config.model.align_corners = False  # of the 2x upsampling; PARE's weights need True
    config.model.dtype = config.get_ref("precision")  # follows precision

    config.pretrained = ConfigDict()  # first weights; sources: docs/weights.md
    config.pretrained.path = ""  # .safetensors, .pth, or a run's workdir; "": random weights
    config.pretrained.format = "auto"  # "auto" looks at the names in the file
    # or one of pare, hrnet, resnet, transformers
    config.pretrained.mean_parameters = ""  # smpl_mean_params.npz; "": this project's own
    config.pretrained.freeze_epochs = 0.0  # the backbone stays as it is for this time

    config.data = ConfigDict()
    config.data.root = "data"  # folder of prepared datasets
    # (dataset, share of the batch); a tuple of datasets shares its weight by size
    config.data.train = (("synthetic", 1.0),)
    config.data.eval = ("synthetic/validation",)  # dataset/split, each evaluated
    config.data.missing = "refuse"  # or "share": go on without, the others take the shares
    config.data.workers = 0  # processes that draw synthetic people; 0: one a core
    config.data.memory = 1.0  # GiB for decoded training crops; 0: none
    # For configs/finetune.py: the user's own photographs and clips (docs/finetuning.md).
    config.data.photos = ""  # their folder
    config.data.labels = ""  # file of keypoints, or SPIN's .npz; "": BlazePose finds people
    config.data.keypoint_set = ""  # of that file's points, if it does not give it
    config.data.photos_share = 1.0  # of the batch; the rest is drawn from the first run's data
    config.data.synthetic = ConfigDict()  # added by configs/common.py
    # Fits of training sets (data_pipelines/fit_labels.py) as poses of examples without a pose.
    config.data.fits = ConfigDict()
    config.data.fits.use = False
    config.data.fits.error = 0.04  # largest error that passes, in shares of the person's extent
    config.data.fits.agreement = 100.0  # largest distance of the starts' joints, mm
    config.data.fits.plausibility = 0.01  # smallest share of the prior's bodies less likely
    config.data.fits.weight = 1.0  # of these labels
    # Of ("bodies", 1.0): drawn bodies for networks on keypoints, never a picture.
    config.data.bodies = ConfigDict()  # added by configs/common.py

    config.augment = ConfigDict()  # of crops; bodies have theirs in data.bodies
    config.augment.scale = 0.25  # the crop's side changes by up to this share
    config.augment.rotation = 30.0  # degrees; standard deviation, clipped at twice it
    config.augment.flip = 0.5  # probability of mirroring
    config.augment.colour = 0.4  # strength of brightness, contrast, saturation and channel gains
    config.augment.noise = 0.02  # standard deviation, in units of the full range
    config.augment.occlusion = 0.0  # probability of occluders over the crop

    # Weights of the terms, by the names and defaults of `TERMS` in pare_jax/training/losses.py. The
    # weights of PARE and SPIN are in configs/pare.py.
    config.loss = ConfigDict({name: term.weight for name, term in losses.TERMS.items()})

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 3e-4
    config.optimizer.schedule = "constant"  # or "cosine"
    config.optimizer.warmup = 0  # steps of linear increase
    config.optimizer.grad_clip = 1.0  # global norm; 0: no clipping
    config.max_bad_steps = 5  # consecutive non-finite steps that stop the run

    config.swa = ConfigDict()
    config.swa.start_epoch = 90.0  # averaging starts here; negative: no averaging
    config.swa.every_steps = 100  # steps between two sets of parameters in the mean
    config.swa.statistics_batches = 100  # training batches that measure batch statistics

    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 1000
    config.checkpoint.keep = 3  # latest checkpoints; the best one is kept too

    config.eval = ConfigDict()
    config.eval.every_epochs = 1.0
    config.eval.batch_size = 64
    config.eval.protocol = "smpl24"  # all 24 joints; or "j14": docs/evaluation.md
    config.eval.joint_regressor = ""  # J_regressor_h36m.npy, for j14
    config.eval.bodies = ""  # folder with SMPL_MALE and SMPL_FEMALE for true meshes; "": body_model
    config.eval.export = False  # write predictions in the 3DPW challenge's format
    config.eval.weights = "swa"  # or "last"; before averaging starts the last weights are used
    config.eval.pictures = 8  # held-out samples drawn in TensorBoard
    config.eval.attention_joints = ("left_wrist", "right_ankle", "head")  # drawn beside them

    config.log_every_steps = 50
    config.profile = (0, 0)  # first and last step of a trace for TensorBoard's profiler
    return config
