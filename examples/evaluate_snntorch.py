"""Evaluate an snnTorch network. Nets that loop over time themselves need no `T`."""

import snntorch as snn
from torch import nn

import robust_snn
from robust_snn.adapters import torchattacks

net = nn.Sequential(
    nn.Flatten(),
    nn.Linear(256, 64),
    snn.Leaky(beta=0.9, init_hidden=True),
    nn.Linear(64, 10),
    snn.Leaky(beta=0.9, init_hidden=True, output=True),
)
data = robust_snn.data.load_dataset("digits", n=16)
victim = robust_snn.adapt(net, T=8, readout="sum")  # load your weights first
print("the net's own gradient:", victim.gradient)

for mode in ("bptt(surrogate=fast_sigmoid(slope=25),detach_reset=true)", "bptr", "hart"):
    view = victim.replace(gradient=mode)
    images = torchattacks.attack(view, "PGD", eps=0.05, steps=5)(data.images, data.labels)
    print(f"PGD through {mode}: {(victim(images).argmax(1) == data.labels).float().mean():.1%}")
