"""Bad input: each one clear error that names the key and the nearest valid choice."""
import pickle
import re
import subprocess
import sys

import pytest
import torch
from zoo import batch, build, classifier, distilled, loader, mgd, pspnet, retinanet, run, run_cfg, update_hook

from mmkd_plugin.mgd import MatchingUpdateHook
from mmkd_plugin.utils.errors import DistillationError


def refused(cfg, *fragments, scope=None):
    with pytest.raises(DistillationError) as caught:
        build(cfg)
    message = str(caught.value)
    for fragment in fragments:
        assert re.search(fragment, message), message
    return message


def pairs(*given):
    return dict(type='mmkd.MatchingGuidedDistiller', pairs=list(given))


def test_unknown_tap():
    refused(distilled(pspnet(), mgd=mgd('backbone.layr4')), "'backbone.layr4' is no module of the student",
            "Did you mean 'backbone.layer4'")
    refused(distilled(pspnet(), mgd=mgd(('backbone.layer4', 'backbon.layer4'))), 'of the teacher', "'backbone.layer4'",
            'The teacher contains: data_preprocessor, backbone')


def test_index_out_of_range():
    refused(distilled(retinanet(), mgd=mgd(('neck[7]', 'neck[0]'))), r"tap 'neck\[7\]' of the student", 'out of range',
            'has 5 items', 'Accepted: 0 to 4')
    refused(distilled(pspnet(), mgd=mgd('backbone.layer4.5')), r'layer4.5', "'backbone.layer4.1'")


def test_list_without_an_index():
    refused(distilled(retinanet(), mgd=mgd(('neck', 'neck[0]'))), "tap 'neck' of the student",
            'tuple of 5 items', r'neck\[0\]')


def test_unknown_port():
    refused(distilled(pspnet(), mgd=mgd('backbone.layer4@preeact')), r'model.distillers.mgd.pairs\[0\].student',
            "'preeact' is no port", "of the tap 'backbone.layer4@preeact'", "Did you mean 'preact'")


def test_preact_without_an_activation():
    refused(distilled(pspnet(), mgd=mgd('decode_head.conv_seg@preact')), "tap 'decode_head.conv_seg@preact'",
            'there is none inside Conv2d')


def test_tap_never_reached():
    refused(distilled(pspnet(), mgd=mgd(('decode_head', 'backbone.layer4'))),
            "tap 'decode_head' of the student was never reached", 'decode_head.conv_seg')


@pytest.mark.parametrize('given', ['backbone.layer4', {'student': 'backbone.layer4'}, [], [('a', 'b', 'c')], [('a', 1)],
                                   [dict(student='a')], [1]])
def test_pairs_of_wrong_form(given):
    refused(distilled(pspnet(), mgd=dict(type='mmkd.MatchingGuidedDistiller', pairs=given)), 'model.distillers.mgd.pairs',
            r'Accepted: (a list: \(student tap, teacher tap\)|"module.path")')


def test_unknown_reducer():
    refused(distilled(pspnet(), mgd=mgd(reducer='absolut_max')), 'model.distillers.mgd.reducer',
            "Did you mean 'absolute_max'")


def test_unknown_distiller_and_option():
    refused(distilled(pspnet(), mgd=dict(type='mmkd.MatchingGuidedDistil', pairs=['backbone.layer4'])),
            'model.distillers.mgd.type', "'mmkd.MatchingGuidedDistiller'")
    refused(distilled(pspnet(), mgd=mgd(reduccer='sparse')), 'model.distillers.mgd', 'reduccer', "'reducer'")


def test_unknown_key_of_the_model_and_the_teacher():
    cfg = distilled(pspnet())
    cfg['teachr'] = cfg.pop('teacher')
    refused(cfg, 'model.teachr', "Did you mean 'teacher'")
    cfg = distilled(pspnet())
    cfg['teacher']['checkpont'] = 'x.pth'
    refused(cfg, 'model.teacher.checkpont', "Did you mean 'checkpoint'")


def test_teacher_config_not_found():
    cfg = distilled(pspnet())
    cfg['teacher']['config'] = 'mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscape-512x1024.py'
    refused(cfg, 'model.teacher.config', 'was not found among the configs of mmseg',
            "Did you mean 'mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py'")
    cfg['teacher']['config'] = 'no_such_package::x/y.py'
    refused(cfg, 'model.teacher.config', "'no_such_package' is no known package",
            'Accepted: mmseg, mmdet, mmpretrain, mmkd_plugin')
    cfg['teacher']['config'] = 'mmsegg::pspnet/x.py'
    refused(cfg, "Did you mean 'mmseg'")
    cfg['teacher']['config'] = dict(data_root='x')
    refused(cfg, 'has neither `model`')
    cfg['teacher']['config'] = 'README.md'
    refused(cfg, 'is not a config file')
    cfg['teacher']['config'] = 'configs/demo/pspnet_r18w32-d8_demo-64x12.py'
    refused(cfg, 'model.teacher.config', 'was not found', 'Accepted: a path')


def with_checkpoint(path):
    return distilled(pspnet(), teacher_options=dict(checkpoint=str(path)))


def test_teacher_without_weights():
    refused(distilled(pspnet(), teacher_options=dict(checkpoint=None)), 'model.teacher.checkpoint: is missing',
            'allow_random_weights=True')


def test_checkpoint_missing(tmp_path):
    (tmp_path / 'teacher.pth').touch()
    refused(with_checkpoint(tmp_path / 'techer.pth'), 'model.teacher.checkpoint', 'techer.pth', 'was not found',
            'Did you mean .*teacher.pth')
    refused(with_checkpoint(tmp_path), 'is a folder')
    refused(with_checkpoint(''), "model.teacher.checkpoint: ''. Accepted: a path or an http")
    refused(with_checkpoint('s3://bucket/x.pth'), 'model.teacher.checkpoint', "'s3' is no scheme", 'http, https')
    refused(with_checkpoint('http://127.0.0.1:9/x.pth'), 'model.teacher.checkpoint', 'cannot be downloaded')


@pytest.mark.parametrize(('name', 'fragment'), [
    ('decode_head.num_classes', "Did you mean|Accepted: model"),
    ('model.decode_hed.num_classes', "Did you mean 'decode_head'"),
    ('model.decode_head.num_clases', 'cannot be built')])
def test_teacher_overrides_that_would_do_nothing(name, fragment):
    cfg = distilled(pspnet())
    cfg['teacher']['overrides'] = {name: 7}
    refused(cfg, 'model.teacher', fragment)


def test_teacher_overrides_are_applied():
    cfg = distilled(pspnet())
    cfg['teacher']['overrides'] = {'model.decode_head.num_classes': 7}
    assert build(cfg).distillation.teacher.model.decode_head.num_classes == 7


def test_checkpoint_of_another_model(tmp_path):
    torch.save(dict(state_dict=build(classifier()).state_dict()), tmp_path / 'other.pth')
    refused(with_checkpoint(tmp_path / 'other.pth'), 'model.teacher.checkpoint', r'covers \d+ of the \d+ weights',
            'Missing|Of another shape', 'Is it the checkpoint of model.teacher.config')


def test_checkpoint_partly_matching(tmp_path):
    state = build(pspnet(base_channels=16)).state_dict()
    del state['decode_head.conv_seg.weight']
    torch.save(dict(state_dict=state), tmp_path / 'partly.pth')
    refused(with_checkpoint(tmp_path / 'partly.pth'), r'covers (\d+) of', 'Missing: decode_head.conv_seg.weight')
    state = build(pspnet(base_channels=16, num_classes=7)).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'shapes.pth')
    refused(with_checkpoint(tmp_path / 'shapes.pth'), 'Of another shape: .*decode_head.conv_seg.weight', r'\[7, ')


class Malicious:
    def __reduce__(self):
        return print, ('this ran',)


@pytest.mark.parametrize('content', [b'', b'not a checkpoint', pickle.dumps(Malicious()), pickle.dumps([1, 2])])
def test_not_a_checkpoint(tmp_path, content, capsys):
    (tmp_path / 'bad.pth').write_bytes(content)
    refused(with_checkpoint(tmp_path / 'bad.pth'), 'model.teacher.checkpoint', 'is not a checkpoint')
    assert 'this ran' not in capsys.readouterr().out


def test_checkpoint_without_weights(tmp_path):
    torch.save(dict(meta=dict(epoch=1)), tmp_path / 'empty.pth')
    refused(with_checkpoint(tmp_path / 'empty.pth'), 'is not a checkpoint: no weights')


KD = dict(type='mmkd.LogitsDistiller', pairs=['decode_head.conv_seg'])


def test_different_number_of_classes():
    refused(distilled(pspnet(), pspnet(num_classes=7), kd=KD), 'model.distillers.kd',
            'the student has 5 classes', 'the teacher 7', 'model.teacher.overrides')


def test_teacher_and_student_of_different_tasks():
    refused(distilled(pspnet(), classifier(), kd=dict(KD, pairs=[('decode_head.conv_seg', 'head.fc')])),
            'model.distillers.kd', 'different tasks', r'the student \(decode_head.conv_seg\) scores pixels',
            r'the teacher \(head.fc\) scores images')


@pytest.mark.parametrize('interval', [0, -1, [], [0], 1.5, 'two'])
def test_interval_that_is_no_interval(interval):
    with pytest.raises(DistillationError, match=r'MatchingUpdateHook.interval: .* Accepted: a whole number > 0'):
        MatchingUpdateHook(interval=interval)


def test_empty_update_data_set(tmp_path):
    empty = loader('mmpretrain', 0, shuffle=False)
    with pytest.raises(DistillationError, match='MatchingUpdateHook.dataloader: the data set is empty'):
        run(run_cfg(distilled(classifier()), tmp_path, hooks=[update_hook('mmpretrain', dataloader=empty)]))


def test_no_matching_because_a_loop_of_ones_own_has_no_hook():
    model = build(distilled(classifier()))
    message = r"model.distillers.mgd: has no matching yet. Add dict\(type='mmkd.MatchingUpdateHook'"
    with pytest.raises(DistillationError, match=message):
        model(**model.data_preprocessor(batch('mmpretrain'), True), mode='loss')


def test_the_hook_that_is_added_says_what_it_lacks(tmp_path):
    with pytest.raises(DistillationError, match='MatchingUpdateHook.dataloader: is missing: .*no train_dataloader'):
        run(run_cfg(distilled(classifier()), tmp_path))


@pytest.mark.parametrize(('options', 'fragment'), [
    (dict(intervall=2), "Did you mean 'interval'"), (dict(num_images=None), 'num_images: None'),
    (dict(num_images=0), 'a whole number > 0'), (dict(distillers='mgd'), 'a list of different names of distillers'),
    (dict(distillers=[]), 'a list of'),
    (dict(dataloader='train'), "a loader's config")])
def test_hook_options(options, fragment):
    with pytest.raises(DistillationError, match=fragment):
        MatchingUpdateHook(**options)


@pytest.mark.parametrize('shape', [128, (3, 64), (3, 0, 64), 'abc'])
def test_image_shape(shape):
    refused({**distilled(pspnet()), 'image_shape': shape}, 'model.image_shape')


def test_an_image_shape_that_a_network_does_not_take():
    swin = dict(type='ImageClassifier', _scope_='mmpretrain', head=dict(type='LinearClsHead', num_classes=5, in_channels=96),
                neck=dict(type='GlobalAveragePooling'),
                backbone=dict(type='SwinTransformer', img_size=64, arch=dict(
                    embed_dims=12, depths=[2, 2, 2, 2], num_heads=[1, 2, 2, 2])))
    refused(distilled(classifier(), swin, mgd=mgd(('backbone.layer4', 'backbone.stages.3'))),
            r'model.image_shape: the teacher \(ImageClassifier\) does not run on a dry-run image', 'window size')


@pytest.mark.parametrize('name', ['features', 'idle', 'teacher', 'training', 'student_taps', '_modules',
                                  '_check_that_a_wrapping_one_is_alone'])
def test_a_distiller_with_a_name_that_is_taken(name):
    refused({**distilled(pspnet()), 'distillers': {name: mgd()}},
            f"model.distillers.{name}: '{name}' is taken. Accepted: any other")


def test_a_distiller_without_its_scope():
    refused(distilled(pspnet(), mgd=dict(type='MatchingGuidedDistiller', pairs=['backbone.layer4'])),
            'model.distillers.mgd.type', "Did you mean 'mmkd.MatchingGuidedDistiller'")


def test_resuming_with_other_options(tmp_path):
    run(run_cfg(distilled(classifier()), tmp_path, length=2, hooks=[update_hook('mmpretrain')]))
    other = distilled(classifier(), mgd=mgd(reducer='sparse'))
    with pytest.raises(DistillationError, match='resume: model.distillers.mgd is not the one of the checkpoint'):
        run(run_cfg(other, tmp_path, epochs=2, length=2, hooks=[update_hook('mmpretrain')], resume=True))


def test_hook_on_a_model_that_is_not_distilled(tmp_path):
    with pytest.raises(DistillationError, match="mmkd hooks need model=dict"):
        run(run_cfg(classifier(), tmp_path, hooks=[update_hook('mmpretrain')]))


def test_nan_in_a_feature_is_named_with_its_iteration(tmp_path):
    from mmengine.hooks import Hook

    class Poison(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 2:
                with torch.no_grad():
                    runner.model.backbone.layer3[0].conv1.weight[0] = float('nan')

    cfg = run_cfg(distilled(classifier()), tmp_path, hooks=[update_hook('mmpretrain')])
    message = "tap 'backbone.layer3@preact' of the student held NaN or infinity in iteration 2"
    with pytest.raises(DistillationError, match=message):
        run(cfg, before=lambda runner: runner.register_hook(Poison()))


def test_nan_in_the_teacher_is_found_by_the_matching_update(tmp_path):
    def poison(runner):
        model = runner.model
        model.attach_distillation()
        with torch.no_grad():
            model.distillation.teacher.model.backbone.layer4[1].conv2.weight.fill_(float('nan'))

    with pytest.raises(DistillationError, match='the matching cost of stage layer4 is not finite'):
        run(run_cfg(distilled(classifier()), tmp_path, hooks=[update_hook('mmpretrain')]), before=poison)


@pytest.mark.parametrize('options', [dict(loss_weight=-1), dict(begin=5, end=5), dict(warmup=-1), dict(margin='nrm'),
                                     dict(surplus='drop'), dict(norm='LN'), dict(stage_weights=[1.]),
                                     dict(reduction='avg'), dict(divisor=0), dict(divisor=-5), dict(stage_weights=[-1., 1.]),
                                     dict(loss_weight='1'), dict(norm=3), dict(stage_weights=1.), dict(reducer=['sparse']),
                                     dict(norm=dict(type='GN', num_groups=7)), dict(begin=1.5)])
def test_options_out_of_range(options):
    message = refused(distilled(pspnet(), mgd=mgd(**options)), 'model.distillers.mgd|norm')
    assert any(name in message for name in options)
    assert 'Accepted' in message or 'does not work on 32 channels' in message


def test_margin_from_a_norm_that_is_not_there():
    refused(distilled(pspnet(), mgd=mgd('backbone.layer4', margin='norm')),
            "model.distillers.mgd.margin: 'norm' finds no batch norm", "'backbone.layer4'", "'data'")


def test_a_tap_that_is_reached_twice():
    # One classifier for all levels of the pyramid.
    model = build({**distilled(retinanet(), mgd=mgd(('neck[0]', 'neck[0]'))),
                   'distillers': dict(l2=dict(type='mmkd.FeatureDistiller', pairs=[('neck[0]', 'neck[0]')]))})
    assert model.distillation is not None
    refused(distilled(retinanet(), l2=dict(type='mmkd.FeatureDistiller', pairs=['bbox_head.retina_cls'])),
            "tap 'bbox_head.retina_cls' of the student was reached twice in one forward")


def test_loss_without_attached_distillation():
    model = build(distilled(classifier()), attach=False)
    with pytest.raises(RuntimeError, match='attach_distillation'):
        model(**model.data_preprocessor(batch('mmpretrain'), True), mode='loss')


def test_a_missing_package_is_named_with_the_way_to_install_it():
    code = ("import sys; sys.modules['mmcv'] = None\n"
            "try:\n    import mmkd_plugin\nexcept ImportError as error:\n    print(error)")
    output = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert 'mmkd_plugin needs mmcv' in output
    assert 'pip install mmcv' in output


def test_a_mistake_in_a_distiller_comes_before_the_teachers_weights():
    cfg = distilled(classifier(), teacher_options=dict(checkpoint='nowhere.pth'), mgd=mgd(reducton='mean'))
    with pytest.raises(DistillationError, match="^model.distillers.mgd.reducton: .*Did you mean 'reduction'"):
        build(cfg)
