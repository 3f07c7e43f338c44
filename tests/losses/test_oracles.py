"""Every loss in float64 against values and gradients of public reference implementations (numbers only: oracles.json).

``MMKD_ORACLES`` names another file of the same kind: more cases of the same losses run through the same table of calls.
"""
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from loss_oracles import CALLS

ORACLES = json.loads(Path(os.environ.get('MMKD_ORACLES', Path(__file__).with_name('oracles.json'))).read_text())
ORACLES = ORACLES.get('losses', ORACLES)  # the file as published has a head
CASES = [(loss, case) for loss, entry in ORACLES.items() for case in (entry if isinstance(entry, list) else entry['cases'])]


def array(spec):
    if spec.get('rng') != 'RandomState':
        return np.array(spec['values'], spec['dtype']).reshape(spec['shape'])
    generator = np.random.RandomState(spec['seed'])  # noqa: NPY002 (its stream is frozen)
    if spec['method'] == 'randint':
        return generator.randint(spec['low'], spec['high'], size=spec['shape'], dtype=spec['dtype'])
    return generator.standard_normal(spec['shape']) * spec.get('scale', 1.0) + spec.get('shift', 0.0)


def check(found, expected, name, rel):
    """A tensor against its summary: within ``rel`` of its largest entry."""
    found = found.detach()
    assert list(found.shape) == expected['shape'], name
    flat = found.reshape(-1)
    reference = torch.tensor(expected.get('values', expected.get('first')), dtype=torch.float64).reshape(-1)
    scale = max(flat.abs().max().item(), 1e-9)
    error = (flat[:len(reference)] - reference).abs().max().item()
    assert error <= rel * scale, f'{name}: {error / scale:.2e} of the largest entry'
    if 'l2' in expected:
        assert flat.norm().item() == pytest.approx(expected['l2'], rel=rel, abs=1e-12), name
        assert flat.sum().item() == pytest.approx(expected['sum'], rel=rel, abs=rel * max(1, expected['l2'])), name


@pytest.mark.parametrize(('loss', 'case'), [pytest.param(loss, case, id=f'{loss}-{case["name"]}') for loss, case in CASES])
def test_value_and_gradients_are_those_of_the_reference(loss, case):
    tensors = {kind: {name: torch.from_numpy(np.ascontiguousarray(array(spec))) for name, spec in case.get(kind, {}).items()}
               for kind in ('inputs', 'weights')}
    for name in case['grad']:
        tensors['inputs'][name].requires_grad_()
    for name in case.get('grad_weights', ()):
        tensors['weights'][name].requires_grad_()
    params = dict(case.get('params', {}), case=case['name'])
    found = CALLS[loss](tensors['inputs'], tensors['weights'], params, case['source'])
    value, parts, outputs = (*found, {}, {})[:3] if isinstance(found, tuple) else (found, {}, {})
    assert value.item() == pytest.approx(case['loss'], rel=1e-9)
    value.backward()
    for name, expected in case['grad'].items():
        check(tensors['inputs'][name].grad, expected, f'gradient of {name}', 1e-7)
    for name, expected in case.get('grad_weights', {}).items():
        gradient = tensors['weights'][name].grad
        if expected['l2'] > 1e-15:
            check(gradient, expected, f'gradient of {name}', 1e-7)
        else:  # a cancelled zero
            assert gradient is None or gradient.abs().max() < 1e-12, name
    for name, expected in case.get('parts', {}).items():
        assert parts[name].item() == pytest.approx(expected, rel=1e-9), name
    for name, expected in case.get('outputs', {}).items():
        check(outputs[name], expected, name, 1e-9)


def test_every_loss_of_the_reference_has_a_call_and_cases():
    assert {loss for loss, _ in CASES} <= set(CALLS)
    assert len(CALLS) == 32
