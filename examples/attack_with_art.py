"""A spiking network in an existing ART script: three lines differ from one for any other network.

robust-snn train --model snn_vgg5_stog --data digits --recipe at --eps 0.05 --out runs/digits
python examples/attack_with_art.py runs/digits/model.safetensors
"""

import sys

import numpy as np
import timm
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier  # noqa: F401  what the script used

import robust_snn
from robust_snn.adapters.art import to_art  # 1: one import more

weights = sys.argv[1] if len(sys.argv) > 1 else ""  # untrained without
data = robust_snn.data.load_dataset("digits", n=8)
x_test, y_test = data.images.numpy(), np.eye(10, dtype=np.float32)[data.labels]

model = timm.create_model(
    "snn_vgg5_stog", T=4, img_size=16, in_chans=1, num_classes=10, checkpoint_path=weights
)
victim = robust_snn.adapt(model, eot=4)  # 2: averaging and gradient mode
# classifier = PyTorchClassifier(model, torch.nn.CrossEntropyLoss(), (1, 16, 16), 10)
classifier = to_art(victim, input_shape=(1, 16, 16), loss=torch.nn.CrossEntropyLoss())  # 3

for attack in (
    FastGradientMethod(classifier, eps=0.1),
    ProjectedGradientDescent(classifier, eps=0.1, eps_step=0.02, max_iter=5, verbose=False),
):
    x_adv = attack.generate(x_test, y_test)
    predictions = classifier.predict(x_adv).argmax(1)
    print(type(attack).__name__, f"{(predictions == y_test.argmax(1)).mean():.1%}")
