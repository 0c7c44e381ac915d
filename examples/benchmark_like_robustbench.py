"""RobustBench's `benchmark` on a spiking network, without installing RobustBench.

robust-snn train --model snn_vgg5_stog --data digits --recipe at --eps 0.05 --out runs/digits
python examples/benchmark_like_robustbench.py runs/digits/model.safetensors
"""

import sys

import timm

import robust_snn
from robust_snn.adapters.robustbench import benchmark, submission_card

weights = sys.argv[1] if len(sys.argv) > 1 else ""  # untrained without
net = timm.create_model(
    "snn_vgg5_stog", T=4, img_size=16, in_chans=1, num_classes=10, checkpoint_path=weights
)
victim = robust_snn.adapt(net)

# Leave the last three numbers out for a real evaluation.
accuracies = benchmark(
    victim, 4, "digits", "Linf", eps=0.1, attacks=["apgd-ce"], n_iter=2, eot_iter=1
)
print(submission_card("My spiking network", victim, "digits", "Linf", 0.1, accuracies, 4))
