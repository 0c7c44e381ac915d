"""Spiking backbones; importing this room registers them in timm."""

from robust_snn.models import (
    snn_cifarnet,
    snn_msresnet,
    snn_qkformer,
    snn_resformer,
    snn_resnet,
    snn_sdt,
    snn_sdt3,
    snn_sew,
    snn_spikformer,
    snn_vgg,
    snn_vggsnn,
    snn_wrn,
)
from robust_snn.models.backbone import SpikingBackbone
from robust_snn.models.convert import Conversion, convert, load_released
from robust_snn.models.create import create_network, fitted_kwargs, recorded_kwargs
from robust_snn.models.mechanisms import MECHANISMS

__all__ = [
    "MECHANISMS",
    "Conversion",
    "SpikingBackbone",
    "convert",
    "create_network",
    "fitted_kwargs",
    "load_released",
    "recorded_kwargs",
    "snn_cifarnet",
    "snn_msresnet",
    "snn_qkformer",
    "snn_resformer",
    "snn_resnet",
    "snn_sdt",
    "snn_sdt3",
    "snn_sew",
    "snn_spikformer",
    "snn_vgg",
    "snn_vggsnn",
    "snn_wrn",
]
