"""What attacks know of an early exit: the packaged `snn_vgg5.digits`, made to stop when it is sure.

python studies/early_exit.py

PGD of 20 steps at eps = 0.1 follows each of the gradients of `robust_snn.models.early_exit`, and
their worst case is that of an image which no attack may break.
"""

from __future__ import annotations

import timm
import torch

from robust_snn import Victim
from robust_snn.attacks import PGD
from robust_snn.data import load_dataset
from robust_snn.models.early_exit import GRADIENTS, exit_steps

RULES = ("confidence(at=0.6)", "confidence(at=0.8)")
EPS, STEPS, IMAGES = 0.1, 20, 200


def main() -> None:
    torch.manual_seed(0)
    data = load_dataset("digits", n=IMAGES)
    print("| rule | clean | steps read | unaware | taken | aware | worst of both |")
    print("|---|---|---|---|---|---|---|")
    for rule in (None, *RULES):
        right = {}
        for gradient in GRADIENTS if rule else ("taken",):
            exits = {} if rule is None else {"early_exit": rule, "exit_gradient": gradient}
            net = timm.create_model("snn_vgg5.digits", pretrained=True, **exits).eval()
            victim = Victim(net)
            found = PGD(steps=STEPS, keep=1, select=1)(victim, data.images, data.labels, eps=EPS)
            with torch.no_grad():
                right[gradient] = victim(found.images).argmax(1) == data.labels
                clean = (victim(data.images).argmax(1) == data.labels).float().mean()
        read = "4" if rule is None else f"{exit_steps(net, data.images).float().mean():.2f}"
        shown = [
            f"{right[kind].float().mean():.1%}"
            for kind in ("unaware", "taken", "aware")
            if kind in right
        ]
        if rule:
            shown.append(f"{(right['taken'] & right['aware']).float().mean():.1%}")
        print(f"| {rule or 'none'} | {clean:.1%} | {read} | " + " | ".join(shown) + " |")


if __name__ == "__main__":
    main()
