"""The rules of `cifar10-covary` decide known truths, and its benchmark says what they say."""

import sys

import numpy as np
import pytest
from conftest import ROOT

from twophase.estimators import followed
from twophase.estimators.seeds import CannotSay
from twophase.study import studyfile
from twophase.writeup import claims

sys.path.insert(0, str(ROOT / "benchmarks"))
import covariation  # noqa: E402

RULES = claims.load(ROOT / "paper/claims.yaml")
STUDY = studyfile.load(covariation.STUDY)


@pytest.fixture(scope="module")
def pools():
    """Chaos times of five conditions whose last is six times the first, and kernels by slope."""
    names = covariation.DOSES["speed-follows-chaos"]
    forks = covariation.forks_of(STUDY, names)
    by = covariation.chaos(forks, covariation.medians(5, 6.0), 0.3, 0.15)
    kernels = {
        slope: covariation.kernels(STUDY, covariation.medians(5, 6.0**slope), 0.25, "speed")
        for slope in (0.0, 1.0)
    }
    return by, kernels


def test_a_kernel_that_follows_is_told_from_one_that_stays(pools):
    by, kernels = pools
    found = {
        slope: {
            covariation.follows(RULES, "speed-follows-chaos", kernels[slope], by, drawn, 0.9706)
            for drawn in covariation.draws(5, 8, 8)
        }
        for slope in kernels
    }
    assert found == {0.0: {"no"}, 1.0: {"yes"}}


def test_an_experiment_says_what_the_slope_says(pools):
    """The benchmark asks for two of the means that the interval is made of."""
    by, kernels = pools
    few = [own[:6] for own in by]
    for slope, own in kernels.items():
        drawn = np.arange(30).reshape(5, 6) % 6
        word = covariation.follows(RULES, "speed-follows-chaos", own, few, drawn, 0.9706)
        each = [covariation._contrast(pool, drawn) for pool in (own, few)]
        found = followed.slope(*each, 0.9706)
        assert word == ("yes" if found.low > 0.5 else "no" if found.high <= 0.5 else "open"), slope


def test_nothing_is_said_of_a_lever_that_moves_nothing(pools):
    _, kernels = pools
    names = covariation.DOSES["speed-follows-chaos"]
    by = covariation.chaos(covariation.forks_of(STUDY, names), covariation.medians(5, 1.0), 0.3, 0)
    drawn = next(covariation.draws(5, 8, 1))
    told = covariation.follows(RULES, "speed-follows-chaos", kernels[0.0], by, drawn, 0.9706)
    assert told == "open"
    with pytest.raises(CannotSay):
        followed.slope(*(covariation._contrast(p, drawn) for p in (kernels[0.0], by)), 0.9706)
