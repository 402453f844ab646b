"""Accounts of simulated cases, whose truth they know about as well as a cascade's do."""

import dataclasses

import numpy as np

from cascade_jax.account import APPEARANCE, Account, TargetAccount
from cascade_jax.training.calibrating import Known


def target_account(dice=0.9, ml=10.0, highest=0.99, **changes):
    account = TargetAccount(dice, ml, ml, ml, highest, dice, dice)
    return dataclasses.replace(account, **changes)


def account(myocardium=None, infarction=None, no_reflow=None, appearance=0.0):
    """An account; appearance is how far every number of it lies from the others' mean, in standard deviations."""
    targets = {
        "myocardium": myocardium or target_account(ml=100.0),
        "infarction": infarction or target_account(),
        "no_reflow": no_reflow or target_account(ml=1.0),
    }
    return Account(targets, dict.fromkeys(APPEARANCE, appearance))


def simulated_cases(count, seed=0, *, informative=True):
    """Cases a third of which have no infarct and half no no-reflow.

    The cascade misses most of less than 1 ml, draws three false infarcts in ten, and errs in size by a factor. How sure
    it is says how good it is, unless not informative.
    """
    random = np.random.default_rng(seed)
    cases = []
    for _ in range(count):
        quality = random.beta(6, 2)
        targets, dice, truth = {}, {}, {}
        infarcted = random.random() < 0.67
        true_ml = {
            "myocardium": 90 * np.exp(0.2 * random.normal()),
            "infarction": infarcted * 12 * np.exp(0.8 * random.normal()),
            "no_reflow": infarcted * (random.random() < 0.6) * 2 * np.exp(0.8 * random.normal()),
        }
        for target, ml in true_ml.items():
            said = quality if informative else random.beta(6, 2)
            drawn = ml * np.exp(0.25 * random.normal()) if ml > 1 else random.exponential(1.5) * (random.random() < 0.3)
            overlap = quality**0.3 if target == "myocardium" else quality
            sure = 0.8 + 0.2 * said + 0.01 * random.normal()
            highest = random.beta(9, 1) if ml > 1 else random.beta(4, 2) if drawn else random.beta(2, 4)
            targets[target] = TargetAccount(sure, 0.9 * drawn + 0.1, drawn, drawn, highest, sure, sure - 0.1)
            dice[target], truth[target] = (overlap if ml and drawn else float(not ml and not drawn)), float(ml)
        appearance = dict(zip(APPEARANCE, random.normal(size=len(APPEARANCE)), strict=True))
        cases.append(Known(Account(targets, appearance), dice, truth))
    return cases


def folds(count, of=5):
    """The positions of `count` cases in folds."""
    return [list(range(fold, count, of)) for fold in range(of)]
