"""The final model with PARE's own trick: part maps supervised by rendered part labels."""

from ml_collections import ConfigDict

from configs.common import get_base, use_photographs


def get_config() -> ConfigDict:
    """Return the recipe: final's, and a cross-entropy on the part maps (PARE, section 3.2)."""
    config = get_base()
    use_photographs(config)
    config.loss.parts = 60.0
    return config
