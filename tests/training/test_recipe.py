"""Recipes: what ships loads, and what no training could use is refused by name."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from torch import nn

from robust_snn import InputError
from robust_snn.training import Recipe, load_recipe
from robust_snn.training.optim import build_optimizer
from robust_snn.training.recipe import shipped


@pytest.mark.parametrize("name", shipped())
def test_shipped(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.source
    assert Recipe(**asdict(recipe)) == recipe


def test_fractions_and_overrides() -> None:
    recipe = load_recipe("at")
    assert recipe.eps == 2 / 255
    assert recipe.replace(eps="8/255", epochs=3, lr=None).eps == 8 / 255
    assert recipe.replace(lr="1e-3").lr == 1e-3
    assert recipe.replace(alpha=None).alpha is None
    with pytest.raises(InputError, match="did you mean 'epochs'"):
        recipe.replace(epoch=3)


def test_the_perturbation_may_change_at_an_epoch() -> None:
    recipe = load_recipe("at").replace(perturbation="none,fgsm@3,pgd@5")
    kinds = [recipe.perturbation_in(epoch) for epoch in range(1, 7)]
    assert kinds == ["none", "none", "fgsm", "fgsm", "pgd", "pgd"]
    for wrong, message in (
        ("none,fgsm", "a form such as"),
        ("none@2", "a form such as"),
        ("none,fgsm@x", "a form such as"),
        ("none,fgsm@1", "must rise"),
        ("none,fgsm@4,pgd@4", "must rise"),
        ("none,fgms@2", "did you mean 'fgsm'"),
    ):
        with pytest.raises(InputError, match=message):
            recipe.replace(perturbation=wrong)


def test_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{name: mine, source: me, perturbation: rfgsm, eps: 8/255, alpha: 2/255}")
    assert load_recipe(path).alpha == 2 / 255


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name: a, source: b, learning_rate: 1}", "unknown key of recipe .*known: .*lr"),
        ("{name: a, source: b, epoch: 1}", "did you mean 'epochs'"),
        ("{name: a}", "needs 'source'"),
        ("[1, 2]", "must be a mapping"),
        ("{a: [", "is not YAML"),
        ("!!python/object/apply:os.system ['false']", "is not YAML"),
        ("{name: a, source: b, epochs: 0}", "epochs .* must be at least 1, got 0"),
        ("{name: a, source: b, epochs: 1.5}", "epochs .* must be a whole number, got 1.5"),
        ("{name: a, source: b, epochs: true}", "epochs .* must be a whole number, got True"),
        ("{name: a, source: b, augment: 1}", "augment .* must be true or false, got 1"),
        ("{name: a, source: b, lr: fast}", "lr .* must be a number .* got 'fast'"),
        ("{name: a, source: b, lr: .nan}", "lr .* must be a number"),
        ("{name: a, source: b, lr: 0}", "lr of recipe"),
        ("{name: a, source: b, eps: -1/255}", r"eps .* must be in \[0, 1\]"),
        ("{name: a, source: b, eps: 8}", r"eps .* must be in \[0, 1\], got 8"),
        ("{name: a, source: b, eps: 1/0}", "eps .* must be a number"),
        (
            "{name: a, source: b, perturbation: rfgsm, eps: 0.1, alpha: 0.2}",
            "alpha .* must be at most eps",
        ),
        ("{name: a, source: b, min_lr: 1}", "min_lr .* must be at most lr"),
        ("{name: a, source: b, epochs: 2, warmup_epochs: 2}", "fewer than its 2 epochs"),
        ("{name: a, source: b, optimizer: adamm}", "did you mean 'adam'"),
        ("{name: a, source: b, loss: tte}", "did you mean 'tet'"),
        ("{name: a, source: b, distance: ms_mpd}", "did you mean 'ms_mppd'"),
        ("{name: a, source: b, guard_kind: tog}", "did you mean 'tgo'"),
        ("{name: a, source: b, loss: rte}", "loss .* is rte, which is about perturbations"),
        ("{name: a, source: b, precision: fp16}", "unknown precision"),
        (
            "{name: a, source: b, perturbation: pgd, eps: 0.1, trades: 6, rho: 1}",
            "leave rho and clean_share 0",
        ),
        ("{name: a, source: b, perturbation: fgms}", "did you mean 'fgsm'"),
        ("{name: a, source: b, gradient: bpttt}", "did you mean 'bptt'"),
        ("{name: a, source: b, perturbation: fgsm}", "perturbation .* is fgsm, but eps is 0"),
        ("{name: a, source: b, perturbation: 'none,pgd@3'}", "perturbation .* is pgd, but eps is"),
        ("{name: a, source: b, eps: 8/255}", "eps .* does nothing without a perturbation"),
        ("{name: a, source: b, rho: 1}", "rho .* does nothing without a perturbation"),
        ("{name: a, source: b, trades: 6}", "trades .* does nothing without a perturbation"),
        ("{name: a, source: b, clean_share: 0.5}", "clean_share .* does nothing"),
        (
            "{name: a, source: b, epochs: 3, eps: 0.1, perturbation: 'none,fgsm@9'}",
            "fgsm@9 .* never begins in 3 epochs",
        ),
    ],
)
def test_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load_recipe(path)
    assert "\n" not in str(error.value)


def test_a_warm_up_begins_above_zero() -> None:
    """The rate grows by the same amount in every step, the first included."""
    recipe = load_recipe("natural").replace(epochs=3, lr=0.6, warmup_epochs=1)
    optimizer, schedule = build_optimizer(nn.Linear(2, 2), recipe, steps=5)
    rates = []
    for step in range(1, 7):
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step_update(step)
    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5]) and rates[5] > 0.4


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sr", {"perturbation": "fgsm"}),
        ("certified", {"eps": 0}),
        ("certified", {"certified": 0}),
        ("natural", {"perturbation": "pgd"}),
        ("natural", {"eps": "8/255"}),
        ("at", {"eps": 0}),
        ("at", {"epochs": 3, "perturbation": "none,fgsm@9"}),
        ("trades", {"perturbation": "none"}),
        ("stable-gaussian", {"perturbation": "none", "eps": 0}),
    ],
)
def test_changes_without_effect_are_refused(name: str, changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match="does nothing|eps is 0|never begins"):
        load_recipe(name).replace(**changes)


# What each setting needs, as changes of a recipe that give it an effect.
NEEDS: dict[str, tuple[object, dict[str, object]]] = {
    "alpha": (0.001, {"perturbation": "rfgsm", "eps": 0.1}),
    "steps": (20, {"perturbation": "pgd", "eps": 0.1}),
    "gradient": ("bptr", {"perturbation": "fgsm", "eps": 0.1}),
    "eot": (4, {"perturbation": "fgsm", "eps": 0.1}),
    "perturbation_precision": ("bf16", {"perturbation": "fgsm", "eps": 0.1}),
    "distance": ("std", {"perturbation": "fgsm", "eps": 0.1, "rho": 1.0, "trades": 0}),
    "guard_kind": ("mpd_sgr", {"guard": 0.1}),
    "guard_margin": (0.2, {"guard": 0.1}),
    "sr_squared": (False, {"sr": 0.1}),
    "tet_weight": (0.3, {"loss": "tet"}),
    "momentum": (0.5, {"optimizer": "sgd"}),
    "check_eps": (0.2, {"check_every": 1}),
    "gate_penalty": (1e-4, {"gate_share": 0.5}),
    "gate_opening": (0.4, {"gate_share": 0.5}),
}
WITHOUT: dict[str, dict[str, object]] = {
    "distance": {"rho": 0},
    "guard_kind": {"guard": 0},
    "guard_margin": {"guard": 0},
    "sr_squared": {"sr": 0},
    "tet_weight": {"loss": "ce"},
    "momentum": {"optimizer": "adam"},
    "check_eps": {"check_every": 0},
    "gate_penalty": {"gate_share": 0},
    "gate_opening": {"gate_share": 0},
}
CLEAN = {
    "perturbation": "none",
    "eps": 0,
    "rho": 0,
    "trades": 0,
    "clean_share": 0,
    "certified": 0,
    "loss": "ce",
}


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("setting", NEEDS)
def test_every_setting_of_every_recipe_needs_what_reads_it(name: str, setting: str) -> None:
    value, needed = NEEDS[setting]
    base = load_recipe(name)
    if setting == "gate_opening" and base.gate_penalty is not None:
        with pytest.raises(
            InputError, match="gate_opening .* does nothing beside its gate_penalty"
        ):
            base.replace(**needed, gate_opening=value)
        return
    assert getattr(base.replace(**needed, **{setting: value}), setting) == value
    without = WITHOUT.get(setting, CLEAN)
    with pytest.raises(InputError, match=f"^{setting} of recipe '{name}' does nothing without"):
        base.replace(**without, **{setting: value})
    assert getattr(base.replace(**without), setting) == getattr(Recipe, setting)  # not on a card


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("at", {"perturbation": "rfgsm", "alpha": 0}, "alpha .* is 0, which is no step"),
        ("at", {"perturbation": "rfgsm", "alpha": "2/255"}, "alpha .* leaves no step along"),
        ("at", {"clean_share": 1}, "does nothing where clean_share is 1"),
        ("at", {"perturbation": "fgsm,fgsm@3"}, "fgsm@3 .* does nothing after fgsm"),
        ("at", {"check_every": 1, "check_eps": 0}, "check_every .* does nothing where check_eps"),
        ("trades", {"released": True}, "released .* follows no script"),
        ("natural", {"epochs": 3, "gate_share": 0.1}, "gate_share .* is no whole one of 3 epochs"),
        ("certified", {"epochs": 2, "certified": 1, "sr": 1}, "sr .* does nothing where certified"),
        (
            "certified",
            {"epochs": 2, "certified": 1, "perturbation": "fgsm"},
            "perturbation .* does nothing where certified is 1",
        ),
    ],
)
def test_more_changes_without_effect(name: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe(name).replace(**changes)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rat", {"cutout": 0, "epochs": 200}),
        ("stog-rat", {"cutout": 16, "retraction": 5e-4}),
        ("stable-gaussian", {"cutout": 16, "perturbation": "gaussian_released", "rho": 1}),
        ("stable-at", {"cutout": 16, "perturbation": "rfgsm_released"}),
        ("nsnn-stbp", {"cutout": 0, "epochs": 300, "lr": 3e-3, "loss": "tet", "tet_weight": 0}),
        ("nsnn-tet", {"cutout": 0, "epochs": 300, "lr": 3e-3, "tet_weight": 0.05}),
    ],
)
def test_released_takes_over_what_the_script_says(name: str, expected: dict[str, object]) -> None:
    recipe = load_recipe(name).replace(released=True)
    assert {key: getattr(recipe, key) for key in expected} == expected
    assert load_recipe(name).replace(released=True, cutout=4, epochs=7).cutout == 4


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown recipe 'natual': did you mean 'natural'"):
        load_recipe("natual")
    with pytest.raises(InputError, match="cannot read the recipe"):
        load_recipe(tmp_path / "none.yaml")
