"""Teachers that are plain modules: of torchvision, or of a user's file."""
from copy import deepcopy

import pytest
import torch
import torchvision
from resume_runs import differences, epochs_cfg, interrupted
from torch import nn
from zoo import batch, build, classifier, distilled, pspnet, retinanet, run, run_cfg

from mmkd_plugin.model.teacher_module import find_function
from mmkd_plugin.model.teacher_weights import hash_weights
from mmkd_plugin.utils.errors import DistillationError

L2 = 'mmkd.FeatureDistiller'
SHUFFLENET = dict(module='torchvision.models:shufflenet_v2_x0_5', mean=[.485, .456, .406], std=[.229, .224, .225])
RANDOM = dict(SHUFFLENET, allow_random_weights=True)
FILE = '''
from torch import nn

NUMBER = 3


class Small(nn.Module):
    def __init__(self, width=4, train=True):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.norm = nn.SyncBatchNorm(width)
        self.stage = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.head = nn.Linear(2 * width, 5)

    @classmethod
    def wide(cls):
        return cls(8)

    def forward(self, images):
        return self.head(self.stage(self.norm(self.stem(images))).mean((2, 3)))


def none():
    return None
'''


def taught(student, block, *pairs):
    cfg = distilled(student, one=dict(type=L2, pairs=list(pairs) or [('backbone.layer3', 'stage3')]))
    cfg['teacher'] = block
    return cfg


@pytest.fixture
def file(tmp_path):
    (tmp_path / 'mine.py').write_text(FILE)
    return tmp_path / 'mine.py'


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """The weights of a torchvision model in a file, as torchvision publishes them."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'shufflenet.pth'
    torch.save(torchvision.models.shufflenet_v2_x0_5().state_dict(), path)
    return path


@pytest.mark.parametrize('student', [pspnet(), retinanet(), classifier()], ids=['mmseg', 'mmdet', 'mmpretrain'])
def test_a_torchvision_teacher_gives_what_it_gives_on_normalised_images(student, weights):
    model = build(taught(student, dict(SHUFFLENET, checkpoint=str(weights)))).train()
    data = model.data_preprocessor(batch(student['_scope_']), True)
    reference = torchvision.models.shufflenet_v2_x0_5()
    reference.load_state_dict(torch.load(weights))
    kept = []
    reference.stage3.register_forward_hook(lambda *args: kept.append(args[2]))
    pixels = torch.stack(batch(student['_scope_'])['inputs']).float().flip(1) / 255  # blue first, as mm loads them
    mean, std = (torch.tensor(SHUFFLENET[name]).view(3, 1, 1) for name in ('mean', 'std'))
    reference.eval()((pixels - mean) / std)
    found = model.distillation.teacher.features(data['inputs'])['stage3']
    torch.testing.assert_close(found, kept[0], rtol=1e-4, atol=1e-5)
    losses = model(**deepcopy(data), mode='loss')
    losses['one.loss_layer3'].backward()
    assert all(parameter.grad.any() for parameter in model.distillation.parameters())
    held = model.distillation.teacher
    assert held.identity['sha256'] == hash_weights(reference)
    assert not held.model.training
    assert not any(parameter.requires_grad for parameter in held.model.parameters())


@pytest.mark.parametrize(('order', 'to_rgb', 'expected'), [
    ('rgb', True, [0, 1, 2]), ('rgb', False, [2, 1, 0]), ('bgr', True, [2, 1, 0]), ('bgr', False, [0, 1, 2]),
    ('student', True, [0, 1, 2]), ('student', False, [0, 1, 2])])
def test_the_order_of_the_channels_is_the_one_that_is_named(order, to_rgb, expected):
    student = classifier()
    student['data_preprocessor'].update(to_rgb=to_rgb, mean=[0.] * 3, std=[1.] * 3)
    model = build(taught(student, dict(RANDOM, channel_order=order, mean=[.0, .5, 1.], std=[1.] * 3)))
    pixels = torch.rand(1, 3, 64, 64) * 255
    held, seen = model.distillation.teacher, []
    held.model.conv1.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    held.features(pixels)
    torch.testing.assert_close(seen[0], pixels[:, expected] / 255 - torch.tensor([.0, .5, 1.]).view(1, 3, 1, 1))


def test_without_mean_and_std_it_sees_the_students_input():
    model = build(taught(classifier(), dict(module=SHUFFLENET['module'], allow_random_weights=True)))
    images, seen = torch.randn(1, 3, 64, 64), []
    model.distillation.teacher.model.conv1.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.distillation.teacher.features(images)
    assert torch.equal(seen[0], images)


def test_its_images_can_be_made_a_multiple_of_its_patches():
    model = build(taught(classifier(), dict(RANDOM, size_multiple=14)))
    images, seen = torch.randn(1, 3, 64, 100), []
    held = model.distillation.teacher
    held.model.conv1.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    held.features(images)
    assert seen[0].shape == (1, 3, 70, 112)
    expected = nn.functional.interpolate(held._renormalise(images), (70, 112), mode='bilinear')
    assert torch.equal(seen[0], expected)
    assert held.taps.info['stage3'].size == (5, 5)  # of 70 x 70: the dry run is at 64 x 64


def test_it_stops_at_its_deepest_tap_and_a_user_may_write_it(file):
    block = dict(module=f'{file}:Small', kwargs=dict(width=6), allow_random_weights=True)
    model = build(taught(classifier(), block, ('backbone.layer1', 'norm'), ('backbone.layer2', 'stage'))).train()
    held = model.distillation.teacher
    assert type(held.model.norm) is not nn.SyncBatchNorm
    calls = []
    for name in ('stem', 'stage', 'head'):
        getattr(held.model, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    model(**model.data_preprocessor(batch('mmpretrain'), True), mode='loss')
    assert calls == ['stem', 'stage']
    assert held.model.stage.out_channels == 12


def test_a_function_may_load_the_weights_itself(file):
    held = build(taught(classifier(), dict(module=f'{file}:Small.wide', checkpoint='module'),
                        ('backbone.layer1', 'stage'))).distillation.teacher
    assert held.identity['checkpoint'] == 'module'
    assert held.identity['sha256'] == hash_weights(held.model)
    assert held.model.stage.out_channels == 16


@pytest.mark.slow
def test_a_resumed_run_is_the_whole_one_and_its_checkpoint_holds_no_teacher(tmp_path, weights):
    model = taught(classifier(4), dict(SHUFFLENET, checkpoint=str(weights)))
    whole, resumed, losses, later = interrupted(lambda folder, **more: epochs_cfg(folder, model=model, **more), tmp_path,
                                                epoch=1)
    assert losses == later
    assert differences(whole, resumed) == []
    checkpoint = torch.load(tmp_path / 'half/epoch_1.pth', weights_only=False)
    assert set(checkpoint['state_dict']) == set(build(classifier(4)).state_dict())
    assert set(checkpoint['mmkd']['teacher']) == {'config', 'sha256', 'checkpoint'}
    assert 'shufflenet_v2_x0_5' in checkpoint['mmkd']['teacher']['config']


@pytest.mark.parametrize('student', [pspnet(), retinanet()], ids=['mmseg', 'mmdet'])
def test_one_of_torchvision_and_one_of_mm_distil_together(tmp_path, student, weights):
    cfg = taught(student, None, ('backbone.layer2', 'big:backbone.layer2'), ('backbone.layer3', 'other:stage3'))
    cfg.update(teacher=None, teachers=dict(big=dict(config=classifier(8), allow_random_weights=True),
                                           other=dict(SHUFFLENET, checkpoint=str(weights))))
    runner, losses = run(run_cfg(cfg, tmp_path, length=4))
    assert len(losses) == 2
    assert all(torch.isfinite(torch.tensor(list(loss.values()))).all() for loss in losses)
    state = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict']
    assert set(state) == set(build(student).state_dict())


ERRORS = {
    'no-module': (dict(RANDOM, module='torchvisio.models:resnet18'),
                  "^model.teacher.module: 'torchvisio.models' cannot be imported: there is no such module. Accepted"),
    'no-function': (dict(RANDOM, module='torchvision.models:resnet81'), "^model.teacher.module: 'resnet81' is not in "
                    "torchvision.models .*Did you mean 'resnet18'"),
    'no-callable': (dict(RANDOM, module='math:pi'), "^model.teacher.module: 'math:pi' is a float. Accepted: a function"),
    'no-name': (dict(RANDOM, module='torchvision.models'), "^model.teacher.module: 'torchvision.models'. Accepted: "
                '"package.module:function"'),
    'no-file': (dict(RANDOM, module='nowhere.py:f'), "^model.teacher.module: '.*nowhere.py' was not found"),
    'kwargs': (dict(RANDOM, kwargs=dict(depth=3)), r'^model.teacher.kwargs: cannot be built \(TypeError: .*depth'),
    'kwargs-list': (dict(RANDOM, kwargs=[1]), r'^model.teacher.kwargs: \[1\]. Accepted: a dict'),
    'no-nn-module': (dict(RANDOM, module='torch:zeros', kwargs=dict(size=[1])), '^model.teacher.module: .*makes a Tensor'),
    'no-checkpoint': (SHUFFLENET, "^model.teacher.checkpoint: is missing: a teacher with random weights teaches noise. "
                      "Accepted: a path or an http.* or 'module' where"),
    'lost-checkpoint': (dict(SHUFFLENET, checkpoint='x.pth'), "^model.teacher.checkpoint: 'x.pth' was not found"),
    'range': (dict(RANDOM, mean=[123.675, 116.28, 103.53]), r'^model.teacher.mean: \[123.675, .*numbers from 0 to 1'),
    'std': (dict(RANDOM, std=None), '^model.teacher.std: is missing: one goes with the other'),
    'lengths': (dict(RANDOM, std=[.2]), '^model.teacher: has 3 numbers in mean and 1 in std'),
    'order': (dict(RANDOM, mean=None, std=None, channel_order='rgb'), '^model.teacher.channel_order: .* no meaning'),
    'config': (dict(RANDOM, config=classifier()), "^model.teacher.config: 'config' is no key here.*Give one of the two"),
    'key': (dict(RANDOM, kwarg={}), "^model.teacher.kwarg: .*Did you mean 'kwargs'"),
    'tap': (dict(RANDOM, module='torchvision.models:resnet18'), r"pairs\[0\].teacher: 'stage3' is no module of the teacher"),
    'multiple': (dict(RANDOM, size_multiple=0), '^model.teacher.size_multiple: 0. Accepted: a whole number > 0'),
}


@pytest.mark.parametrize(('block', 'message'), ERRORS.values(), ids=ERRORS)
def test_a_wrong_block_is_one_error(block, message):
    with pytest.raises(DistillationError, match=message):
        build(taught(classifier(), block))


def test_a_checkpoint_of_another_module_is_refused(weights):
    block = dict(SHUFFLENET, module='torchvision.models:shufflenet_v2_x1_0', checkpoint=str(weights))
    with pytest.raises(DistillationError, match=r'^model.teacher.checkpoint: .*covers \d+ of the \d+ weights.*Is it the '
                       'checkpoint of model.teacher.module'):
        build(taught(classifier(), block))


def test_a_file_that_does_not_run_is_one_error(tmp_path):
    (tmp_path / 'broken.py').write_text('import no_such_package')
    with pytest.raises(DistillationError, match=r"broken.py:f' cannot be imported \(ModuleNotFoundError: No module named"):
        find_function(f'{tmp_path / "broken.py"}:f')


def test_what_makes_no_module_is_refused(file):
    with pytest.raises(DistillationError, match='^model.teacher.module: .*makes a NoneType, which is no nn.Module'):
        build(taught(classifier(), dict(module=f'{file}:none', allow_random_weights=True)))


class WithMore(nn.Linear):
    """Its state dict has something that is no tensor, as that of a quantised layer has."""

    def get_extra_state(self):
        return dict(scheme='x')


def test_what_is_no_tensor_in_a_state_dict_is_no_part_of_the_hash():
    torch.manual_seed(0)
    more, plain = WithMore(2, 3), nn.Linear(2, 3)
    plain.load_state_dict({name: value for name, value in more.state_dict().items() if isinstance(value, torch.Tensor)})
    assert hash_weights(more) == hash_weights(plain)
