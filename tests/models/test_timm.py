"""timm's conventions, which its scripts and users rely on."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import create_feature_extractor, model_parameters
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from helpers import assert_close_rms
from robust_snn.models.zoo import trained
from robust_snn.neurons import set_noise
from robust_snn.utils.errors import InputError
from zoo import BACKBONES, NAMES, NARROW, awake, images, narrow, size_of

# A gate in every layer makes a model the hardest case: it has noise, parameters and shapes.
HARDEST = [f"{name}_stog" for name in BACKBONES]
CURRENTS = ("snn_sdt", "snn_resformer")  # whose last maps are no spikes
over_backbones = pytest.mark.parametrize(
    "name", [*HARDEST, *(name for name in NAMES if "resnet20" in name and name not in HARDEST)]
)


def test_models_are_listed_under_modules_of_their_own() -> None:
    assert set(BACKBONES) <= set(timm.list_models("snn_*"))
    for name in BACKBONES:
        entry = timm.model_entrypoint(name)
        assert entry.__module__.startswith("robust_snn.models.snn_")
        assert name in timm.list_models(module=entry.__module__.rsplit(".", 1)[-1])


@over_backbones
def test_the_head_follows_the_features(name: str) -> None:
    net = narrow(name, num_classes=5)
    assert net.num_classes == 5
    assert net.get_classifier().out_features == 5
    features = net.forward_features(images(name))
    assert features.dim() == 4
    assert features.shape[:2] == (2, net.num_features)
    assert features.min() >= 0 or name.startswith(CURRENTS)
    assert net.forward_head(features).shape == (2, 5)
    assert net.forward_head(features, pre_logits=True).shape == (2, net.head_hidden_size)
    assert net(images(name)).shape == (2, 5)


@over_backbones
def test_the_classifier_can_be_replaced_and_removed(name: str) -> None:
    net = narrow(name)
    net.reset_classifier(7)
    assert net(images(name)).shape == (2, 7)
    net.reset_classifier(0)
    assert net(images(name)).shape == (2, net.head_hidden_size)
    net.reset_classifier(0, "")
    features = net.forward_features(images(name))
    assert torch.equal(net(images(name)), features)
    bare = narrow(name, num_classes=0, global_pool="")
    bare.load_state_dict(net.state_dict())
    assert torch.equal(bare(images(name)), features)
    with pytest.raises(InputError, match="nothing to classify"):
        net.reset_classifier(10, "")
    with pytest.raises(InputError, match="global_pool"):
        net.reset_classifier(10, "max")


@over_backbones
def test_input_channels_and_drop_rate(name: str) -> None:
    net = narrow(name, in_chans=1, drop_rate=0.5)
    assert net(images(name, 1, channels=1)).shape == (1, 10)
    assert net.drop.p == 0.5


@over_backbones
def test_features_only_gives_one_map_per_level(name: str) -> None:
    net = narrow(name, features_only=True)
    maps = net(images(name))
    assert len(maps) == len(narrow(name).stages) >= 3
    assert [m.shape[1] for m in maps] == net.feature_info.channels()
    assert [m.shape[-1] for m in maps] == [size_of(name) // r for r in net.feature_info.reduction()]
    chosen = narrow(name, features_only=True, out_indices=(0, 2))(images(name))
    assert len(chosen) == 2
    assert torch.equal(chosen[1], maps[2])


@over_backbones
def test_intermediates_agree_with_the_features(name: str) -> None:
    net = narrow(name)
    features, maps = net.forward_intermediates(images(name), norm=True)
    assert torch.equal(features, net.forward_features(images(name)))
    assert torch.equal(maps[-1], features)
    info = net.feature_info
    assert [m.shape[1] for m in maps] == [level["num_chs"] for level in info]
    first = net.forward_intermediates(
        images(name), indices=[0], stop_early=True, intermediates_only=True
    )
    assert torch.equal(first[0], maps[0])
    with pytest.raises(InputError, match="NCHW"):
        net.forward_intermediates(images(name), output_fmt="NLC")


@over_backbones
def test_a_pruned_net_still_gives_its_levels(name: str) -> None:
    net = narrow(name)
    maps = net.forward_intermediates(images(name), intermediates_only=True)
    taken = net.prune_intermediate_layers([0, 1])
    assert taken == [0, 1]
    kept = net.forward_intermediates(images(name), taken, intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(kept, maps, strict=False))
    assert net(images(name)).shape[1] == net.num_features == maps[1].shape[1]


def gradients(net: nn.Module, name: str) -> dict[str, Tensor]:
    """Gradients of images and of modules, each with all its parameters in one vector.

    A bias before a batch norm in training has gradient zero, so what is left of it is rounding: it
    counts beside the weight. No sum over images, which such a norm keeps constant.
    """
    x = images(name).requires_grad_()
    net.zero_grad()
    (net(x) * torch.arange(20).view(2, 10)).sum().backward()
    found = {
        key: torch.cat([p.grad.flatten() for p in module.parameters(recurse=False)])
        for key, module in net.named_modules()
        if list(module.parameters(recurse=False))
    }
    return {"images": x.grad, **found}


@pytest.mark.parametrize(
    ("noise", "training"), [("frozen", False), ("fresh", False), ("fresh", True)]
)
@over_backbones
def test_gradient_checkpointing_changes_no_gradient(name: str, noise: str, training: bool) -> None:
    plain, saving = awake(narrow(name), images(name)), narrow(name)
    saving.load_state_dict(plain.state_dict())
    saving.set_grad_checkpointing()
    for net in (plain, saving):
        set_noise(net.train(training), noise, seed=3)
    expected, actual = gradients(plain, name), gradients(saving, name)
    assert expected["images"].abs().sum() > 0
    for key, gradient in expected.items():
        assert_close_rms(actual[key], gradient)
    for one, other in zip(plain.buffers(), saving.buffers(), strict=True):
        assert torch.equal(one, other)


def test_gradient_checkpointing_allows_a_second_backward_pass() -> None:
    net, x = narrow("snn_wrn16"), images("snn_wrn16").requires_grad_()
    net.set_grad_checkpointing()
    logits = net(x).sum()
    first, second = (torch.autograd.grad(logits, x, retain_graph=keep)[0] for keep in (True, False))
    assert torch.equal(first, second)


@over_backbones
def test_parameters_fall_into_groups(name: str) -> None:
    net = narrow(name)
    parameters = {n for n, _ in net.named_parameters()}
    assert net.no_weight_decay() <= parameters
    for coarse in (False, True):
        assert net.group_matcher(coarse)
    groups = create_optimizer_v2(net, "sgd", 0.1, 0.1, layer_decay=0.5).param_groups
    assert sum(len(group["params"]) for group in groups) == len(parameters)
    assert len({group["lr_scale"] for group in groups}) >= 3
    assert list(model_parameters(net, exclude_head=True))


@over_backbones
def test_fx_traces_the_net(name: str) -> None:
    net = awake(narrow(name), images(name, 4))
    x = images(name).requires_grad_()
    logits = create_feature_extractor(net, ["fc"])(x)["fc"]
    assert torch.equal(logits, net(images(name)))
    logits.sum().backward()
    assert x.grad.abs().sum() > 0


@over_backbones
def test_local_directories_and_checkpoints_round_trip(name: str, tmp_path: Path) -> None:
    backbone = name.split("_")[1]
    kwargs = {"T": 2, "img_size": size_of(name), "num_classes": 5, **NARROW[backbone]}
    net = timm.create_model(name, **kwargs).eval()
    set_noise(net, "frozen", seed=0)
    logits = net(images(name))

    timm.models.save_for_hf(net, tmp_path / "hub", model_args=kwargs, safe_serialization=True)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).eval()
    set_noise(loaded, "frozen", seed=0)
    assert torch.equal(loaded(images(name)), logits)

    save_file(net.state_dict(), tmp_path / "model.safetensors")
    loaded = timm.create_model(
        name, checkpoint_path=str(tmp_path / "model.safetensors"), **kwargs
    ).eval()
    set_noise(loaded, "frozen", seed=0)
    assert torch.equal(loaded(images(name)), logits)


@over_backbones
def test_there_are_no_pretrained_weights_and_timm_says_so(name: str) -> None:
    with pytest.raises(RuntimeError, match="No pretrained weights exist"):
        timm.create_model(name, pretrained=True)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_data_config_leaves_pixels_alone(name: str) -> None:
    config = timm.data.resolve_data_config({}, model=narrow(name))
    assert config["mean"] == (0.0, 0.0, 0.0)
    assert config["std"] == (1.0, 1.0, 1.0)
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=False)
    net = narrow(name, img_size=cfg.input_size[-1])
    x = torch.rand(1, *cfg.input_size)
    assert net.forward_features(x).shape[-2:] == cfg.pool_size
    assert isinstance(net.get_submodule(cfg.first_conv), nn.Conv2d)
    assert isinstance(net.get_submodule(cfg.classifier), nn.Linear)


@pytest.mark.parametrize("name", trained())
def test_the_data_config_of_a_trained_network(name: str) -> None:
    net = timm.create_model(name).eval()
    features = net.forward_features(torch.rand(1, *net.pretrained_cfg["input_size"]))
    assert features.shape[-2:] == net.pretrained_cfg["pool_size"]


def test_device_and_dtype_are_accepted() -> None:
    net = narrow("snn_wrn16", dtype=torch.float64, device="cpu")
    assert net(images("snn_wrn16").double()).dtype == torch.float64
