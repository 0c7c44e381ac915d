"""What of the work on GPUs this machine can do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from robust_snn.utils.machine import gpu_driver

TF32_SINCE = (8, 0)  # compute capability of the first cards that have it


def gpu_report() -> list[tuple[str, str]]:
    """Cards, driver, number formats and CUDA graphs, as rows of a table; one row without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return [("CUDA device", f"none: {_why_none()}")]
    cards = range(torch.cuda.device_count())
    return [
        *((f"CUDA device {n}", _tried(partial(_card, n))) for n in cards),
        ("CUDA", _tried(_versions)),
        ("bf16", _tried(lambda: "yes" if torch.cuda.is_bf16_supported() else "no")),
        ("TF32", _tried(_tf32)),
        ("CUDA graphs", _tried(check_graphs)),
    ]


def check_graphs() -> str:
    """Attacks a small network with and without CUDA graphs.

    Returns:
        `"work"`, or what is wrong.
    """
    import timm
    import torch

    from robust_snn.victim import Victim

    generator = torch.Generator().manual_seed(0)
    small: dict[str, Any] = {
        "T": 2,
        "width": 0.125,
        "head_width": 8,
        "img_size": 8,
        "num_classes": 4,
    }
    net = timm.create_model("snn_vgg5_stog", **small).eval().cuda()
    x = torch.rand(2, 3, 8, 8, generator=generator).cuda()
    found = []
    for graph in (False, True):
        victim, image = Victim(net, graph=graph), x.clone().requires_grad_()
        for _ in range(3):  # the first pass is no replay
            logits = victim(image)
            (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), image)
        found.append((logits.detach(), gradient))
    same = all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(*found, strict=True))
    return "work" if same else "wrong: a replay gives other numbers than the pass"


def _card(index: int) -> str:
    import torch

    card = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    memory = f"{total / 2**30:.1f} GiB, {free / 2**30:.1f} free"
    return f"{card.name}, compute capability {card.major}.{card.minor}, {memory}"


def _versions() -> str:
    import torch

    if torch.version.hip:
        return f"ROCm {torch.version.hip}"
    return f"runtime {torch.version.cuda}, driver {gpu_driver()}"


def _tf32() -> str:
    import torch

    if torch.version.hip or torch.cuda.get_device_capability() < TF32_SINCE:
        return "no"
    return "yes, in attacks with tf32=True; scores never use it"


def _why_none() -> str:
    """Why PyTorch sees no GPU, in one line."""
    import torch

    if not (torch.version.cuda or torch.version.hip):
        return "this PyTorch is built for CPUs alone"
    try:
        torch.cuda.init()
    except Exception as error:  # a driver may fail in any way
        return _line(error)
    return "PyTorch sees no card; is CUDA_VISIBLE_DEVICES set?"


def _tried(check: Callable[[], str]) -> str:
    try:
        return check()
    except Exception as error:  # one failure hides no other row
        return f"fails: {_line(error)}"


def _line(error: Exception) -> str:
    """The first sentence of an error."""
    text = " ".join(str(error).split())
    return (text.split(". ")[0] or type(error).__name__)[:200]
