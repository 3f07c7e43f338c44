"""Losses by name: what does not count has no part in them, the block in each docstring works, mistakes are named."""
import copy
import inspect
import re
import textwrap

import pytest
import torch
import torch.nn.functional as F
from loss_tasks import CONFIGS
from torch import nn
from zoo import batch, build, distilled, pspnet

from mmkd_plugin.distiller import build_distiller
from mmkd_plugin.losses import Batch, FeatureLoss, LogitsLoss, Loss, LossConfig, build_loss, loss_names, masked_mean
from mmkd_plugin.losses.base import standardise
from mmkd_plugin.registry import MODELS
from mmkd_plugin.taps import TapInfo
from mmkd_plugin.utils.errors import DistillationError

FEATURES = sorted(loss_names(FeatureLoss))
LOGITS = sorted(loss_names(LogitsLoss))
WIDE = {'at', 'cirkd_pixel', 'crd', 'ifvd', 'nst', 'pkt', 'rkd_angle', 'rkd_distance', 'skd_pairwise', 'sp', 'vid'}
"""Those that compare maps of different widths."""


def samples(width=32):
    """Three images of 32 x ``width`` pixels with boxes and labels; what is further to the right is cut off."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData, PixelData
    found = []
    for number in range(3):
        sample = DetDataSample(metainfo=dict(img_shape=(32, width), sample_idx=number))
        sample.gt_instances = InstanceData(bboxes=torch.tensor([[2., 3, 12, 20], [1, 1, 13, 9]])[:number])
        labels = torch.randint(0, 4, (1, 32, 32), generator=torch.Generator().manual_seed(number))
        sample.gt_sem_seg = PixelData(sem_seg=labels[..., :width])
        found.append(sample)
    return found


def prepared(name, ours, theirs):
    """The loss in float64, its parameters (which may begin at 0) drawn."""
    loss = build_loss(CONFIGS.get(name, name), FeatureLoss)
    norm = nn.BatchNorm2d(theirs)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    loss.prepare(TapInfo('student', ours, None, None, 0), TapInfo('teacher', theirs, None, norm, 0))
    for parameter in loss.parameters():
        nn.init.normal_(parameter, std=0.3)
    return loss.double()


def value(loss, student, teacher, valid, given):
    torch.manual_seed(1)  # the masks that are drawn
    return copy.deepcopy(loss)(student, teacher, valid, given)  # a memory would have seen the batch before


def features(name):
    channels = (6, 8) if name in WIDE else (6, 6)
    return tuple(torch.randn(3, width, 8, 8, dtype=torch.float64) for width in channels)


@pytest.mark.parametrize('name', FEATURES)
def test_what_does_not_count_has_no_part_in_it_and_gets_no_gradient(name):
    student, teacher = features(name)
    loss = prepared(name, student.shape[1], teacher.shape[1])
    valid = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    valid[0, :, :, :4] = valid[1:, :, :5, :7] = True
    given = Batch(torch.zeros(3, 3, 32, 32), samples(), 0)
    other, others = (torch.where(valid, feature, 50.) for feature in (student, teacher))
    other.requires_grad_()
    others.requires_grad_()
    changed = value(loss, other, others, valid, given)
    torch.testing.assert_close(changed, value(loss, student, teacher, valid, given), rtol=1e-12, atol=0)
    changed.backward()
    assert changed.isfinite()
    assert (other.grad.masked_select(~valid) == 0).all()
    assert other.grad.masked_select(valid).abs().sum() > 0
    assert other.grad.isfinite().all()
    assert others.grad is None, 'the gradient reaches the student only'


# The pooled maps of 'hcl' and the second convolution of 'masked_generative' know where a map ends.
@pytest.mark.parametrize('name', sorted({*FEATURES} - {'hcl', 'masked_generative'}))
def test_padding_is_as_if_it_had_been_cut_off(name):
    student, teacher = features(name)
    loss = prepared(name, student.shape[1], teacher.shape[1])
    valid = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    valid[..., :4] = True
    padded = value(loss, student, teacher, valid, Batch(torch.zeros(3, 3, 32, 32), samples(), 0))
    cut = value(loss, student[..., :4], teacher[..., :4], None, Batch(torch.zeros(3, 3, 32, 16), samples(16), 0))
    torch.testing.assert_close(padded, cut, rtol=1e-10, atol=0)


@pytest.mark.parametrize('name', FEATURES)
def test_where_everything_counts_the_mask_changes_nothing(name):
    student, teacher = features(name)
    loss = prepared(name, student.shape[1], teacher.shape[1])
    given = Batch(torch.zeros(3, 3, 32, 32), samples(), 0)
    everything = torch.ones(3, 1, 8, 8, dtype=torch.bool)
    torch.testing.assert_close(value(loss, student, teacher, everything, given), value(loss, student, teacher, None, given),
                               rtol=1e-12, atol=0)


@pytest.mark.parametrize('name', FEATURES)
@pytest.mark.parametrize('kind', ['zero', 'one_cell', 'equal', 'nothing_counts'])
def test_degenerate_features_have_finite_gradients(name, kind):
    student, teacher = features(name)
    if kind == 'one_cell':
        student, teacher = (feature[:1, :, :1, :1] for feature in (student, teacher))
    elif kind == 'zero':
        student, teacher = torch.zeros_like(student), torch.zeros_like(teacher)
    elif kind == 'equal':
        student = teacher[:, :student.shape[1]].clone()
    loss = prepared(name, student.shape[1], teacher.shape[1])
    student = student.clone().requires_grad_()
    valid = torch.zeros(3, 1, 8, 8, dtype=torch.bool) if kind == 'nothing_counts' else None
    found = value(loss, student, teacher, valid, Batch(torch.zeros(3, 3, 32, 32), samples()[:len(student)], 0))
    found.backward()
    assert found.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('standardise', [False, True], ids=['plain', 'standardised'])
@pytest.mark.parametrize('name', sorted({*LOGITS} - {'mlkd'}))
def test_pixels_that_do_not_count_have_no_part_in_a_loss_of_scores(name, standardise):
    student, teacher = (torch.randn(2, 5, 4, 6, dtype=torch.float64) for _ in range(2))
    labels, valid = torch.randint(0, 5, (2, 4, 6)), torch.rand(2, 1, 4, 6) > 0.4
    loss = build_loss(dict(type=name, standardise=standardise), LogitsLoss)
    other = torch.where(valid, student, torch.randn_like(student) * 9).requires_grad_()
    found = loss(other, teacher, valid, labels)
    torch.testing.assert_close(found, loss(student, teacher, valid, labels), rtol=1e-12, atol=0)
    found.backward()
    assert (other.grad.masked_select(~valid) == 0).all()
    # The pixels that count, as a batch of images.
    ours, theirs = (scores.permute(0, 2, 3, 1)[valid.squeeze(1)] for scores in (student, teacher))
    torch.testing.assert_close(found, loss(ours, theirs, None, labels[valid.squeeze(1)]), rtol=1e-10, atol=0)


@pytest.mark.parametrize('name', LOGITS)
def test_standardised_scores_do_not_depend_on_shift_and_scale(name):
    student, teacher, labels = torch.randn(4, 6).double(), torch.randn(4, 6).double(), torch.randint(0, 6, (4,))
    loss = build_loss(dict(type=name, standardise=True), LogitsLoss)
    torch.testing.assert_close(loss(student * 7 + 3, teacher * 5 - 2, None, labels), loss(student, teacher, None, labels),
                               rtol=1e-5, atol=0)
    plain = build_loss(name, LogitsLoss)
    assert abs(plain(student * 7 + 3, teacher, None, labels) / plain(student, teacher, None, labels) - 1) > 0.01


@pytest.mark.parametrize('value', [0., .1, -7700.], ids=['zero', 'rounded', 'large'])
@pytest.mark.parametrize('shape', [(4, 5), (2, 5, 4, 6)], ids=['images', 'pixels'])
@pytest.mark.parametrize('name', sorted({*LOGITS} - {'mlkd'}))
def test_scores_that_are_all_equal_have_no_gradient_where_they_are_standardised(name, shape, value):
    """The formula's is 10 million times what comes from above."""
    student, teacher = torch.randn(shape), torch.randn(shape)
    student[0] = value
    student.requires_grad_()
    loss = build_loss(dict(type=name, standardise=True), LogitsLoss)
    found = loss(student, teacher, None, torch.zeros(shape[:1] + shape[2:], dtype=torch.long))
    found.backward()
    assert found.isfinite()
    assert (student.grad[0] == 0).all()
    assert student.grad[1:].abs().sum() > 0
    assert student.grad.abs().max() < 100


def test_standardising_is_the_formula_wherever_scores_differ():
    ours, theirs = (torch.randn(3, 6, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2))
    found = standardise(ours)
    expected = (theirs - theirs.mean(1, keepdim=True)) / (1e-7 + theirs.std(1, keepdim=True))
    assert torch.equal(found, expected)
    for scores in (found, expected):
        (scores * torch.arange(6.)).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)
    assert standardise(torch.full((1, 3), float('inf'))).isnan().all(), 'what is not finite is seen'


@pytest.mark.parametrize('name', FEATURES + LOGITS)
def test_the_docstring_names_the_source_and_ends_with_a_block_of_config_that_builds(name):
    kind = MODELS.get({**loss_names(FeatureLoss), **loss_names(LogitsLoss)}[name])
    text = inspect.getdoc(kind)
    block = re.search(r'In a config::\n\n((?:    .*\n?)+)$', text)[1]
    (key, distiller), = eval(f'dict({textwrap.dedent(block)})').items()
    built = build_distiller(key, distiller)
    family = FeatureLoss if name in FEATURES else LogitsLoss
    assert type(build_loss(built.options.loss, family)) is kind
    assert name in {'l1', 'cosine'} or re.search(r'(19|20)\d\d|CIRKDV2', text.split('\n\n')[0]), 'its paper'


@pytest.mark.parametrize(('loss', 'message'), [
    ('cdw', r"model.distillers.x.loss: 'cdw' is not known. Did you mean 'cwd'.*Accepted: .*'vid'"),
    ('mmkd.CWDLos', r"loss: 'mmkd.CWDLos' is not known. Did you mean 'mmkd.CWDLoss'"),
    ('kl', r"loss: 'kl' is not known"),
    ('mmkd.KLLoss', r"loss: 'mmkd.KLLoss' is no FeatureLoss"),
    ('', r"loss: '' is no FeatureLoss"),
    (3, r'loss: 3 is no FeatureLoss'),
    (dict(temperature=4.0), r'loss: .* has no type'),
    (dict(type='cdw'), r"loss.type: 'cdw' is not known. Did you mean 'cwd'"),
    (dict(type='cwd', temperature=0), r'loss.temperature: 0. Accepted: a number > 0'),
    (dict(type='mmkd.CWDLoss', tau=4), r"loss.tau: 'tau' is no key here")],
    ids=['short', 'registered', 'other_family', 'other_registered', 'empty', 'number', 'no_type', 'type', 'value', 'key'])
def test_a_mistake_names_the_key_and_the_nearest_loss(loss, message):
    with pytest.raises(DistillationError, match=message):
        build_distiller('x', dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss=loss))


@pytest.fixture
def huber(monkeypatch):
    """A user's own loss, as they would write it."""
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS.module_dict))  # no other test finds it there

    @MODELS.register_module()
    class HuberLoss(FeatureLoss):
        """Huber."""

        def forward(self, student, teacher, valid=None, batch=None):
            return masked_mean(F.huber_loss(student, teacher, reduction='none'), valid)

    return HuberLoss


@pytest.mark.parametrize('name', ['HuberLoss', 'mmkd.HuberLoss', 'class'])
def test_a_users_own_loss_distils(huber, name):
    loss = huber if name == 'class' else name
    hint = dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss=loss, mask_padding=True)
    model = build(distilled(pspnet(), hint=hint)).train()
    found = model(**model.data_preprocessor(batch('mmseg'), True), mode='loss')['hint.loss_layer4']
    found.backward()
    assert found > 0
    assert model.backbone.layer4[0].conv1.weight.grad.abs().sum() > 0


def test_a_users_own_loss_is_named_in_the_error_when_it_is_misspelt(huber):
    with pytest.raises(DistillationError, match=r"loss: 'HubrLoss' is not known. Did you mean 'HuberLoss'"):
        build_distiller('x', dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss='HubrLoss'))


def test_looking_at_an_option_builds_no_loss(huber, monkeypatch):
    built = []
    monkeypatch.setattr(Loss, '__init__', lambda self, **options: built.append(self))
    kind = LossConfig(FeatureLoss)
    assert kind.fits('HuberLoss')
    assert kind.fits(dict(type='cwd', temperature=2.0))
    assert not kind.fits(dict(type='cwd', temperature=0))
    assert not built


def test_a_users_own_loss_may_take_arguments_of_its_own(huber):
    class Scaled(huber):
        def __init__(self, factor=1.0):
            super().__init__()
            if factor <= 0:
                raise DistillationError(path='factor', given=factor, accepted='a number > 0')

    config = dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'])
    assert build_distiller('x', dict(config, loss=dict(type=Scaled, factor=2.0)))
    with pytest.raises(DistillationError, match=r'x.loss.factor: -1.0. Accepted: a number > 0'):
        build_distiller('x', dict(config, loss=dict(type=Scaled, factor=-1.0)))


def test_the_losses_are_those_that_the_documentation_counts():
    assert len(FEATURES) == 23
    assert LOGITS == ['dist', 'dkd', 'kl', 'mlkd', 'nkd', 'wsld']
    assert all(issubclass(MODELS.get(name), Loss) for family in (FeatureLoss, LogitsLoss)
               for name in loss_names(family).values())
