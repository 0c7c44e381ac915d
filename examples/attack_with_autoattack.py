"""AutoAttack on a stochastic spiking network, resumable; and a script that imports `autoattack`.

robust-snn train --model snn_vgg5_stog --data digits --recipe at --eps 0.05 --out runs/digits
python examples/attack_with_autoattack.py runs/digits/model.safetensors
"""

import sys
import tempfile
from pathlib import Path

import timm

import robust_snn
from robust_snn.adapters.autoattack import AutoAttack, autoattack
from robust_snn.victim import accuracy

weights = sys.argv[1] if len(sys.argv) > 1 else ""  # untrained without
net = timm.create_model(
    "snn_vgg5_stog", T=4, img_size=16, in_chans=1, num_classes=10, checkpoint_path=weights
)
data = robust_snn.data.load_dataset("digits", n=4)
victim = robust_snn.adapt(net, eot=2)

# `auto` knows that the victim is noisy. Leave the numbers out for a real evaluation.
with tempfile.TemporaryDirectory() as folder:
    result = autoattack(
        victim,
        data.images,
        data.labels,
        eps=0.1,
        version="auto",
        n_iter=2,
        n_queries=2,
        eot_iter=1,
        resume=Path(folder) / "run.safetensors",  # kill it, start it again
        progress=sys.stderr.isatty(),
    )
print(f"AutoAttack claims {result.claimed:.1%}; on fresh noise:")
for name, images in {**result.after, "strongest": result.strongest}.items():
    print(f"  {name} {accuracy(victim, images, data.labels):.1%}")

# A script written for github.com/fra31/auto-attack only changes its import.
adversary = AutoAttack(victim, norm="Linf", eps=0.1, version="custom", attacks_to_run=["apgd-ce"])
adversary.apgd.n_iter = 2
x_adv = adversary.run_standard_evaluation(data.images, data.labels, bs=4)
