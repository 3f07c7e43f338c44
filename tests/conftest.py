import random

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope, init_default_scope

import mmkd_plugin  # noqa: F401 (registers everything)


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (mm transforms draw from it)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def fresh_globals():
    """Every test starts without a current scope or a current iteration of an earlier one."""
    DefaultScope._instance_dict.clear()
    MessageHub._instance_dict.clear()


@pytest.fixture
def mmseg_scope():
    init_default_scope('mmseg')


@pytest.fixture
def mmdet_scope():
    init_default_scope('mmdet')


@pytest.fixture
def mmpretrain_scope():
    init_default_scope('mmpretrain')
