"""Which features are compared, and by which transforms."""
import math

import pytest
import torch
from distpro_runs import distpro
from torch import nn
from zoo import batch, build, classifier, distilled

from mmkd_plugin.distiller import Pairs, build_distiller
from mmkd_plugin.distpro import PATHWAY_TRANSFORMS
from mmkd_plugin.distpro.pathways import make_pathways, name_pathways
from mmkd_plugin.distpro.transforms import Attention, Transforms, build_transform, convolution
from mmkd_plugin.utils.errors import DistillationError

TEACHER, STUDENT = ['t.layer1@preact', 't.layer2@preact', 't.layer3@preact'], ['s.a', 's.b', 's.c']


def levels(connections, transforms=('conv1',)):
    return [(TEACHER.index(pathway.teacher), STUDENT.index(pathway.student))
            for pathway in make_pathways(TEACHER, STUDENT, connections, transforms)]


def test_the_paper_compares_a_teacher_level_with_the_same_and_higher_student_levels():
    assert levels('lower_to_higher') == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]


def test_the_other_triangle_all_and_a_list():
    assert levels('higher_to_lower') == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert len(levels('all')) == 9
    listed = Pairs().read([('s.c', TEACHER[1]), dict(student='s.a', teacher=TEACHER[1])])
    assert levels(listed) == [(1, 0), (1, 2)]


def test_nine_connections_and_three_transforms_are_the_papers_27_pathways():
    pathways = make_pathways(TEACHER, STUDENT, 'all', ('conv1', 'conv2', 'conv3'))
    assert len(set(pathways)) == 27
    assert [pathway.transform for pathway in pathways[:3]] == ['conv1', 'conv2', 'conv3']


def test_four_levels_are_the_releases_10_pathways():
    assert len(make_pathways([*TEACHER, 't.x'], [*STUDENT, 's.d'], 'lower_to_higher', ('conv3_relu',))) == 10


@pytest.mark.parametrize(('connections', 'message'), [
    ('lower_to_high', "connections: 'lower_to_high' is not known. Did you mean 'lower_to_higher'.*Accepted: all, "
                      'lower_to_higher, higher_to_lower'),
    ([('s.x', TEACHER[0])], r"connections: 's.x' is no level of the student. Did you mean 's.\w'.*Accepted: s.a, s.b, s.c"),
    ([('s.a', TEACHER[0]), ('s.a', TEACHER[0])], r"connections: .*has a pair twice. Accepted: each pair once"),
    ([('s.a',)], r"connections\[0\]: \('s.a',\) is no pair of taps. Accepted: a list: \(student tap, teacher tap\)"),
    (7, r"connections: 7 is no list of pairs. Accepted: a list: \(student tap, teacher tap\)")])
def test_connections_that_cannot_be(connections, message):
    with pytest.raises(DistillationError, match=f'^model.distillers.distpro.{message}'):
        build_distiller('distpro', distpro('equal', levels=list(zip(STUDENT, TEACHER)), connections=connections))


def test_names_in_the_log_are_short_and_differ():
    one = make_pathways(TEACHER, STUDENT, 'lower_to_higher', ('conv1',))
    assert name_pathways(one)[:2] == ['layer1-a', 'layer1-b']
    several = make_pathways(['x.0', 'x.1'], ['n[0]', 'n[1]'], 'all', ('conv1', 'conv2'))
    assert name_pathways(several)[0] == 'x.0-n.0-conv1'
    assert len(set(name_pathways(several))) == 8


@pytest.mark.parametrize('name', list(PATHWAY_TRANSFORMS.module_dict))
@pytest.mark.parametrize(('source', 'target'), [((24, 4, 4), (16, 9, 7)), ((8, 9, 7), (16, 4, 4))])
def test_a_transform_takes_the_students_shape_to_the_teachers(name, source, target):
    transform = build_transform(name, source[0], target[0])
    output = transform(torch.randn(2, *source), target[1:])
    assert output.shape == (2, *target)
    output.square().sum().backward()
    assert all(parameter.grad is not None for parameter in transform.parameters())


LAYERS = dict(conv1=[(8, 16, 1)], conv2=[(8, 8, 1), (8, 1, 1), (8, 16, 3)],
              conv3=[(8, 8, 1), (8, 1, 1), (8, 8, 3), (8, 16, 3)], conv3_relu=[(8, 8, 3), (8, 1, 1), (8, 8, 3), (8, 16, 3)])


@pytest.mark.parametrize('name', list(LAYERS))
def test_the_convolutions_are_those_of_the_paper(name):
    transform = build_transform(name, 8, 16)
    convs = [module for module in transform.modules() if isinstance(module, nn.Conv2d)]
    assert [(conv.in_channels, conv.out_channels, conv.kernel_size[0]) for conv in convs] == LAYERS[name]
    assert all(conv.bias is None for conv in convs)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in transform.modules()) == len(convs) - (len(convs) > 1)
    assert sum(isinstance(module, nn.ReLU) for module in transform.modules()) == (2 if name == 'conv3_relu' else 0)


def test_the_middle_width_is_at_most_512_and_the_narrower_side():
    assert build_transform('conv2', 2048, 1024).before[0].out_channels == 512
    assert build_transform('conv2', 24, 1024).before[0].out_channels == 24


def test_weights_start_with_the_papers_deviation():
    assert convolution(64, 128, 3).weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=.02)


@pytest.mark.parametrize('name', ['conv2', 'conv3', 'conv3_relu', 'token2', 'token3'])
def test_the_attention_starts_as_pytorch_starts_a_convolution(name):
    """Uniform within 1 / sqrt(C): the authors' loop over the convolutions of a transform does not reach it."""
    attention = next(module for module in build_transform(name, 400, 512).modules() if isinstance(module, Attention))
    weight = attention.conv.weight
    assert weight.abs().max().item() <= 400 ** -.5
    assert weight.std().item() == pytest.approx(1200 ** -.5, rel=.15)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last], ids=['plain', 'channels last'])
def test_the_attention_is_a_map_of_the_feature_itself(memory_format):
    attention = build_transform('conv2', 8, 16).before[2]
    feature = torch.randn(2, 8, 3, 5).to(memory_format=memory_format)
    expected = feature * torch.einsum('bchw,c->bhw', feature, attention.conv.weight.flatten())[:, None]
    torch.testing.assert_close(attention(feature), expected)


def test_token_transforms_treat_every_token_alike():
    transform = build_transform('token3', 8, 16)
    tokens = torch.randn(1, 8, 2, 2)
    alone = transform(tokens[..., 1:, :1], (1, 1))
    torch.testing.assert_close(transform(tokens, (2, 2))[..., 1:, :1], alone)


def test_a_users_transform_is_found_by_name():
    @PATHWAY_TRANSFORMS.register_module(name='mine', force=True)
    class Mine(nn.Identity):
        def __init__(self, student, teacher):
            super().__init__()

        def forward(self, feature, size):
            return feature[:, :4]

    try:
        assert isinstance(build_transform('mine', 8, 8), Mine)
        assert Transforms().read(['mine', 'conv1']) == ['mine', 'conv1']
        model = build(distilled(classifier(), distpro=distpro('equal', transforms='mine'))).train()
        with pytest.raises(DistillationError, match=r"\.transforms: 'mine' gives \(2, 4, 64, 64\). Accepted: .*64, 64"):
            model(**model.data_preprocessor(batch('mmpretrain'), True), mode='loss')
    finally:
        del PATHWAY_TRANSFORMS.module_dict['mine']


@pytest.mark.parametrize(('transforms', 'message'), [
    *((wrong, r"transforms: 'conv4' is not known. Did you mean 'conv\d'.*Accepted: conv1, conv2, .*registered one of your")
      for wrong in ('conv4', ['conv1', 'conv4'])),
    ([], r'transforms: \[\]. Accepted: '), (['conv1', 'conv1'], r"transforms: \['conv1', 'conv1'\]. Accepted: .*different"),
    (3, r'transforms: 3. Accepted: ')])
def test_transforms_that_are_not_there_are_refused(transforms, message):
    with pytest.raises(DistillationError, match=f'^model.distillers.distpro.{message}'):
        build_distiller('distpro', distpro('equal', transforms=transforms))
