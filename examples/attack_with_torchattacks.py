"""Attack a stochastic spiking network with torchattacks.

robust-snn train --model snn_vgg5_stog --data digits --recipe at --eps 0.05 --out runs/digits
python examples/attack_with_torchattacks.py runs/digits/model.safetensors
"""

import sys

import timm

import robust_snn
from robust_snn.adapters import torchattacks
from robust_snn.victim import accuracy

weights = sys.argv[1] if len(sys.argv) > 1 else ""  # untrained without
net = timm.create_model(
    "snn_vgg5_stog", T=4, img_size=16, in_chans=1, num_classes=10, checkpoint_path=weights
)
data = robust_snn.data.load_dataset("digits", n=8)

# Mean logits of 8 draws, and a gradient that does not vanish: both live in the victim.
victim = robust_snn.adapt(net, gradient="bptt(surrogate=atan(alpha=2))", eot=8)
adversarial = torchattacks.attack(victim, "PGD", eps=0.1, alpha=0.02, steps=5)(
    data.images, data.labels
)

# Count on fresh noise: the draws that the attack saw say nothing.
for name, images in {"clean": data.images, "PGD": adversarial}.items():
    print(name, f"{accuracy(victim, images, data.labels, draws=20):.1%}")
