"""Spiking backbones; importing this room registers them in timm."""

from robust_snn.models import snn_vgg, snn_wrn
from robust_snn.models.backbone import SpikingBackbone
from robust_snn.models.create import create_network
from robust_snn.models.mechanisms import MECHANISMS

__all__ = ["MECHANISMS", "SpikingBackbone", "create_network", "snn_vgg", "snn_wrn"]
