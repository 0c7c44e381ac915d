"""What a run computes: a function from (attack, shard) to a scored result, without any state."""

from __future__ import annotations

import copy
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from robust_snn.data.image_digests import DataDigests
from robust_snn.data.lazy_images import Images
from robust_snn.eval.execution.out_of_memory import in_parts
from robust_snn.eval.execution.shard_result import ShardResult
from robust_snn.eval.protocol.implementation import Crafted, CraftInputs
from robust_snn.eval.protocol.implementations import attacked_victim, implementation
from robust_snn.eval.protocol.suite import SOURCE, AttackSpec, Suite
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.eval.scoring.energy_use import measured_costs
from robust_snn.eval.scoring.noise_draws import Score, harder, score
from robust_snn.kernels import derive_seed
from robust_snn.utils.modules import device_name, device_of
from robust_snn.victim import Victim

CLEAN = "clean"  # in the place of an attack's name


def piece_name(number: int, attack: str, shard: int) -> str:
    """Name of the result of an attack, the `number`th of its suite from 1 on, on a shard."""
    return f"{number:02d}-{re.sub(r'[^A-Za-z0-9_-]', '_', attack)}/{shard:05d}"


def row_and_shard(name: str) -> tuple[int, int]:
    """Number of the attack and of the shard in a result's name; 0 for the clean images."""
    row, shard = name.split("/")
    return int(row.split("-")[0]) if row != CLEAN else 0, int(shard)


@dataclass(frozen=True)
class Job:
    """Everything that the numbers depend on.

    Attributes:
        victim: The victim, in eval mode.
        images: `[N, C, H, W]`; they may lie on disk.
        labels: `[N]`.
        suite: The protocol as it runs.
        threat: What an attack may do.
        seed: Seed of all noise and all attacks.
        batch_size: Images per shard, which are attacked together.
        source: Another network, from which attacks may transfer.
        classes: Number of classes, once it is known.
        bridged: The victim as attacks see it, where that is another than the one that is scored.
        digests: What identifies images and labels, once it is known.
    """

    victim: Victim
    images: Images
    labels: Tensor
    suite: Suite
    threat: Threat
    seed: int
    batch_size: int
    source: Victim | None = None
    classes: int | None = None
    bridged: Victim | None = None
    digests: DataDigests | None = None

    @property
    def attacked(self) -> Victim:
        """The victim as attacks see it."""
        return self.victim if self.bridged is None else self.bridged

    @property
    def measures_energy(self) -> bool:
        """Whether the suite attacks what inferences cost."""
        return any(row.implementation == "energy" for row in self.suite.attacks)

    @property
    def shards(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def ids(self, shard: int) -> np.ndarray:
        """Indices of a shard's images in the evaluated set."""
        start = shard * self.batch_size
        return np.arange(start, min(start + self.batch_size, len(self.images)))

    def identity(self, shard: int) -> str:
        """What identifies the images and labels of a shard, to which its results are bound."""
        assert self.digests is not None
        ids = self.ids(shard)
        known = [self.digests.images[i] for i in ids], self.labels[torch.from_numpy(ids)].tolist()
        return hashlib.sha256(repr(known).encode()).hexdigest()

    def names(self, shard: int) -> list[str]:
        """Names of a shard's results: the clean images, then the attacks in order."""
        rows = enumerate((row.name for row in self.suite.attacks), 1)
        return [f"{CLEAN}/{shard:05d}", *(piece_name(number, name, shard) for number, name in rows)]

    def on(self, device: str | torch.device) -> Job:
        """The same job with networks of its own on another device."""
        victim, *others = copy.deepcopy((self.victim, self.source, self.bridged))
        source, bridged = (None if net is None else net.to(device) for net in others)
        return replace(self, victim=victim.to(device), source=source, bridged=bridged)

    def clean(self, shard: int) -> ShardResult:
        """Scores the clean images of a shard."""
        ids = self.ids(shard)
        return self._timed(self._clean, ids, np.arange(len(ids)))

    def attack(
        self, row: AttackSpec, shard: int, positions: np.ndarray, worst: np.ndarray | None = None
    ) -> ShardResult:
        """Attacks some images of a shard, checks and scores what comes back.

        Args:
            row: The attack.
            shard: Number of the shard.
            positions: The images to attack, as rows of the shard; at least one.
            worst: The worst version so far of every image of the shard, `[n, C, H, W]`, for a row
                that needs it.
        """
        work = partial(self._attack, row, worst)
        return self._timed(work, self.ids(shard)[positions], positions)

    def flaw(self, positions: np.ndarray, result: ShardResult) -> str | None:
        """What a result that was read cannot be, if it is none that this job gives.

        Args:
            positions: The images that it should be of, as rows of their shard.
            result: What was read.
        """
        draws = self.suite.draws
        return result.flaw(positions, draws.select, draws.report, self.classes)

    def _timed(
        self, work: Callable[[np.ndarray], ShardResult], ids: np.ndarray, positions: np.ndarray
    ) -> ShardResult:
        started = time.perf_counter()
        parts = in_parts(lambda start, stop: work(ids[start:stop]), 0, len(ids))
        seconds = time.perf_counter() - started
        where = device_name(device_of(self.victim))
        return replace(ShardResult.join(parts), positions=positions, seconds=seconds, device=where)

    def _clean(self, ids: np.ndarray) -> ShardResult:
        images, labels = self._batch(ids)
        select, report = (self._score(images, labels, ids, p) for p in ("select", "report"))
        return ShardResult(
            positions=ids,
            images=np.empty((0, *images.shape[1:]), np.float32),
            select=select.accuracy,
            margin=select.margin,
            predictions=report.predictions,
            tied=report.tied,
            claimed_robust=np.ones(len(ids), bool),
            costs=self._costs(images, ids),
        )

    def _attack(self, row: AttackSpec, worst: np.ndarray | None, ids: np.ndarray) -> ShardResult:
        images, labels = self._batch(ids)
        first = int(ids[0]) // self.batch_size * self.batch_size
        # neither depends on which images the rows before have left
        seed, batch_seed = (derive_seed(self.seed, "attack", row.name, at) for at in (0, first))
        attacker = attacked_victim(self.attacked, row, batch_seed)
        row = self._sourced(row, attacker)
        if row.needs_worst and worst is not None:
            start = torch.from_numpy(worst[ids - first]).to(images.device)
            row = replace(row, options={**row.options, "start": start})
        runs = implementation(row)
        if runs.given is None:
            of, threat = torch.from_numpy(ids), self.threat
            asked = CraftInputs(attacker, images, labels, row, threat, seed, of, batch_seed)
            crafted = runs.craft(asked)
        else:
            versions = runs.given.versions(torch.from_numpy(ids), images)
            with torch.no_grad():
                crafted = Crafted((versions,), attacker(versions).argmax(1) == labels)
        cost = replace(attacker.cost)
        for candidate in crafted.candidates:
            self.threat.check(candidate, images, row.name)
        adversarial, select = self._hardest(crafted.candidates, labels, ids, row)
        report = self._score(adversarial, labels, ids, "report", row)
        return ShardResult(
            positions=ids,
            images=adversarial.cpu().numpy(),
            select=select.accuracy,
            margin=select.margin,
            predictions=report.predictions,
            tied=report.tied,
            claimed_robust=crafted.claimed_robust.cpu().numpy(),
            forwards=cost.forwards,
            backwards=cost.backwards,
            warnings=crafted.warnings,
            costs=self._costs(adversarial, ids),
        )

    def _sourced(self, row: AttackSpec, attacker: Victim) -> AttackSpec:
        """The row with the source that it asks for, whose passes count as the attacker's."""
        if self.source is None or not row.needs_source:
            return row
        source = self.source.replace(cost=attacker.cost)
        given = {key: source for key, value in row.options.items() if value == SOURCE}
        return replace(row, options={**row.options, **given})

    def _hardest(
        self, candidates: Sequence[Tensor], labels: Tensor, ids: np.ndarray, row: AttackSpec
    ) -> tuple[Tensor, Score]:
        """The version of every image that the select draws find hardest, and its score."""
        scores = [self._score(images, labels, ids, "select", row) for images in candidates]
        best, chosen = scores[0], candidates[0].clone()
        for images, other in zip(candidates[1:], scores[1:], strict=True):
            at = harder(other.accuracy, other.margin, best.accuracy, best.margin)
            mask = torch.from_numpy(at).to(chosen.device)
            chosen[mask] = images[mask]
            best = Score(
                np.where(at[:, None], other.predictions, best.predictions),
                np.where(at[:, None], other.tied, best.tied),
                np.where(at, other.accuracy, best.accuracy),
                np.where(at, other.margin, best.margin),
            )
        return chosen, best

    def _batch(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(ids)
        device = device_of(self.victim)
        return self.images[rows].to(device), self.labels[rows].to(device)

    def _score(
        self,
        images: Tensor,
        labels: Tensor,
        ids: np.ndarray,
        purpose: str,
        attack: AttackSpec | None = None,
    ) -> Score:
        draws = getattr(self.suite.draws, purpose)
        rows = torch.from_numpy(ids).to(images.device)
        judge = self._judge
        if attack is not None and (corrupted := implementation(attack).judge) is not None:
            judge = corrupted(judge, attack)
        return score(judge, images, labels, rows, draws=draws, purpose=purpose)

    def _costs(self, images: Tensor, ids: np.ndarray) -> np.ndarray:
        if not self.measures_energy:
            return np.empty((0, 3))
        return measured_costs(self._judge, images, torch.from_numpy(ids).to(images.device))

    @cached_property
    def _judge(self) -> Victim:
        return self.victim.replace(seed=derive_seed(self.seed, "score"))
