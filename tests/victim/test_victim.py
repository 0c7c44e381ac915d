"""The ten rules that make a network attackable by any library, and the noise contract."""

from __future__ import annotations

import copy
import pickle
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

import robust_snn
from robust_snn import InputError, Victim
from robust_snn.gradients import MODES
from robust_snn.models import MECHANISMS
from robust_snn.neurons import set_noise
from robust_snn.neurons.noise_source import POLICIES, layer_numbers, policy_keys
from robust_snn.victim.passes import attack_pass
from victims import SHAPE, tiny_victim
from zoo import narrow

pytestmark = pytest.mark.usefixtures("device")

NETS = ("snn_vgg5", "snn_vgg5_stog", "snn_wrn16_stog")
VIEWS = (
    {},
    {"eot": 3},
    {"noise": "frozen"},
    {"noise": "mean"},
    {"gradient": "bptr"},
    {"gradient": "bptt(surrogate=atan(alpha=4))", "eot": 2, "noise": "frozen"},
    {"gradient": "hart", "sparse": "always"},
    {"bf16": True, "channels_last": True},
)


def build(name: str = "snn_vgg5_stog", **settings: object) -> Victim:
    """A narrow victim whose sums are exact in float32, so that no order of summation shows."""
    head = {} if "wrn" in name else {"head_width": 32}
    half = (0.5, 0.5, 0.5)
    torch.manual_seed(0)
    victim = robust_snn.adapt(
        name, T=4, width=0.125, img_size=16, mean=half, std=half, **head, **settings
    )
    for parameter in victim.net.parameters():
        parameter.data = (parameter.data * 64).round() / 64
    return victim.to(torch.get_default_device())


@pytest.fixture
def images(device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 65, (3, 3, 16, 16), generator=generator) / 64


def loss_and_gradient(victim: Victim, images: Tensor) -> tuple[Tensor, Tensor]:
    x = images.clone().requires_grad_()
    loss = nn.functional.cross_entropy(victim(x), torch.arange(len(x)))
    (gradient,) = torch.autograd.grad(loss, x)
    return loss.detach(), gradient


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rule_1_one_tensor_in_float32_logits_out(name: str, dtype: torch.dtype) -> None:
    victim = build(name)
    x = torch.rand(2, 3, 16, 16).to(dtype).requires_grad_()
    logits = victim(x)
    assert logits.dtype == torch.float32
    assert logits.shape == (2, 10)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert gradient.dtype == dtype
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("view", [{"eot": 4}, {"eot": 4, "noise": "frozen"}])
def test_rule_2_eot_inside_averages_logits_and_gradients(view: dict, images: Tensor) -> None:
    victim = build(**view)
    keys = [policy_keys(victim.noise, victim.seed, 3, 0, draw, images.device) for draw in range(4)]
    x = images.clone().requires_grad_()
    modules = [*victim.net.modules()]
    run = attack_pass(victim, modules, layer_numbers(modules))
    plain = sum(run(x, key) for key in keys) / 4
    (expected,) = torch.autograd.grad(plain[:, 0].sum(), x)
    logits = victim(x)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
    torch.testing.assert_close(logits, plain)
    torch.testing.assert_close(gradient, expected)


def test_rule_3_noise_ignores_and_spares_the_global_generator(images: Tensor) -> None:
    victim, twin = build(), build()
    torch.manual_seed(1)
    first = victim(images)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(first, twin(images))
    assert not torch.equal(first, victim(images))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("view", VIEWS)
def test_rule_4_copies_and_pickles_after_a_call(view: dict, images: Tensor) -> None:
    victim = build(**view)
    loss_and_gradient(victim, images)
    expected = victim.replace()(images)
    for twin in (copy.deepcopy(victim), pickle.loads(pickle.dumps(victim))):
        assert torch.equal(twin.replace()(images), expected)


@pytest.mark.parametrize("view", VIEWS)
def test_rule_5_repeated_backward_gives_the_same_gradient(view: dict, images: Tensor) -> None:
    x = images.clone().requires_grad_()
    logits = build(**view)(x)
    first, second = (
        torch.autograd.grad(logits[:, 1].sum(), x, retain_graph=True)[0] for _ in range(2)
    )
    assert torch.equal(first, second)


def test_rule_6_modes_change_batch_norm_only(images: Tensor) -> None:
    victim = build(noise="frozen")
    assert not victim.training
    _, before = loss_and_gradient(victim, images)
    for module in victim.modules():
        if not isinstance(module, nn.BatchNorm2d):
            module.training = True
    _, after = loss_and_gradient(victim, images)
    assert torch.equal(before, after)


@pytest.mark.parametrize("view", VIEWS)
def test_rule_7_gradients_are_contiguous(view: dict, images: Tensor) -> None:
    x = images.to(memory_format=torch.channels_last)
    _, gradient = loss_and_gradient(build(**view), x)
    assert gradient.is_contiguous()


def test_rule_8_and_10_plain_module_with_a_device(device: torch.device) -> None:
    victim = build()
    assert not isinstance(victim, nn.Sequential)
    assert next(victim.parameters()).device.type == device.type


def test_rule_9_scores_depend_on_image_and_draw_only(images: Tensor) -> None:
    victim = build()
    ids = torch.tensor([5, 2, 9])
    scores = victim.sample(images, ids, draw=1)
    order = torch.tensor([2, 0, 1])
    assert torch.equal(victim.sample(images[order], ids[order], draw=1), scores[order])
    assert torch.equal(victim.sample(images[1:2], ids[1:2], draw=1), scores[1:2])
    assert not torch.equal(victim.sample(images, ids, draw=2), scores)
    assert not torch.equal(victim.sample(images, ids, draw=1, purpose="select"), scores)


def test_frozen_is_a_function_of_the_image(images: Tensor) -> None:
    victim = build(noise="frozen", eot=2)
    order = torch.tensor([2, 0, 1])
    expected = victim(images)
    assert torch.equal(victim(images), expected)
    assert torch.equal(victim(images[order]), expected[order])
    assert torch.equal(victim(images[:1]), expected[:1])
    assert not torch.equal(victim.replace(seed=1)(images), expected)


def test_mean_field_of_open_gates_is_the_plain_network(images: Tensor) -> None:
    victim = build()
    for name, parameter in victim.named_parameters():
        if name.endswith("probability"):
            parameter.data.fill_(1.0)
    assert not victim.stochastic
    assert torch.equal(victim.replace(noise="mean")(images), victim(images))


def test_modes_share_one_forward(images: Tensor) -> None:
    victim = build(noise="frozen")
    bptt, rate = victim.replace(), victim.replace(gradient="bptr")
    assert torch.equal(bptt(images), rate(images))
    gradients = [loss_and_gradient(view, images)[1] for view in (bptt, rate)]
    assert not torch.equal(*gradients)


def test_weights_stay_as_they_were(images: Tensor) -> None:
    victim = build()
    victim(images.requires_grad_()).sum().backward()
    assert all(p.grad is None and p.requires_grad for p in victim.parameters())


def test_attack_view_and_scoring_view_agree_without_noise(images: Tensor) -> None:
    victim = build("snn_vgg5")
    scored = victim.sample(images, torch.arange(3))
    torch.testing.assert_close(victim(images), scored, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(
    "view", [{"sparse": "always"}, {"sparse": "auto"}, {"channels_last": True}]
)
def test_other_roundings_agree_where_nothing_is_rounded(name, view, images: Tensor) -> None:
    victim = build(name, noise="frozen")
    expected = loss_and_gradient(victim, images)
    for got, wanted in zip(
        loss_and_gradient(victim.replace(**view), images), expected, strict=True
    ):
        torch.testing.assert_close(got, wanted)


def test_scores_come_from_the_plain_network(images: Tensor) -> None:
    victim, ids = build(), torch.arange(3)
    fast = victim.replace(sparse="always", channels_last=True, bf16=True)
    assert torch.equal(fast.sample(images, ids), victim.sample(images, ids))


def test_checkpointing_replays_the_draw(images: Tensor) -> None:
    victim = build("snn_wrn16_stog", sparse="always")
    expected = loss_and_gradient(victim.replace(), images)[1]
    victim.net.set_grad_checkpointing()
    assert torch.equal(loss_and_gradient(victim.replace(), images)[1], expected)


@pytest.mark.parametrize(
    ("view", "forwards", "backwards"),
    [({}, 3, 3), ({"eot": 4, "eot_batch": 1}, 21, 12), ({"eot": 4, "noise": "mean"}, 3, 3)],
)
def test_cost_counts_passes(view: dict, forwards: int, backwards: int, images: Tensor) -> None:
    victim = build(**view)
    loss_and_gradient(victim, images)
    assert (victim.cost.forwards, victim.cost.backwards) == (forwards, backwards)
    with torch.no_grad():
        victim(images)
    assert victim.cost.backwards == backwards


def test_probabilities_are_the_softmax_of_the_logits(images: Tensor) -> None:
    victim = build(noise="frozen")
    probabilities = victim.replace(output="probabilities")(images)
    torch.testing.assert_close(probabilities, victim(images).softmax(-1))


def test_adapt_takes_names_nets_and_victims(images: Tensor) -> None:
    victim = build(noise="frozen")
    assert robust_snn.adapt(victim, eot=2).eot == 2
    assert torch.equal(robust_snn.adapt(victim.net, noise="frozen")(images), victim(images))
    plain = nn.Sequential(nn.Flatten(), nn.Linear(768, 10))
    assert not robust_snn.adapt(plain).stochastic


def test_a_net_without_a_victim_has_its_own_noise(images: Tensor) -> None:
    net = build().net
    assert not torch.equal(net(images), net(images))
    set_noise(net, "frozen", seed=3)
    assert torch.equal(net(images), net(images))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build(gradient="bppt"), "did you mean 'bptt'"),
        (lambda: build(noise="frosen"), "did you mean 'frozen'"),
        (lambda: build(output="logit"), "did you mean 'logits'"),
        (lambda: build(sparse="allways"), "did you mean 'always'"),
        (lambda: build(eot=0), "eot must be at least 1"),
        (lambda: robust_snn.adapt("snn_vg5"), "did you mean 'snn_vgg5'"),
        (lambda: robust_snn.adapt("snn_vgg5", hed_width=3), "did you mean 'head_width'"),
        (lambda: build()(torch.rand(3, 16, 16)), "expected float images"),
        (lambda: build()(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)), "expected float images"),
        (lambda: build()(torch.rand(1, 1, 16, 16)), "expected images"),
        (lambda: build()(torch.rand(1, 3, 32, 32)), "img_size"),
    ],
)
def test_wrong_input_is_named(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_victim_is_compiled_once_under_fresh_noise(backend: str) -> None:
    plain = tiny_victim(noisy=True)
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(plain.replace(), backend=counter)
    frames = 0
    for call in range(4):
        images = torch.rand(2, *SHAPE)
        got, expected = ([*loss_and_gradient(v, images)] for v in (compiled, plain))
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
        assert call == 0 or counter.frame_count == frames
        frames = counter.frame_count
    assert plain.cost == compiled.cost


PASSES = [
    *((mechanism, noise, "bptt") for mechanism in MECHANISMS for noise in POLICIES),
    *(("stog", "fresh", mode) for mode in MODES if mode != "bptt"),
]


@pytest.mark.cpu_only
@pytest.mark.parametrize(("mechanism", "noise", "mode"), PASSES)
def test_a_pass_stays_on_the_device_of_its_image(
    mechanism: str, noise: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On tensors that have a device and no numbers; two devices never meet in an operation."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *device: False)
    monkeypatch.setattr(torch, "autocast", lambda *device, **settings: nullcontext())
    name = "snn_vgg5" if mechanism == "none" else f"snn_vgg5_{mechanism}"
    mode = "activation(relu)" if mode == "activation" else mode
    net = narrow(name, T=2, img_size=8).to("meta")
    victim = Victim(net, gradient=mode, noise=noise)
    x = torch.rand(2, 3, 8, 8, device="meta", requires_grad=True)
    logits = victim(x)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    scores = victim.sample(x.detach(), torch.arange(2))
    assert {logits.device.type, gradient.device.type, scores.device.type} == {"meta"}
