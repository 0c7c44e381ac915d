"""Attack a stochastic spiking network with foolbox: at a fixed radius, and at the least one.

robust-snn train --model snn_vgg5_stog --data digits --recipe at --eps 0.05 --out runs/digits
python examples/attack_with_foolbox.py runs/digits/model.safetensors
"""

import sys

import foolbox
import timm

import robust_snn
from robust_snn.adapters.foolbox import attack, to_foolbox
from robust_snn.victim import accuracy

weights = sys.argv[1] if len(sys.argv) > 1 else ""  # untrained without
net = timm.create_model(
    "snn_vgg5_stog", T=4, img_size=16, in_chans=1, num_classes=10, checkpoint_path=weights
)
data = robust_snn.data.load_dataset("digits", n=8)
victim = robust_snn.adapt(net, gradient="bptr", eot=4)

# foolbox's own objects, on the victim
model = to_foolbox(victim)
_, clipped, claimed = foolbox.attacks.LinfPGD(steps=5)(
    model, data.images, data.labels, epsilons=[0.05, 0.1]
)
for eps, images, success in zip([0.05, 0.1], clipped, claimed, strict=True):
    print(
        f"LinfPGD at {eps}: claims {1 - success.float().mean():.1%} robust, "
        f"fresh noise says {accuracy(victim, images, data.labels):.1%}"
    )

# or by name: the generators and the modes of the net stay as they are
nearest = attack(victim, "LinfDeepFoolAttack", steps=10)(data.images, data.labels)
print("DeepFool's largest step:", float((nearest - data.images).abs().max()))
