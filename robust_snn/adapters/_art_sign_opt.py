"""SignOPT whose directions are asked about together: a noisy victim's queries are many draws."""

from __future__ import annotations

import numpy as np
from art.attacks.evasion import SignOPTAttack


class BatchedSignOPT(SignOPTAttack):
    """ART's attack, with one call for the `k` directions of a gradient instead of `k` calls."""

    def _sign_grad(
        self,
        x_0: np.ndarray,
        y_0: int,
        epsilon: float,
        theta: np.ndarray,
        initial_lbd: float,
        target: int | None,
    ) -> tuple[np.ndarray, int]:
        directions = np.random.randn(self.k, *theta.shape).astype(np.float32)
        directions /= _lengths(directions)
        tried = theta + epsilon * directions
        points = x_0 + initial_lbd * tried / _lengths(tried)
        if self.enable_clipped:
            points = np.clip(points, self.clip_min, self.clip_max)
        answers = self.estimator.predict(points, batch_size=self.batch_size).argmax(1)
        crossed = answers == target if self.targeted else answers != y_0
        signs = np.where(crossed, -1, 1).astype(np.float32).reshape(-1, *[1] * theta.ndim)
        return (directions * signs).mean(0), self.k


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """Length of every vector `[N, ...]`, in a shape that divides them."""
    flat = np.linalg.norm(vectors.reshape(len(vectors), -1), axis=1)
    return flat.reshape(-1, *[1] * (vectors.ndim - 1)).astype(np.float32)
