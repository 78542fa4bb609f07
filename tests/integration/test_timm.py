"""A registered cell passes what timm asks of its own models (its tests/test_models.py), and what its tools rely on."""

import json
import math
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import darts_hpc
from darts_hpc.space.genotypes import GENOTYPES

timm = pytest.importorskip("timm")
from timm.data.config import resolve_data_config  # noqa: E402
from timm.models import FeatureInfo, get_notrace_functions, get_notrace_modules, save_for_hf  # noqa: E402
from timm.optim import param_groups_layer_decay  # noqa: E402  # pyright: ignore[reportPrivateImportUsage]
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names  # noqa: E402

NAMES = darts_hpc.register_timm()
SIDES = {"darts_v2_cifar": 32, "amoebanet_imagenet": 64}
each_model = pytest.mark.parametrize("name", SIDES)
TRACER: dict[str, Any] = {"leaf_modules": get_notrace_modules(), "autowrap_functions": get_notrace_functions()}
TRACER["param_shapes_constant"] = True

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")


def create(name: str, **more) -> Any:
    return timm.create_model(name, **{"init_channels": 8, "layers": 3, **more})


def images(name: str, batch_size: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.randn(batch_size, channels, SIDES[name], SIDES[name], generator=torch.Generator().manual_seed(0))


def traced(model: nn.Module) -> nn.Module:
    """The model by torch.fx, as timm's tests trace it."""
    train, evaluate = get_graph_node_names(model, tracer_kwargs=TRACER)
    return create_feature_extractor(
        model, train_return_nodes=[train[-1]], eval_return_nodes=[evaluate[-1]], tracer_kwargs=TRACER
    )


def has_all_gradients(model: nn.Module) -> bool:
    return all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


@each_model
def test_forward_gives_the_same_with_checkpoints(name):
    model = create(name).eval()
    logits = model(images(name))
    assert logits.shape == (2, model.default_cfg["num_classes"]) and logits.isfinite().all()
    model.set_grad_checkpointing()
    torch.testing.assert_close(model(images(name)), logits)


@each_model
def test_backward_reaches_every_weight_with_and_without_checkpoints(name):
    model = create(name, num_classes=42).train()
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        logits = model(images(name))
        logits.square().mean().backward()
        assert logits.shape == (2, 42) and has_all_gradients(model)
        gradients.append([weight.grad for weight in model.parameters()])
    torch.testing.assert_close(*gradients)


@each_model
def test_features_head_and_pooling_are_what_the_default_configuration_says(name):
    model = create(name).eval()
    cfg = model.default_cfg
    x = torch.randn(1, *cfg["input_size"])
    with torch.no_grad():
        features = model.forward_features(x)
        assert features.shape == (1, model.num_features, *cfg["pool_size"])
        pooled = model.forward_head(features, pre_logits=True)
        assert pooled.shape == (1, model.head_hidden_size)
        assert torch.equal(model.get_classifier()(pooled), model(x))
        assert {f"{cfg['classifier']}.weight", f"{cfg['first_conv']}.weight"} <= model.state_dict().keys()
        model.reset_classifier(0)
        assert model.num_classes == 0 and torch.equal(model(x), pooled)
        model.reset_classifier(0, "")
        assert torch.equal(model(x), features)
        model.reset_classifier(3, "max")
        assert model(x).shape == (1, 3) and torch.equal(model.forward_head(features, True), features.amax((2, 3)))
        without = create(name, num_classes=0, global_pool="").eval()
        assert without(x).shape == features.shape


@each_model
def test_torchscript_gives_the_same(name):
    model = create(name).eval()
    script = torch.jit.script(model)
    with torch.no_grad():
        assert torch.equal(script(images(name)), model(images(name)))


def test_torchscript_drops_paths_and_features_in_training():
    torch.manual_seed(0)
    script = torch.jit.script(create("darts_v2_cifar", drop_path_rate=0.5, drop_rate=0.5).train())
    x = images("darts_v2_cifar")
    assert not torch.equal(script(x), script(x))


@each_model
@pytest.mark.parametrize("feature_cls", ["getter", "hook", "fx"])
@pytest.mark.parametrize("indices", [None, (0,), (-2, -1)])
def test_feature_maps_have_their_channels_and_reductions(name, feature_cls, indices):
    chosen = {} if indices is None else {"out_indices": indices}
    model = create(name, features_only=True, feature_cls=feature_cls, **chosen).eval()
    maps = model(images(name))
    assert len(maps) == len(model.feature_info.channels()) == (len(indices) if indices else 3 + ("imagenet" in name))
    for feature, channels, reduction in zip(
        maps, model.feature_info.channels(), model.feature_info.reduction(), strict=True
    ):
        assert feature.shape == (2, channels, *[math.ceil(SIDES[name] / reduction)] * 2)


def test_a_feature_extractor_keeps_no_weight_that_its_maps_do_not_need():
    model = create("darts_v2_cifar", features_only=True, out_indices=(1,))
    model(images("darts_v2_cifar"))[0].mean().backward()
    assert has_all_gradients(model)


@each_model
def test_intermediates_end_with_the_features(name):
    model = create(name).eval()
    info = FeatureInfo(model.feature_info, len(model.feature_info))
    last, maps = model.forward_intermediates(images(name))
    assert [feature.shape[1] for feature in maps] == info.channels()
    assert torch.equal(last, model.forward_features(images(name))) and torch.equal(last, maps[-1])
    with pytest.raises(ValueError, match=r"indices \(9,\): expected some of the"):
        model.forward_intermediates(images(name), (9,))


@each_model
def test_fx_gives_the_same_and_its_backward_reaches_every_weight(name):
    model = create(name, num_classes=42).eval()
    graph = traced(model)
    with torch.inference_mode():
        (logits,) = graph(images(name)).values()
        assert torch.equal(logits, model(images(name)))
    (logits,) = graph.train()(images(name)).values()
    logits.mean().backward()
    assert logits.shape == (2, 42) and has_all_gradients(graph)


def test_fx_can_be_scripted_with_logits_and_with_feature_maps():
    x = images("darts_v2_cifar")
    (logits,) = torch.jit.script(traced(create("darts_v2_cifar").eval()))(x).values()
    assert logits.shape == (2, 10)
    features = torch.jit.script(create("darts_v2_cifar", features_only=True, feature_cls="fx").eval())(x)
    assert [feature.shape[-1] for feature in features] == [32, 16, 8]


@pytest.mark.parametrize("unknown", ["drop_block_rate", "chanels", "init_channel", "out_indices"])
def test_an_unknown_keyword_is_a_type_error(unknown):
    with pytest.raises(TypeError, match=unknown):
        create("darts_v2_cifar", **{unknown: 1})


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"num_classes": -1}, "num_classes -1: expected 0"),
        ({"init_channels": 0}, "init_channels 0: expected 2 or more, and even"),
        ({"init_channels": 5}, "init_channels 5"),
        ({"layers": 2}, "layers 2: expected 3 or more"),
        ({"in_chans": 0}, "in_chans 0"),
        ({"drop_rate": 1.0}, r"drop_rate 1\.0"),
        ({"drop_path_rate": -0.1}, r"drop_path_rate -0\.1"),
        ({"global_pool": "average"}, "global_pool 'average' is unknown; choose from 'avg'"),
        ({"global_pool": ""}, "num_classes 10 without a global_pool"),
    ],
)
def test_a_value_of_which_no_network_can_be_made_is_refused(bad, said):
    with pytest.raises(ValueError, match=said):
        create("darts_v2_cifar", **bad)


@each_model
def test_images_may_have_other_channels(name):
    model = create(name, in_chans=5)
    assert model(images(name, channels=5)).shape[0] == 2 and model.in_chans == 5


def test_pooled_features_of_every_pool():
    features = torch.randn(2, 128, 3, 3)
    average, largest = features.mean((2, 3)), features.amax((2, 3))
    expected = {"avg": average, "max": largest, "avgmax": (average + largest) / 2}
    expected["catavgmax"] = torch.cat([average, largest], 1)
    for pool, wanted in expected.items():
        model = create("darts_v2_cifar", global_pool=pool)
        torch.testing.assert_close(model.forward_head(features, pre_logits=True), wanted)
        assert model.forward_head(features).shape == (2, 10)


def test_drop_rate_and_drop_path_rate_act_in_training_only():
    x = images("darts_v2_cifar")
    for rate in ("drop_rate", "drop_path_rate"):
        model = create("darts_v2_cifar", **{rate: 0.5})
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.0
        assert not torch.equal(model(x), model(x))
        assert torch.equal(model.eval()(x), model(x))


def test_a_reset_classifier_keeps_dtype_device_and_mode():
    model = create("darts_v2_cifar", dtype=torch.float64, device="meta").eval()
    for num_classes in (7, 0, 5):
        model.reset_classifier(num_classes)
    weight = model.get_classifier().weight
    assert weight.dtype == torch.float64 and weight.is_meta and weight.shape == (5, model.num_features)
    assert not model.get_classifier().training


@each_model
def test_weights_are_grouped_by_depth(name):
    groups = param_groups_layer_decay(create(name), layer_decay=0.5)
    depths = {group["lr_scale"] for group in groups}
    assert len(depths) == 5  # the stem, three cells and the classifier
    assert sum(len(group["params"]) for group in groups) == len(list(create(name).parameters()))


def test_each_entry_says_what_images_it_takes():
    for name in NAMES:
        with torch.device("meta"):
            model = create(name)
        config, cfg = resolve_data_config(model=model), model.default_cfg
        side = 32 if name.endswith("_cifar") else 224
        assert config["input_size"] == (3, side, side) and cfg["architecture"] == name
        assert config["mean"][0] == pytest.approx(0.4914 if side == 32 else 0.485, abs=1e-4)
        assert {f"{cfg['classifier']}.weight", f"{cfg['first_conv']}.weight"} <= model.state_dict().keys()


def test_weights_saved_for_the_hub_come_back(tmp_path):
    model = create("darts_v2_cifar", num_classes=4, in_chans=1).eval()
    save_for_hf(model, tmp_path, safe_serialization=True)
    assert json.loads((tmp_path / "config.json").read_text())["num_classes"] == 4
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = images("darts_v2_cifar", channels=1)
    assert torch.equal(again(x), model(x))
    fewer = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0).eval()
    assert torch.equal(fewer(x), model.forward_head(model.forward_features(x), pre_logits=True))


def test_there_are_no_weights_to_download():
    with pytest.raises(RuntimeError, match="No pretrained weights exist for darts_v2_cifar"):
        create("darts_v2_cifar", pretrained=True)


def test_registering_twice_changes_nothing_and_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert darts_hpc.register_timm() == NAMES
    assert len(NAMES) == 2 * len(GENOTYPES) and set(NAMES) <= set(timm.list_models())
    assert set(NAMES) == set(timm.list_models(module="timm_models"))


def test_without_timm_everything_else_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"timm is not installed: pip install 'darts_hpc\[timm\]'"):
        darts_hpc.register_timm()
    model = darts_hpc.create_model("DARTS_V2", init_channels=4, layers=3, num_classes=0)
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, model.num_features)
