"""What every experiment shares: all keys, what they mean, and the values that surprise nobody.

An experiment file calls `get_base()` and changes what makes it that experiment. Any key can be
overridden on the command line, `--config.optimizer.learning_rate=1e-4`; a key that does not exist
here is an error.
"""

import dataclasses

from ml_collections import ConfigDict

from data_pipelines.synthetic.settings import SyntheticSettings


def get_base() -> ConfigDict:
    """Return the full config at the report's final recipe (ResNet-50, three blocks, SWA)."""
    config = ConfigDict()
    config.seed = 0  # of the weights, the order of the data and every augmentation
    config.precision = "float32"  # or "bfloat16": of activations; parameters stay float32
    config.num_epochs = 120.0  # may be a fraction
    config.num_steps = 0  # when not 0, the length of the run instead of num_epochs
    config.batch_size = 64  # over all devices
    config.image_size = 224  # side of the network's input in pixels, a multiple of 32
    config.body_model = ""  # .npz or .pkl in SMPL's format; "": the free body

    config.model = ConfigDict()
    config.model.name = "pare"  # or "baseline": no branches, no attention
    config.model.backbone = "resnet50"  # resnet18, 34, 50, 101, 152, hrnet_w32, hrnet_w48
    config.model.backbone_width = 64  # channels of the stem; the rest follows in proportion
    config.model.num_blocks = 3  # blocks in each branch: 3 is final, 2 is shallow; behind a ResNet
    # each doubles the maps' side, behind an HRNet, whose maps are fine already, it does not
    config.model.branch_features = 256  # channels of both branches
    config.model.shape_features = 64  # channels pooled for shape and camera
    config.model.pose_hidden = ()  # widths of hidden layers in the heads; () is one linear layer
    config.model.shape_hidden = ()
    config.model.camera_hidden = ()
    config.model.align_corners = False  # how 2x upsampling samples; PARE's weights want True
    config.model.dtype = config.get_ref("precision")  # follows it

    config.pretrained = ConfigDict()  # what a run starts from; docs/weights.md has the sources
    config.pretrained.path = ""  # of a file of weights, .safetensors or .pth; "": random ones
    config.pretrained.format = "auto"  # told by the names in the file; to insist on one of these:
    # pare, hrnet, resnet, transformers
    config.pretrained.mean_parameters = ""  # smpl_mean_params.npz; "": this project's own
    config.pretrained.freeze_epochs = 0.0  # for so long the backbone of a file stays as it is

    config.data = ConfigDict()
    config.data.root = "data"  # where prepared datasets lie
    config.data.train = (("synthetic", 1.0),)  # (dataset, share of the batch)
    config.data.eval = ("synthetic/validation",)  # dataset/split, each evaluated
    config.data.workers = 0  # processes that draw synthetic people; 0: one per core
    config.data.memory = 1.0  # GiB for training crops that are kept decoded; 0: none
    config.data.synthetic = ConfigDict(dataclasses.asdict(SyntheticSettings()))
    config.data.synthetic.image_size = 336  # 1.5 times the network's input, for the crop's margin
    config.data.synthetic.mesh = "full"

    config.augment = ConfigDict()
    config.augment.scale = 0.25  # the crop's side is multiplied by up to 1 +- this
    config.augment.rotation = 30.0  # degrees, normal with this deviation, cut at twice it
    config.augment.flip = 0.5  # probability of mirroring
    config.augment.colour = 0.4  # strength of brightness, contrast, saturation and channel gains
    config.augment.noise = 0.02  # standard deviation, in units of the full range
    config.augment.occlusion = 0.0  # probability of pasting an occluder over the crop

    config.loss = ConfigDict()  # weights of the terms; PARE's and SPIN's
    config.loss.joints_3d = 300.0
    config.loss.joints_2d = 150.0
    config.loss.pose = 60.0
    config.loss.shape = 0.06
    config.loss.camera = 1.0
    config.loss.parts = 0.0

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 3e-4
    config.optimizer.schedule = "constant"  # or "cosine"
    config.optimizer.warmup = 0  # steps of linear increase
    config.optimizer.grad_clip = 1.0  # global norm; 0 switches clipping off
    config.max_bad_steps = 5  # stop after this many non-finite steps in a row

    config.swa = ConfigDict()
    config.swa.start_epoch = 90.0  # averaging starts here; negative: no averaging
    config.swa.every_steps = 100  # steps between two sets of parameters in the mean
    config.swa.statistics_batches = 100  # training batches to measure batch statistics on

    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 1000
    config.checkpoint.keep = 3  # the latest ones; the best is kept beside them

    config.eval = ConfigDict()
    config.eval.every_epochs = 1.0
    config.eval.batch_size = 64
    config.eval.protocol = (
        "smpl24"  # all 24 joints about the pelvis; or "j14": see docs/evaluation.md
    )
    config.eval.joint_regressor = ""  # J_regressor_h36m.npy, which j14 needs
    config.eval.bodies = ""  # folder with SMPL_MALE and SMPL_FEMALE for true meshes; "": body_model
    config.eval.export = False  # write predictions of sequences as the 3DPW challenge takes them
    config.eval.weights = "swa"  # "last", or the mean once there is one
    config.eval.pictures = 8  # held-out samples drawn in TensorBoard at each evaluation
    config.eval.attention_joints = ("left_wrist", "right_ankle", "head")  # drawn beside them

    config.log_every_steps = 50
    config.profile = (0, 0)  # first and last step of a trace for TensorBoard's profiler
    # A misspelt key in an experiment file is an error, too.
    return config.lock()


def use_photographs(config: ConfigDict) -> None:
    """Train on 3DPW and MPII, as the report does, and watch both of them.

    The report does not say how it mixes the two. 3DPW gets the larger share, for it alone tells
    depth, pose and shape; MPII the rest, for every one of its pictures is another scene.
    """
    config.data.train = (("pw3d", 0.6), ("mpii", 0.4))
    # The first one decides which checkpoint is the best; the test split is the one papers quote.
    config.data.eval = ("pw3d/validation", "pw3d/test", "mpii/validation")
