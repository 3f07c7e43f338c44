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


def lacking(error):
    """What this environment lacks, where an error comes from that: an operator of mmcv, float16 on a CPU; else None."""
    while error is not None:
        if type(error).__name__ == 'MissingOperatorError':  # by name: the placeholder may be a copy beside mmcv
            return str(error).split(',')[0]
        if 'AutocastCPU only support Bfloat16' in str(error):
            return 'this torch has no autocast in float16 on a CPU'
        error = error.__cause__ or error.__context__
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that needs what this environment cannot have is skipped, and says what."""
    report = yield
    missing = lacking(call.excinfo and call.excinfo.value)
    if missing and report.failed:
        report.outcome, report.longrepr = 'skipped', (str(item.path), item.location[1] or 0, f'Skipped: {missing}')
    return report


@pytest.fixture
def mmseg_scope():
    init_default_scope('mmseg')


@pytest.fixture
def mmdet_scope():
    init_default_scope('mmdet')


@pytest.fixture
def mmpretrain_scope():
    init_default_scope('mmpretrain')
