"""Every option of PARE's config: followed, refused by name, or noted as unknowable."""

import json

import numpy as np
import pytest

from pare_jax.errors import UserError
from pare_jax.pretrained import load, pare_options
from pare_jax.pretrained.pare_options import check, notes_of, options_of

# The options of section PARE and their types, and those of DATASET that concern the network.
PARE_TYPES = {
    **dict.fromkeys(
        ("BACKBONE", "KEYPOINT_ATTENTION_ACT", "COATTENTION_CONV", "SHAPE_INPUT_TYPE",
         "POSE_INPUT_TYPE"),
        str,
    ),
    **dict.fromkeys(
        ("NUM_JOINTS", "NUM_FEATURES_SMPL", "NUM_COATTENTION_ITER", "DECONV_CONV_KERNEL_SIZE",
         "NUM_BRANCH_ITERATION", "NUM_DECONV_LAYERS", "NUM_DECONV_FILTERS", "NUM_ITERATIONS",
         "POSE_MLP_NUM_LAYERS", "SHAPE_MLP_NUM_LAYERS", "POSE_MLP_HIDDEN_SIZE",
         "SHAPE_MLP_HIDDEN_SIZE", "SHAPE_LOSS_WEIGHT"),
        int,
    ),
    **dict.fromkeys(
        ("SOFTMAX_TEMP", "KEYPOINT_LOSS_WEIGHT", "KEYPOINT_NATIVE_LOSS_WEIGHT",
         "HEATMAPS_LOSS_WEIGHT", "SMPL_PART_LOSS_WEIGHT", "PART_SEGM_LOSS_WEIGHT",
         "POSE_LOSS_WEIGHT", "BETA_LOSS_WEIGHT", "OPENPOSE_TRAIN_WEIGHT", "GT_TRAIN_WEIGHT",
         "LOSS_WEIGHT"),
        float,
    ),
    **dict.fromkeys(
        ("USE_ATTENTION", "USE_SELF_ATTENTION", "USE_KEYPOINT_ATTENTION",
         "USE_KEYPOINT_FEATURES_FOR_SMPL_REGRESSION", "USE_POSTCONV_KEYPOINT_ATTENTION",
         "USE_SCALE_KEYPOINT_ATTENTION", "USE_HMR_REGRESSION", "USE_COATTENTION", "USE_UPSAMPLING",
         "USE_SOFT_ATTENTION", "BRANCH_DEEPER", "USE_RESNET_CONV_HRNET", "USE_POS_ENC",
         "ITERATIVE_REGRESSION", "ITER_RESIDUAL", "USE_SHAPE_REG", "USE_MEAN_CAMSHAPE",
         "USE_MEAN_POSE", "INIT_XAVIER"),
        bool,
    ),
    **dict.fromkeys(("USE_FINAL_NONLOCAL", "USE_BRANCH_NONLOCAL"), type(None)),
}  # fmt: skip
DATASET_TYPES = {"IMG_RES": int, "FOCAL_LENGTH": float, "USE_HEATMAPS": str}
PUBLISHED = {
    "METHOD": "pare",
    "DATASET": {"IMG_RES": 224, "FOCAL_LENGTH": 5000.0, "USE_HEATMAPS": "part_segm"},
    "PARE": {
        "NUM_JOINTS": 24,
        "USE_SOFT_ATTENTION": False,
        "USE_FINAL_NONLOCAL": None,
        "USE_UPSAMPLING": True,
        "DECONV_CONV_KERNEL_SIZE": 3,
        "KEYPOINT_ATTENTION_ACT": "softmax",
        "USE_SCALE_KEYPOINT_ATTENTION": False,
        "USE_KEYPOINT_FEATURES_FOR_SMPL_REGRESSION": False,
        "ITERATIVE_REGRESSION": False,
        "POSE_MLP_HIDDEN_SIZE": 256,
    },
}


def shapes(backbone="resnet", **others):
    """Return tensors of a small PARE by name; `others` replaces shapes, () removes a tensor."""
    convolution = "1" if backbone == "resnet" else "0"
    found = {
        "backbone.conv1.weight": (8, 3, 7, 7),
        f"head.keypoint_deconv_layers.{convolution}.weight": (8, 16, 3, 3),
        "head.keypoint_final_layer.weight": (25, 8, 1, 1),
        "head.smpl_final_layer.weight": (4, 8, 1, 1),
        "head.pose_mlp.weight": (1, 6, 8, 24, 1, 1),
        "head.shape_mlp.weight": (10, 96),
    }
    if backbone == "hrnet":
        found["backbone.transition1.0.0.weight"] = (8, 8, 3, 3)
        found["backbone.upsample_stage_2.1.weight"] = (8, 8, 3, 3)
    found |= {name.replace("__", "."): shape for name, shape in others.items()}
    return {name: np.zeros(shape, np.float32) for name, shape in found.items() if shape}


def with_option(name, value, section="PARE"):
    return PUBLISHED | {section: {**PUBLISHED[section], name: value}}


def test_every_option_of_pares_config_is_known():
    switches = [switch.name for switch in pare_options.SWITCHES]
    groups = [switches, pare_options.FOLLOWED, pare_options.FROM_SHAPES]
    known = [name for group in (*groups, pare_options.WITHOUT_EFFECT) for name in group]
    assert len(known) == len(set(known))
    assert set(known) == {*PARE_TYPES, "METHOD", "USE_HEATMAPS", "IMG_RES"}


@pytest.mark.parametrize("backbone", ["resnet", "hrnet"])
def test_the_published_options_pass_without_a_note(backbone):
    check(shapes(backbone), {"hyper_parameters": PUBLISHED}, "a.ckpt")
    assert notes_of({"hyper_parameters": PUBLISHED}) == []
    # As .safetensors keeps them.
    stored = {"hyper_parameters": json.dumps(PUBLISHED)}
    assert options_of(stored) == options_of(PUBLISHED)


@pytest.mark.parametrize(
    ("name", "value", "backbone"),
    [
        ("NUM_JOINTS", 14, "resnet"),
        ("USE_SOFT_ATTENTION", True, "resnet"),
        ("USE_HMR_REGRESSION", True, "resnet"),
        ("USE_COATTENTION", True, "hrnet"),
        ("USE_POSTCONV_KEYPOINT_ATTENTION", True, "hrnet"),
        ("USE_BRANCH_NONLOCAL", "dot_product", "hrnet"),
        ("USE_FINAL_NONLOCAL", "gaussian", "hrnet"),
        ("NUM_BRANCH_ITERATION", 2, "hrnet"),
        ("USE_POS_ENC", True, "hrnet"),
        ("USE_RESNET_CONV_HRNET", True, "hrnet"),
        ("POSE_MLP_NUM_LAYERS", 2, "resnet"),
        ("SHAPE_MLP_NUM_LAYERS", 3, "resnet"),
        ("USE_UPSAMPLING", False, "resnet"),
        ("DECONV_CONV_KERNEL_SIZE", 4, "resnet"),
        ("KEYPOINT_ATTENTION_ACT", "sigmoid", "hrnet"),
        ("USE_SCALE_KEYPOINT_ATTENTION", True, "hrnet"),
        ("USE_KEYPOINT_FEATURES_FOR_SMPL_REGRESSION", True, "hrnet"),
        ("ITERATIVE_REGRESSION", True, "hrnet"),
        ("BACKBONE", "hrnet_w32-interp", "hrnet"),
        # Not a plain value: it cannot be the published one.
        ("ITERATIVE_REGRESSION", [False], "hrnet"),
    ],
)
def test_an_option_that_changes_the_network_is_refused_by_name(name, value, backbone):
    with pytest.raises(UserError, match=rf"a\.ckpt .*{name}="):
        check(shapes(backbone), {"hyper_parameters": with_option(name, value)}, "a.ckpt")


@pytest.mark.parametrize("value", ["", "hm", "hm_soft", "attention"])
def test_other_heat_maps_are_refused(value):
    options = with_option("USE_HEATMAPS", value, "DATASET")
    with pytest.raises(UserError, match=f"USE_HEATMAPS={value or repr('')}"):
        check(shapes(), options, "a.ckpt")


@pytest.mark.parametrize("attention", [True, False, None])
def test_pooled_heat_maps_need_keypoint_attention(attention):
    """Without it PARE reads the features at one point of each map."""
    options = with_option("USE_HEATMAPS", "part_segm_pool", "DATASET")
    if attention is not None:
        options["PARE"] = {**options["PARE"], "USE_KEYPOINT_ATTENTION": attention}
    if attention:
        check(shapes(), options, "a.ckpt")
        return
    with pytest.raises(UserError, match=r"part_segm_pool without USE_KEYPOINT_ATTENTION"):
        check(shapes(), options, "a.ckpt")


@pytest.mark.parametrize(
    ("name", "value", "backbone"),
    [
        # PARE switches keypoint attention on for part maps.
        ("USE_KEYPOINT_ATTENTION", False, "hrnet"),
        ("USE_UPSAMPLING", False, "hrnet"),
        ("DECONV_CONV_KERNEL_SIZE", 4, "hrnet"),
        ("USE_RESNET_CONV_HRNET", True, "resnet"),
        ("SOFTMAX_TEMP", 2.0, "resnet"),
        ("USE_BRANCH_NONLOCAL", False, "resnet"),
        ("USE_MEAN_POSE", True, "resnet"),
        ("LOSS_WEIGHT", 1.0, "resnet"),
    ],
)
def test_an_option_without_effect_passes(name, value, backbone):
    metadata = {"hyper_parameters": with_option(name, value)}
    check(shapes(backbone), metadata, "a.ckpt")
    assert notes_of(metadata) == []


@pytest.mark.parametrize(
    ("tensors", "name"),
    [
        (shapes(head__fc1__weight=(4, 4)), "USE_HMR_REGRESSION"),
        (shapes(head__coattention__linear_e__weight=(4, 4)), "USE_COATTENTION"),
        (
            shapes(head__keypoint_attention__conv1x1_pose__weight=(4, 4, 1)),
            "USE_POSTCONV_KEYPOINT_ATTENTION",
        ),
        (shapes(head__branch_2d_nonlocal__g__weight=(4, 4)), "USE_BRANCH_NONLOCAL"),
        (shapes(head__final_pose_nonlocal__g__weight=(4, 4)), "USE_FINAL_NONLOCAL"),
        (shapes(head__branch_iter_2d_nonlocal__g__weight=(4, 4)), "NUM_BRANCH_ITERATION"),
        (shapes("hrnet", head__pos_enc=(1, 2, 56, 56)), "USE_POS_ENC"),
        (
            shapes("hrnet", head__keypoint_deconv_layers__0__0__weight=(8, 16, 3, 3)),
            "USE_RESNET_CONV_HRNET",
        ),
        (shapes(head__pose_mlp__0__weight=(1, 6, 8, 24, 1, 1)), "POSE_MLP_NUM_LAYERS"),
        (shapes(head__cam_mlp__0__weight=(4, 4)), "SHAPE_MLP_NUM_LAYERS"),
        (shapes(head__keypoint_deconv_layers__0__weight=(16, 8, 4, 4)), "USE_UPSAMPLING"),
        (
            shapes(head__keypoint_deconv_layers__1__weight=(8, 16, 4, 4)),
            "DECONV_CONV_KERNEL_SIZE",
        ),
        (shapes(head__keypoint_final_layer__weight=(24, 8, 1, 1)), "USE_HEATMAPS"),
        (shapes(head__pose_mlp__weight=(1, 6, 200, 24, 1, 1)), "ITERATIVE_REGRESSION"),
        (shapes(head__shape_mlp__weight=(10, 253)), "ITERATIVE_REGRESSION"),
        (shapes("hrnet", backbone__upsample_stage_2__1__weight=()), "BACKBONE"),
        (
            shapes(
                head__keypoint_final_layer__weight=(),
                head__keypoint_final_layer__0__weight=(256, 8, 3, 3),
                head__fc1__weight=(4, 4),
            ),
            "USE_SOFT_ATTENTION",
        ),
    ],
)  # fmt: skip
def test_tensors_show_an_option_that_the_file_does_not_say(tensors, name):
    with pytest.raises(UserError, match=rf"a\.pth .*{name}"):
        check(tensors, {}, "a.pth")
    # It is recognised as a PARE, not as the backbone in it.
    assert load.detect(tensors, "a.pth") == ("pare", "")


def test_options_that_nothing_shows_are_named():
    (note,) = notes_of({})
    for name in (
        *("USE_HEATMAPS", "KEYPOINT_ATTENTION_ACT", "USE_SCALE_KEYPOINT_ATTENTION", "IMG_RES"),
        *("USE_KEYPOINT_FEATURES_FOR_SMPL_REGRESSION", "ITERATIVE_REGRESSION"),
    ):
        assert name in note
    check(shapes(), {}, "a.pth")


@pytest.mark.parametrize("size", [250, 0, -224, "224", 1e9, None])
def test_a_size_of_crops_that_the_network_cannot_take_is_refused(size):
    with pytest.raises(UserError, match="IMG_RES="):
        check(shapes(), with_option("IMG_RES", size, "DATASET"), "a.ckpt")


@pytest.mark.parametrize(
    ("name", "value", "noted"),
    [
        ("IMG_RES", 256, True),
        ("FOCAL_LENGTH", 1000.0, True),
        ("FOCAL_LENGTH", 5000, False),
        # A field of a fork of PARE's code.
        ("USE_FANCY_HEAD", True, True),
        ("USE_FANCY_HEAD", False, False),
    ],
)
def test_another_camera_and_unknown_options_are_noted(name, value, noted):
    section = "DATASET" if name in DATASET_TYPES else "PARE"
    notes = notes_of({"hyper_parameters": with_option(name, value, section)})
    assert [name in note for note in notes] == [True] * noted


def test_deeply_nested_hyperparameters_are_not_followed_for_ever():
    """Sixty levels that each hold the next one twice would be 2^60 entries."""
    nested = {"USE_MEAN_POSE": True}
    for _ in range(60):
        nested = {"a": nested, "b": nested}
    assert options_of(nested) == {}
    assert options_of({"hyper_parameters": "[" * 100_000}) == {}
