"""Continue from a trained network: on your own photographs and clips, or on 3DPW and MPII.

Your own (docs/finetuning.md); RUN is a run's folder or a file of weights:

    python -m pare_jax.main --config=configs/finetune.py --workdir=runs/mine \
        --config.pretrained.path=RUN --config.data.photos=my_photos/

3DPW and MPII: give weights by --config.pretrained.path=FILE (docs/weights.md). For an accelerator:
activations are bfloat16.
"""

from ml_collections import ConfigDict

from configs.common import get_base, use_photographs


def get_config() -> ConfigDict:
    """Return the recipe: final's network at a tenth of its learning rate, with occluders."""
    config = get_base()
    use_photographs(config)
    config.precision = "bfloat16"
    config.num_epochs = 10.0
    # New heads send large gradients into the backbone until they fit its features.
    config.pretrained.freeze_epochs = 1.0
    config.optimizer.learning_rate = 3e-5
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 500
    config.augment.occlusion = 0.3
    config.swa.start_epoch = 8.0
    return config


def on_own_photographs(config: ConfigDict) -> None:
    """Change the recipe for `config.data.photos`, where an epoch has 40 steps or more.

    Network, crops, body and a tenth of the learning rate are the first run's.
    """
    config.batch_size = 32
    config.optimizer.warmup = 20
    config.data.fits.use = True
    # Each evaluation is a candidate; a mean of weights would be another one.
    config.swa.start_epoch = -1.0
    config.eval.weights = "last"
    config.eval.pictures = 4
    config.log_every_steps = 20
    # Annotated points of the skin, where the fits of the bodies have their joints.
    config.loss.keypoints_2d = 60.0
