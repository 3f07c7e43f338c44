"""Each loss distils a real model of the task it is for: one step, gradients on the student only, also in half precision."""
import pytest
import torch
from loss_tasks import FEATURES, LOGITS, distiller
from zoo import STUDENTS, batch, build, distilled, pspnet, retinanet

from mmkd_plugin.distiller import Batch
from mmkd_plugin.losses import FeatureLoss, LogitsLoss, loss_names
from mmkd_plugin.utils.errors import DistillationError


def named(cases):
    return [pytest.param(*case, id=f'{case[1]}-{case[0]}') for case in cases]


def step(scope, x, images=3):
    """One training forward and backward of the distiller's loss alone; (model, loss)."""
    model = build(distilled(STUDENTS[scope](), x=x)).train()
    losses = model(**model.data_preprocessor(batch(scope, images), True), mode='loss')
    loss = sum(value for name, value in losses.items() if name.startswith('x.'))
    loss.backward()
    return model, loss


def check(scope, x):
    """A step in float32, and one in bfloat16."""
    model, loss = step(scope, x)
    assert loss.isfinite()
    assert model.backbone.layer3[0].conv1.weight.grad.abs().sum() > 0
    own = list(model.distillation.x.parameters())
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in own)
    check_half(scope, x, torch.bfloat16)


def check_half(scope, x, dtype):
    with torch.autocast('cpu', dtype):
        model, loss = step(scope, x)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    # Small gradients of a loss that no scaler has made larger may vanish in float16; none becomes infinite.
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize(('scope', 'name', 'tap'), named(FEATURES))
def test_a_loss_between_features_trains_the_student_and_what_it_has_of_its_own(scope, name, tap):
    check(scope, distiller(name, tap))


@pytest.mark.parametrize(('scope', 'name', 'tap'), named(LOGITS))
def test_a_loss_between_scores_trains_the_student(scope, name, tap):
    check(scope, {**distiller(name, tap), 'loss': dict(type=name, standardise=True)})


@pytest.mark.slow
@pytest.mark.parametrize(('scope', 'name', 'tap'), named(FEATURES + LOGITS))
def test_a_step_in_float16_is_finite(scope, name, tap):
    check_half(scope, distiller(name, tap), torch.float16)


def test_every_loss_has_a_task_here():
    assert {name for _, name, _ in FEATURES} == set(loss_names(FeatureLoss))
    assert {name for _, name, _ in LOGITS} == set(loss_names(LogitsLoss))


@pytest.mark.parametrize('name', ['kl', 'dkd', 'nkd', 'wsld', 'dist'])
def test_ignored_pixels_have_no_part_in_the_scores_loss(name):
    model = build(distilled(pspnet(), kd=dict(type='mmkd.LogitsDistiller', pairs=['decode_head.conv_seg'], loss=name)))
    data = model.data_preprocessor(batch('mmseg'), True)  # the uppermost 8 rows of every label are 255
    given = Batch(data['inputs'], data['data_samples'], 0)
    tap = 'decode_head.conv_seg'
    feature, teacher = torch.randn(2, 5, 8, 8), {tap: torch.randn(2, 5, 8, 8)}
    changed = feature.clone()
    changed[:, :, 0] += torch.randn(2, 5, 8) * 100
    loss = model.distillation.kd({tap: feature}, teacher, given)['loss_kd']
    assert torch.equal(model.distillation.kd({tap: changed}, teacher, given)['loss_kd'], loss)
    changed[:, 0, 1] += 1
    assert model.distillation.kd({tap: changed}, teacher, given)['loss_kd'] != loss


@pytest.mark.parametrize('adapter', ['auto', 'conv1x1', 'conv1x1_bn'])
def test_padding_of_a_detectors_batch_has_no_part_in_a_features_loss(adapter):
    hint = dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer3'], loss='cwd', adapter=adapter)
    model = build(distilled(retinanet(), hint=hint)).train()
    data = batch('mmdet')
    for sample in data['data_samples']:
        sample.set_metainfo(dict(img_shape=(64, 32), batch_input_shape=(64, 64), pad_shape=(64, 64)))
    feature, teacher = torch.randn(2, 32, 4, 4), torch.randn(2, 64, 4, 4)
    changed, others = feature.clone(), teacher.clone()
    changed[..., 2:], others[..., 2:] = 50, -20
    tap, losses = 'backbone.layer3', []
    for ours, theirs in ((feature, teacher), (changed, others)):
        given = Batch(torch.zeros(2, 3, 64, 64), data['data_samples'], 0)
        losses.append(model.distillation.hint({tap: ours}, {tap: theirs}, given)['loss_layer3'])
    assert torch.equal(*losses)


def test_an_adapter_comes_where_the_loss_asks_for_it():
    def kinds(**options):
        model = build(distilled(pspnet(), hint=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4',
                                                                                        'decode_head.conv_seg'], **options)))
        return [type(adapter).__name__ for adapter in model.distillation.hint.adapters]

    assert kinds() == ['Conv2d', 'Conv2d']
    assert kinds(loss='cwd') == ['Conv2d', 'Identity']  # the classes are as many on both sides
    assert kinds(loss='at') == ['Identity', 'Identity']
    assert kinds(loss='at', adapter='conv1x1_bn') == ['Sequential', 'Sequential']


def test_the_temperature_of_the_distiller_is_that_of_any_loss():
    def loss(**options):
        return build(distilled(STUDENTS['mmpretrain'](), kd=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], **options))
                     ).distillation.kd.loss.options.temperature

    assert loss() == 1
    assert loss(temperature=3.0) == 3
    assert loss(loss='dkd') == 4
    assert loss(loss='dkd', temperature=2.0) == 2
    assert loss(loss=dict(type='dkd', temperature=5.0)) == 5


FEATURE, SCORES = dict(type='mmkd.FeatureDistiller'), dict(type='mmkd.LogitsDistiller')


@pytest.mark.parametrize(('scope', 'x', 'message'), [
    ('mmdet', dict(FEATURE, pairs=['neck[0]'], loss='ofd'), r"x.*loss: 'mmkd.OFDLoss' finds no batch norm.*neck\[0\]"),
    ('mmseg', dict(FEATURE, pairs=['backbone.layer4'], loss='fgd'), r'model.distillers.x: the loss needs boxes'),
    ('mmpretrain', dict(FEATURE, pairs=['backbone.layer4'], loss='ifvd'), r'x: the loss needs the labels of pixels'),
    ('mmpretrain', dict(FEATURE, pairs=['backbone.layer4'], adapter=None), r"x.pairs\[0\]: has 64.*128.*L2Loss cannot"),
    ('mmpretrain', dict(FEATURE, pairs=['backbone.layer4'], adapter='conv'), r"x.adapter: 'conv'.*'conv1x1'"),
    ('mmseg', dict(SCORES, pairs=['decode_head.conv_seg'], loss='mlkd'), r"x.loss: 'mmkd.MLKDLoss' compares the scores of"),
    ('mmpretrain', dict(SCORES, pairs=['head.fc'], loss='mlkd', temperature=2.0), r'x.temperature: 2.0 is not the temp'),
    ('mmpretrain', dict(SCORES, pairs=['head.fc'], loss='dkdd'), r"x.loss: 'dkdd' is not known. Did you mean 'dkd'"),
    ('mmpretrain', dict(SCORES, pairs=['head.fc'], loss='cwd'), r"x.loss: 'cwd' is not known.*Accepted: .*'kl'")],
    ids=['no_norm', 'no_boxes', 'no_label_maps', 'widths', 'adapter', 'pixels', 'temperature', 'misspelt', 'features'])
def test_what_does_not_go_with_a_loss_is_one_error(scope, x, message):
    with pytest.raises(DistillationError, match=message):
        step(scope, x)


def test_images_without_a_label_are_one_error():
    model = build(distilled(STUDENTS['mmpretrain'](), kd=dict(SCORES, pairs=['head.fc'], loss='dkd')))
    data = model.data_preprocessor(batch('mmpretrain'), True)
    features = {'head.fc': torch.randn(2, 5)}
    for sample in data['data_samples']:
        del sample.gt_label
    with pytest.raises(DistillationError, match='needs the labelled class of each image'):
        model.distillation.kd(features, features, Batch(data['inputs'], data['data_samples'], 0))


MANY = r'needs the labelled class of each image, {}\. Accepted: a data set for classification with one label per image'


@pytest.mark.parametrize(('scores', 'labels', 'message'), [
    ([0., 1, 1, 0, 0], None, MANY.format(r'those of an image sum to 2 \(gt_score\)')),
    ([0., 0, 0, 0, 0], 1, MANY.format(r'those of an image sum to 0 \(gt_score\)')),
    ([0., float('nan'), 0, 0, 0], None, MANY.format(r'those of an image sum to nan \(gt_score\)')),
    (None, [1, 3], MANY.format(r'an image has 2 \(gt_label\)')), (None, [], MANY.format(r'an image has 0 \(gt_label\)'))],
    ids=['two-of-five', 'none-of-five', 'nan', 'two-labels', 'no-label'])
@pytest.mark.parametrize('loss', ['dkd', 'nkd', 'wsld'])
def test_images_of_several_classes_are_one_error(loss, scores, labels, message):
    model = build(distilled(STUDENTS['mmpretrain'](), kd=dict(SCORES, pairs=['head.fc'], loss=loss)))
    data = model.data_preprocessor(batch('mmpretrain'), True)
    features = {'head.fc': torch.randn(2, 5)}
    sample = data['data_samples'][-1]
    if scores is not None:
        sample.set_gt_score(torch.tensor(scores))
    if labels is not None:
        sample.set_gt_label(torch.tensor(labels, dtype=torch.long))
    with pytest.raises(DistillationError, match=message):
        model.distillation.kd(features, features, Batch(data['inputs'], data['data_samples'], 0))


def test_mixed_images_count_as_their_largest_share():
    model = build(distilled(STUDENTS['mmpretrain'](), kd=dict(SCORES, pairs=['head.fc'], loss='dkd')))
    data = model.data_preprocessor(batch('mmpretrain'), True)
    ours, theirs = ({'head.fc': torch.randn(2, 5)} for _ in range(2))
    plain = model.distillation.kd(ours, theirs, Batch(data['inputs'], data['data_samples'], 0))['loss_kd']
    for sample in data['data_samples']:
        score = torch.full((5,), 0.1)
        score[int(sample.gt_label)] = 0.6
        sample.set_gt_score(score)
        del sample.gt_label
    mixed = model.distillation.kd(ours, theirs, Batch(data['inputs'], data['data_samples'], 0))['loss_kd']
    assert torch.equal(plain, mixed)
