"""Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

from functools import partial

from twophase.optimizers import adam

STATE = adam.STATE
update = partial(adam.update, decoupled=True)
