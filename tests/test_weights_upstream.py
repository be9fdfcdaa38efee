"""Import of encoders under other projects' names.

Each layout is written down here a second time, from our names to theirs, by hand; the import has to
find the way back. Tensors are constants, one number a name, so that any exchange is noticed.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from avsal import weights
from avsal.errors import UsageError, WeightsError
from avsal.weights.convert import COMPONENTS, encoder_of, fit, translate
from avsal.weights.loading import expected_shapes
from avsal.weights.upstream import LAYOUTS, read_blobs

COUNTER = "num_batches_tracked"
INDEX = "relative_position_index"


def encoder_state(variant: str, component: str) -> dict[str, torch.Tensor]:
    """Our encoder's names without the network's prefix; every tensor full of its own number."""
    prefix = COMPONENTS[component]
    shapes = {n: s for n, s in expected_shapes(variant).items() if n.startswith(prefix)}
    return {
        name.removeprefix(prefix): torch.tensor(float(number)).expand(shape)
        for number, (name, shape) in enumerate(shapes.items(), start=1)
    }


# --- the layouts, from our names to theirs --------------------------------------------------


def same(name: str) -> str:
    return name


def backbone(name: str) -> str:
    return f"backbone.{name}"


def audnet(name: str) -> str:
    return f"audnet.{name}"


def kylemin(name: str) -> str:
    """base1..base4 in one sequence, where poolings have numbers too."""
    base, place, rest = name.split(".", 2)
    first = {"base1": 0, "base2": 5, "base3": 8, "base4": 14}[base]
    return f"module.base.{first + int(place)}.{rest}"


def timm_convnext(name: str) -> str:
    return name.replace("stem_", "stem.").replace("stages_", "stages.")


def torchvision_convnext(name: str) -> str:
    head, _, rest = name.partition(".")
    kind, number = head.split("_")
    if kind == "stem":
        return f"features.0.{number}.{rest}"
    if rest.startswith("downsample."):
        return f"features.{2 * int(number)}.{rest.removeprefix('downsample.')}"
    _, block, layer = rest.split(".", 2)
    theirs = layer.replace("conv_dw", "block.0").replace("norm", "block.2")
    theirs = theirs.replace("mlp.fc1", "block.3").replace("mlp.fc2", "block.5")
    theirs = theirs.replace("gamma", "layer_scale")
    return f"features.{2 * int(number) + 1}.{block}.{theirs}"


def facebook_convnext(name: str) -> str:
    head, _, rest = name.partition(".")
    kind, number = head.split("_")
    if kind == "stem":
        return f"downsample_layers.0.{number}.{rest}"
    if rest.startswith("downsample."):
        return f"downsample_layers.{number}.{rest.removeprefix('downsample.')}"
    layer = rest.removeprefix("blocks.").replace("conv_dw", "dwconv")
    return f"stages.{number}.{layer.replace('mlp.fc', 'pwconv')}"


def torchvision_mobilenet(name: str) -> str:
    if name.startswith("conv_stem."):
        return name.replace("conv_stem", "features.0.0")
    if name.startswith("bn1."):
        return name.replace("bn1", "features.0.1")
    _, stage, block, layer, rest = name.split(".")
    index = 1 + sum((1, 2, 3, 4, 3, 3, 1)[: int(stage)]) + int(block)
    if stage == "0":
        theirs = {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"}[layer]
    else:
        order = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
        theirs = ("0.0", "0.1", "1.0", "1.1", "2", "3")[order.index(layer)]
    return f"features.{index}.conv.{theirs}.{rest}"


def unisal(name: str) -> str:
    """Blocks as torchvision counts them; what is in a block is one sequence with activations."""
    theirs = torchvision_mobilenet(name)
    if ".conv." in theirs:
        block, _, layer = theirs.partition(".conv.")
        if block == "features.1":
            places = {"0.0": 0, "0.1": 1, "1": 3, "2": 4}
        else:
            places = {"0.0": 0, "0.1": 1, "1.0": 3, "1.1": 4, "2": 6, "3": 7}
        place, role = layer.rsplit(".", 1)
        theirs = f"{block}.conv.{places[place]}.{role}"
    return f"cnn.{theirs}"


def caffe2(name: str) -> str:
    """SlowFast's first code base; depth of a stage's last block: 2, 3, 5."""
    parts = name.split(".")
    if parts[0].endswith("_fuse"):
        stage = int(parts[0][1])
        stem = f"t_res{stage}_{(2, 3, 5)[stage - 2]}_branch2c_bn_subsample"
        stem = "t_pool1_subsample" if stage == 1 else stem
        norm = parts[1] == "bn"
    elif parts[0] == "s1":
        norm = parts[2] == "bn"
        stem = ("t_" if "pathway1" in parts[1] else "") + ("res_conv1" if norm else "conv1")
    else:
        pathway, block = re.fullmatch(r"pathway(\d)_res(\d+)", parts[1]).groups()
        layer = "".join(parts[2:-1])
        norm = layer.endswith("_bn")
        stem = ("t_" if pathway == "1" else "") + f"res{parts[0][1]}_{block}_"
        stem += layer.removesuffix("_bn")
    role = {"weight": "s" if norm else "w", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    return f"{stem}{'_bn' if norm else ''}_{role[parts[-1]]}"


CASES = {
    # variant, component, layout, our name to theirs, what else the file has, wrapper
    "mvitv2": ("mvitv2s-224x224", "motion", 0, same, ["head.projection.weight"], "model_state"),
    "x3d": ("x3dl-224x224", "motion", 0, same, ["head.lin_5.weight"], "model_state"),
    "slowfast": (
        "slowfast4x16-224x224",
        "motion",
        0,
        same,
        ["head.projection.bias"],
        "model_state",
    ),
    "uniformer": ("uniformerb-224x224", "motion", 0, same, [], "model"),
    "videoswin": (
        "videoswins-224x224",
        "motion",
        0,
        backbone,
        ["cls_head.fc_cls.weight"],
        "state_dict",
    ),
    "morphmlp": (
        "morphmlps-224x224",
        "motion",
        0,
        same,
        ["norm.weight", "head.weight"],
        "model_state",
    ),
    "s3d": ("s3d-224x224", "motion", 0, kylemin, ["module.fc.0.weight"], None),
    "convnext-timm": ("s3d-224x224", "image", 0, timm_convnext, ["head.fc.weight"], None),
    "convnext-timm-features": ("s3d-224x224", "image", 0, same, [], None),
    "convnext-torchvision": (
        "s3d-224x224",
        "image",
        1,
        torchvision_convnext,
        ["classifier.2.weight"],
        None,
    ),
    "convnext-facebook": (
        "s3d-224x224",
        "image",
        2,
        facebook_convnext,
        ["norm.weight", "head.bias"],
        "model",
    ),
    "mobilenet-timm": ("tiny", "image", 0, same, ["conv_head.weight", "bn2.bias"], None),
    "mobilenet-torchvision": (
        "tiny",
        "image",
        1,
        torchvision_mobilenet,
        ["features.18.0.weight", "classifier.1.bias"],
        None,
    ),
    "mobilenet-unisal": (
        "tiny",
        "image",
        2,
        unisal,
        ["cnn.features.18.0.weight", "post_cnn.inv_res.conv.0.weight", "smoothing_dhf1k.weight"],
        None,
    ),
    "vggsound": (
        "s3d-224x224",
        "audio",
        0,
        audnet,
        ["audnet.fc.weight"],
        "model_state_dict",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_layout(case, tiny, tmp_path):
    variant, component, layout, rename, surplus, wrapper = CASES[case]
    ours = encoder_state(variant, component)
    theirs = {rename(name): tensor for name, tensor in ours.items()}
    theirs |= {name: torch.zeros(1) for name in surplus}
    path = tmp_path / "upstream.pth"
    torch.save({wrapper: theirs, "epoch": 3} if wrapper else theirs, path)
    used, state = translate(weights.read_state(path)[0], component, variant)
    prefix = COMPONENTS[component]
    assert used is LAYOUTS[encoder_of(component, variant)][layout]
    assert state.keys() == {prefix + name for name in ours}
    for name, tensor in ours.items():
        if not name.endswith(INDEX):
            assert state[prefix + name].shape == tensor.shape, name
            assert state[prefix + name].flatten()[0] == tensor.flatten()[0], name


def test_every_encoder_has_a_layout():
    from avsal.models.encoders import IMAGE, MOTION

    # One is the tests' own, of the other nobody has published weights.
    assert set(LAYOUTS) == {*MOTION, *IMAGE, "resnet18"} - {"tiny"}


def test_caffe2_names():
    ours = encoder_state("slowfast4x16-224x224", "motion")
    ours = {name: tensor for name, tensor in ours.items() if not name.endswith(COUNTER)}
    theirs = {caffe2(name): tensor for name, tensor in ours.items()}
    assert len(theirs) == len(ours)
    # names seen in the project's own log of such a conversion
    assert {"t_res4_5_branch2c_bn_subsample_bn_rm", "res5_2_branch2a_w"} <= theirs.keys()
    assert "t_res5_0_branch1_bn_s" in theirs
    surplus = {name: torch.zeros(1) for name in ("pred_w", "conv1_w_momentum", "lr", "model_iter")}
    layout, state = translate({**theirs, **surplus}, "motion", "slowfast4x16-224x224")
    assert "Caffe2" in layout.project
    for name, tensor in ours.items():
        assert state[f"visnet.{name}"].flatten()[0] == tensor.flatten()[0], name


def test_names_of_other_projects_are_theirs():
    """The inverse above against names that the projects are known to have."""
    assert kylemin("base1.3.conv_t.weight") == "module.base.3.conv_t.weight"
    assert kylemin("base4.1.branch3.1.conv.weight") == "module.base.15.branch3.1.conv.weight"
    assert torchvision_convnext("stages_3.blocks.2.mlp.fc2.bias") == "features.7.2.block.5.bias"
    assert torchvision_mobilenet("blocks.6.0.bn3.weight") == "features.17.conv.3.weight"
    assert unisal("blocks.0.0.conv_pw.weight") == "cnn.features.1.conv.3.weight"
    assert unisal("blocks.6.0.bn3.weight") == "cnn.features.17.conv.7.weight"


# --- files ----------------------------------------------------------------------------------


def test_round_trip_through_files(avsal_command, tiny, tmp_path):
    from avsal import models

    torch.manual_seed(3)
    trained = models.build(tiny)
    prefix = "image_encoder.encoder."
    ours = {n: t for n, t in trained.state_dict().items() if n.startswith(prefix)}
    source, output = tmp_path / "mobilenet.pth", tmp_path / "image.safetensors"
    torch.save({torchvision_mobilenet(n.removeprefix(prefix)): t for n, t in ours.items()}, source)
    code, out, err = avsal_command(
        *("weights", "import", "--component", "image", source, "--variant", tiny, "-o", output)
    )
    assert (code, err) == (0, "")
    assert "image encoder of tiny" in out
    state, metadata = weights.read_state(output)
    assert metadata["component"] == "image"
    assert metadata["encoder"] == "mobilenet_v2"
    assert metadata["layout"] == "torchvision"
    assert metadata["source_sha256"] == weights.sha256_of(source)
    torch.manual_seed(4)
    fresh = models.build(tiny)
    missing, unexpected = fresh.load_state_dict(state, strict=False)
    assert not unexpected
    assert not any(name.startswith(prefix) for name in missing)
    for name, tensor in ours.items():
        assert torch.equal(fresh.state_dict()[name], tensor), name


def test_files_without_counters(tiny):
    ours = encoder_state(tiny, "audio")
    old = {audnet(name): t for name, t in ours.items() if not name.endswith(COUNTER)}
    _, state = translate(old, "audio", tiny)
    assert state["audnet.bn1.num_batches_tracked"].item() == 0


def test_what_does_not_fit(tiny, tmp_path):
    ours = encoder_state(tiny, "audio")
    del ours["layer4.1.bn2.weight"]
    with pytest.raises(WeightsError, match=r"hche11/VGGSound.* 1 missing: audnet\.layer4\.1\.bn2"):
        translate(ours, "audio", tiny)
    with pytest.raises(WeightsError, match="none of its names belongs to x3dl"):
        translate(ours, "motion", "x3dl-224x224")
    with pytest.raises(UsageError, match="encoder tiny"):
        translate(ours, "motion", tiny)
    path = tmp_path / "a.pth"
    torch.save(ours, path)
    with pytest.raises(WeightsError, match=r"a\.pth: read as"):
        weights.import_component(path, "audio", tiny, tmp_path / "o.safetensors")
    assert not (tmp_path / "o.safetensors").exists()
    with pytest.raises(UsageError, match="motion, image, audio"):
        weights.import_component(path, "sound", tiny, tmp_path / "o.safetensors")


# --- Caffe2 pickles -------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 4])
def test_caffe2_pickle(protocol, tmp_path):
    path = tmp_path / "slowfast.pkl"
    blobs = {"conv1_w": np.arange(6, dtype=np.float32).reshape(2, 3), "model_iter": np.array([7])}
    path.write_bytes(pickle.dumps({"blobs": blobs, "cfg": "text"}, protocol))
    state = read_blobs(path)
    assert list(state) == ["conv1_w"]
    assert state["conv1_w"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_caffe2_pickle_of_python_2(tmp_path):
    """Strings and array data of Python 2 are byte strings in the pickle."""
    data = np.array([1.5, -2.0], dtype="<f4").tobytes()
    opcodes = (
        b"\x80\x02}U\x05blobs}U\x06pred_wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U" + bytes([len(data)]) + data + b"tbss."
    )
    path = tmp_path / "old.pkl"
    path.write_bytes(opcodes)
    assert read_blobs(path)["pred_w"].tolist() == [1.5, -2.0]


class Hostile:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return Path.mkdir, (self.proof,)


def test_hostile_and_damaged_pickles(tmp_path):
    path, proof = tmp_path / "x.pkl", tmp_path / "proof"
    path.write_bytes(pickle.dumps({"blobs": {"w": Hostile(proof)}}))
    with pytest.raises(WeightsError, match="refused"):
        read_blobs(path)
    assert not proof.exists()
    path.write_bytes(pickle.dumps({"blobs": {"w": np.zeros(9)}})[:-30])
    with pytest.raises(WeightsError, match=r"refused|damaged"):
        read_blobs(path)
    path.write_bytes(pickle.dumps({"weights": {}}))
    with pytest.raises(WeightsError, match="no Caffe2 blobs"):
        read_blobs(path)


# --- sizes that differ ----------------------------------------------------------------------


def test_axis_tables_are_resampled_linearly():
    ramp = torch.arange(27.0)[:, None].expand(27, 4)
    longer = fit("blocks.3.attn.rel_pos_h", ramp, (55, 4))
    assert longer.shape == (55, 4)
    place = (torch.arange(55) + 0.5) * 27 / 55 - 0.5
    torch.testing.assert_close(longer[:, 0], place.clamp(0, 26))


def test_window_tables_are_resampled_in_time():
    time = torch.arange(31.0).view(31, 1, 1).expand(31, 13, 13)
    table = time.reshape(-1, 1).expand(-1, 3)
    shorter = fit("attn.relative_position_bias_table", table, (15 * 169, 3))
    assert shorter.shape == (15 * 169, 3)
    volume = shorter[:, 0].view(15, 13, 13)
    torch.testing.assert_close(volume, volume[:, :1, :1].expand_as(volume))
    place = (torch.arange(15) + 0.5) * 31 / 15 - 0.5
    torch.testing.assert_close(volume[:, 0, 0], place)


def test_image_tables_are_repeated_over_time():
    table = torch.randn(169, 3)
    volume = fit("attn.relative_position_bias_table", table, (15 * 169, 3)).view(15, 169, 3)
    for step in volume:
        torch.testing.assert_close(step, table)


def test_image_kernels_are_inflated():
    kernel = torch.randn(8, 3, 4, 4)
    inflated = fit("patch_embed.proj.weight", kernel, (8, 3, 2, 4, 4))
    still = torch.randn(1, 3, 1, 4, 4).expand(-1, -1, 2, -1, -1)
    from_video = torch.nn.functional.conv3d(still, inflated).flatten()
    from_image = torch.nn.functional.conv2d(still[:, :, 0], kernel).flatten()
    torch.testing.assert_close(from_video, from_image)


def test_other_shapes_stay_for_the_check():
    tensor = torch.zeros(5, 3)
    assert fit("fc.weight", tensor, (3, 5)) is tensor
    assert fit("attn.relative_position_bias_table", torch.zeros(170, 3), (2535, 3)).shape[0] == 170
    assert fit("gamma", torch.zeros(96, 1, 1), (96,)).shape == (96,)


def test_resampled_tables_end_in_the_network():
    ours = encoder_state("mvitv2s-224x224", "motion")
    ours["blocks.0.attn.rel_pos_h"] = torch.ones(125, 96)  # of a 252-pixel input
    _, state = translate(ours, "motion", "mvitv2s-224x224")
    assert state["visnet.blocks.0.attn.rel_pos_h"].shape == (111, 96)
