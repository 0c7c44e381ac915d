"""Evaluate a SpikingJelly network: any gradient mode, its own neurons replaced and checked."""

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn

import robust_snn
from robust_snn.adapters.autoattack import autoattack

net = nn.Sequential(
    layer.Conv2d(1, 8, 3, padding=1),
    neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan()),
    layer.MaxPool2d(4),
    layer.Flatten(),
    layer.Linear(8 * 16, 10),
)
data = robust_snn.data.load_dataset("digits", n=16)

# A few steps of training, SpikingJelly's way.
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for _ in range(20):
    loss = nn.functional.cross_entropy(
        robust_snn.foreign.ForeignSNN(net, T=4)(data.images), data.labels
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

victim = robust_snn.adapt(net, T=4)
print("the net's own gradient:", victim.gradient)
for mode in ("bptt(surrogate=atan(alpha=2))", "bptr", "rga", "hart", "pdsg"):
    result = autoattack(
        victim.replace(gradient=mode),
        data.images,
        data.labels,
        eps=0.05,
        attacks=["apgd-ce"],
        n_iter=5,
    )
    print(f"APGD through {mode}: {result.claimed:.1%}")
print("neurons that could not be replaced:", victim.net.refusals or "none")
