"""Which layers of real networks make up a group."""
import pytest
from mmengine.registry import MODELS
from torch import nn
from zoo import build, classifier, dfa, distilled, pspnet

from mmkd_plugin.dfa import FeatureAggregationDistiller
from mmkd_plugin.dfa import groups as groups_module
from mmkd_plugin.utils.errors import DistillationError, under


def network(**cfg):
    model = nn.Module()
    model.backbone = MODELS.build(cfg)
    return model


def find_groups(pairs, every, student, teacher):
    """From pairs as a config has them."""
    parsed = FeatureAggregationDistiller(pairs=pairs, aggregation='last').options.pairs
    with under('pairs'):
        return groups_module.find_groups(parsed, every, student, teacher)


def wide(depth, factor=1):
    return network(type='mmkd.WideResNet', depth=depth, widen_factor=factor)


def test_a_stage_is_its_blocks_and_the_student_is_read_at_its_last():
    teacher, student = (network(type='mmdet.ResNet', depth=depth, base_channels=4) for depth in (50, 18))
    group, = find_groups(['backbone.layer3'], 1, student, teacher)
    assert (group.name, group.student) == ('layer3', 'backbone.layer3.1@end')
    assert group.teacher == tuple(f'backbone.layer3.{block}@end' for block in range(6))


def test_a_stage_may_keep_its_blocks_inside():
    groups = find_groups(['backbone.layer1', 'backbone.layer2', 'backbone.layer3'], 1, wide(16), wide(28))
    assert [group.student for group in groups] == [f'backbone.layer{stage}.blocks.1@end' for stage in (1, 2, 3)]
    assert groups[2].teacher == tuple(f'backbone.layer3.blocks.{block}@end' for block in range(4))
    swin = network(type='mmdet.SwinTransformer', depths=(1, 1, 2, 1), embed_dims=12, num_heads=(1, 1, 1, 1))
    group, = find_groups(['backbone.stages.2'], 1, swin, swin)
    assert group.teacher == ('backbone.stages.2.blocks.0@end', 'backbone.stages.2.blocks.1@end')
    assert group.name == 'stages.2'


def test_long_stages_can_be_thinned_out():
    group, = find_groups(['backbone.layer3'], 4, network(type='mmdet.ResNet', depth=18, base_channels=4),
                         network(type='mmdet.ResNet', depth=101, base_channels=4))
    assert [int(tap.split('.')[2].split('@')[0]) for tap in group.teacher] == [2, 6, 10, 14, 18, 22]
    one, other = find_groups([dict(student='backbone.layer1', every=3), 'backbone.layer2'], 1, wide(16), wide(28))
    assert (len(one.teacher), len(other.teacher)) == (2, 4)


def test_addresses_with_a_port_and_lists_are_taken_as_they_are():
    group, = find_groups([dict(student='backbone.layer2.blocks.0@out', teacher=['backbone.layer2.blocks.3',
                                                                               'backbone.layer2@preact'])],
                         1, wide(16), wide(28))
    assert group.student == 'backbone.layer2.blocks.0@out'
    assert group.teacher == ('backbone.layer2.blocks.3', 'backbone.layer2@preact')
    assert find_groups([('backbone.layer2', 'backbone.layer3@out')], 1, wide(16), wide(28))[0].teacher == (
        'backbone.layer3@out',)


@pytest.mark.parametrize(('groups', 'message'), [
    ('backbone.layer1',
     "pairs: 'backbone.layer1' is no list of pairs. Accepted: a list: .*every=.*the teacher may be a list of taps"),
    ([], r'pairs: \[\] is no list of pairs'), ([3], r'pairs\[0\]: 3 is no pair of taps. Accepted: a list: .*every='),
    ([dict(student='backbone.layer1', weight=2)],
     r"pairs\[0\].weight: 'weight' is no key here.*Accepted: student, teacher, every"),
    ([dict(student='backbone.layer1', teacher=[])],
     r'pairs\[0\].teacher: \[\]. Accepted: a list of different taps, or the address of one'),
    ([dict(student='backbone.layer1', teacher=3)],
     r'pairs\[0\].teacher: 3. Accepted: a list of different taps, or the address of one'),
    ([dict(student='backbone.layer1', every=0)], r'pairs\[0\].every: 0. Accepted: a whole number > 0'),
    ([dict(student='backbone.layer1', teacher=['backbone.layer1.blocks.0@out'], every=2)],
     r"pairs\[0\].every: 2 has no meaning with the teacher \['backbone.layer1.blocks.0@out'\]. Accepted: with a stage"),
    (['backbone.layer7'], r"pairs\[0\]: 'backbone.layer7' is no module of the student. Did you mean"),
    ([('backbone.layer1', 'backbone.conv1')],
     r"pairs\[0\]: 'backbone.conv1' is a Conv2d of the teacher, not a list of blocks.*"
     "Accepted: a list of taps, or 'backbone.conv1@end'")])
def test_what_is_no_group_is_refused(groups, message):
    with pytest.raises(DistillationError, match=message):
        find_groups(groups, 1, wide(16), wide(28))


def test_mistakes_name_the_distiller():
    for cfg, message in ((dfa(pairs=['backbone.layer9']),
                          r"model.distillers.dfa.pairs\[0\]: 'backbone.layer9' is no module of the student. Did you mean"),
                         (dfa(pairs=[3]), r'model.distillers.dfa.pairs\[0\]: 3 is no pair of taps')):
        with pytest.raises(DistillationError, match=message):
            build(distilled(classifier(), dfa=cfg))


@pytest.mark.parametrize(('groups', 'message'), [
    (['backbone.layer4', 'backbone.layer3'],
     r"dfa.pairs: 'backbone.layer4.1@end' stands before 'backbone.layer3.1@end', but comes after it in the student"),
    (['backbone.layer3', 'backbone.layer3'], r"dfa.pairs: 'backbone.layer3.1@end' is there twice"),
    ([dict(student='backbone.layer3', teacher=['backbone.layer3.1', 'backbone.layer3.0'])],
     r"dfa.pairs: 'backbone.layer3.1' .a layer of layer3. stands before 'backbone.layer3.0', but comes after it in "
     'the teacher')])
def test_what_is_not_in_order_is_refused(groups, message):
    with pytest.raises(DistillationError, match=message):
        build(distilled(pspnet(), dfa=dfa(pairs=groups)))


def test_a_group_of_mixed_shapes_is_refused():
    cfg = dfa(pairs=[dict(student='backbone.layer3', teacher=['backbone.layer2.0@end', 'backbone.layer3.0@end'])])
    with pytest.raises(DistillationError, match=r'dfa.pairs: layer3 mixes shapes, which cannot be summed .*backbone.layer2.0'
                                                r'@end \(32, 8, 8\), backbone.layer3.0@end \(64, 8, 8\)'):
        build(distilled(pspnet(), dfa=cfg))


def test_another_resolution_is_refused_unless_allowed():
    groups = [dict(student='backbone.layer3', teacher='backbone.layer2')]
    message = (r'dfa.pairs: layer3: the student \(backbone.layer3.1@end\) has '
               r'resolution \(16, 16\), the teacher .* \(32, 32\).*resize=True')
    with pytest.raises(DistillationError, match=message):
        build(distilled(classifier(), dfa=dfa(pairs=groups)))
    build(distilled(classifier(), dfa=dfa(pairs=groups, resize=True)))


def test_a_stage_that_the_students_forward_does_not_reach_is_refused():
    student = pspnet()
    student['backbone'].update(num_stages=3, strides=(1, 2, 1), dilations=(1, 1, 2), out_indices=(0, 1, 2))
    student['decode_head'].update(in_index=2, in_channels=32)
    student['auxiliary_head'].update(in_index=1, in_channels=16)
    model = build(distilled(student, pspnet(16), dfa=dfa(pairs=['backbone.layer3'])), attach=False)
    model.backbone.layer4 = nn.Sequential(*(block for block in build(pspnet()).backbone.layer4))
    model.distillation_cfg['distillers']['dfa']['pairs'] = ['backbone.layer4']
    with pytest.raises(DistillationError, match="model.distillers.dfa: tap 'backbone.layer4.1@end' of the student was never "
                                                "reached"):
        model.attach_distillation()
