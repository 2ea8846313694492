"""The final model with part maps supervised by rendered part labels, as in PARE."""

from ml_collections import ConfigDict

from configs.common import get_base, use_photographs


def get_config() -> ConfigDict:
    """Return the recipe: final's, and a cross-entropy on the part maps (PARE, section 3.2)."""
    config = get_base()
    use_photographs(config)
    config.loss.parts = 60.0
    return config
