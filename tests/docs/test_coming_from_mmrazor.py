"""docs/coming-from-mmrazor.md: what stands on the right of its tables is built and does a step, and nothing is left out."""
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from zoo import STUDENTS, batch, build, distilled

from mmkd_plugin.distiller import build_distiller
from mmkd_plugin.registry import MODELS
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.mmrazor import hint_for

PAGE = (Path(__file__).resolve().parents[2] / 'docs/coming-from-mmrazor.md').read_text()
# mmrazor 1.0.0: `mmrazor.models.losses.__all__`, the recorders without their suffix, the connectors.
LOSSES = ('ChannelWiseDivergence', 'KLDivergence', 'AngleWiseRKD', 'DistanceWiseRKD', 'WSLD', 'L2Loss', 'ABLoss', 'DKDLoss',
          'KDSoftCELoss', 'ActivationLoss', 'OnehotLikeLoss', 'InformationEntropyLoss', 'FTLoss', 'ATLoss', 'OFDLoss',
          'L1Loss', 'FBKDLoss', 'CRDLoss', 'CrossEntropyLoss', 'PKDLoss', 'MGDLoss', 'DISTLoss')
RECORDERS = ('FunctionOutputs', 'MethodOutputs', 'ModuleOutputs', 'Parameter', 'ModuleInputs', 'MethodInputs',
             'FunctionInputs')
CONNECTORS = ('ConvModuleConnector', 'Translator', 'Paraphraser', 'BYOTConnector', 'FBKDTeacherConnector',
              'FBKDStudentConnector', 'TorchFunctionalConnector', 'CRDConnector', 'TorchNNConnector',
              'OFDTeacherConnector', 'MGDConnector', 'NormConnector')


def rows(heading):
    """The cells of each row of the table under a heading."""
    section = PAGE.split(f'## {heading}\n')[1].split('\n## ')[0]
    return [[cell.strip() for cell in line.strip('|').split(' | ')] for line in section.splitlines()
            if line.startswith('| ') and not line.startswith('| in mmrazor')]


def scope_of(config):
    """The codebase whose models have the taps of a distiller."""
    tap = config['pairs'][0]
    return 'mmseg' if tap.startswith('decode_head') else 'mmdet' if tap.startswith(('neck[', 'neck.')) else 'mmpretrain'


def distillers():
    """The distillers on the right of the table of losses, by codebase and a name each."""
    found = {scope: {} for scope in STUDENTS}
    for number, cells in enumerate(rows('Losses')):
        if cells[1].startswith('`dict('):
            config = eval(cells[1].strip('`'))
            found[scope_of(config)][f'row{number}'] = config
    return found


@pytest.fixture
def hard_label():
    """The file of a user that the page shows, imported."""
    code = re.search(r'```python\n(import torch.*?)```', PAGE, re.DOTALL)[1]
    exec(compile(code, 'hard_label.py', 'exec'), {'__name__': 'hard_label'})
    yield
    MODELS._module_dict.pop('HardLabelLoss')


@pytest.mark.parametrize('scope', sorted(STUDENTS))
def test_what_stands_on_the_right_distils_a_model(scope, hard_label):
    configs = distillers()[scope]
    assert configs
    model = build(distilled(STUDENTS[scope](), **configs)).train()
    data = batch(scope, 4)
    for number, sample in enumerate(data['data_samples']):
        sample.set_metainfo(dict(sample_idx=number))
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    for name, config in configs.items():
        own = [value for key, value in losses.items() if key.startswith(f'{name}.loss')]
        assert len(own) == len(config['pairs'])
        assert all(torch.isfinite(value) and value > 0 for value in own), name


@pytest.mark.parametrize(('heading', 'names'), [
    ('Losses', LOSSES), ('Recorders', RECORDERS), ('Connectors', CONNECTORS)], ids=['losses', 'recorders', 'connectors'])
def test_every_name_of_mmrazor_is_on_the_left(heading, names):
    left = ' '.join(cells[0] for cells in rows(heading))
    assert [name for name in names if not re.search(rf'\b{name}\b', left)] == []


def test_the_taps_on_the_right_of_the_recorders_are_taps(hard_label):
    taps = [eval(cells[1].strip('`')) for cells in rows('Recorders') if cells[1].startswith("`'")]
    assert len(taps) == 4
    for tap in taps:
        build_distiller('x', dict(type='mmkd.FeatureDistiller', pairs=[tap]))


def test_the_whole_config_is_one(tmp_path):
    config = re.search(r"```python\n(_base_ = 'mmseg::.*?)```", PAGE, re.DOTALL)[1]
    (tmp_path / 'config.py').write_text(config)
    model = Config.fromfile(tmp_path / 'config.py').model
    assert model.student.type == 'EncoderDecoder'
    build_distiller('cwd', model.distillers.cwd.to_dict())


LAYER4 = dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'])
HINTS = dict(
    loss=(dict(LAYER4, loss='ChannelWiseDivergence'), 'x.loss', "ChannelWiseDivergence of mmrazor is here: type='mmkd."
          "FeatureDistiller', loss='cwd' (docs/coming-from-mmrazor.md)"),
    loss_dict=(dict(LAYER4, loss=dict(type='mmrazor.KLDivergence', tau=4)), 'x.loss.type',
               "mmkd.LogitsDistiller', loss='kl'"),
    misspelt=(dict(LAYER4, loss='ChannelWiseDivergance'), 'x.loss', 'ChannelWiseDivergence of mmrazor is here'),
    distiller=(dict(type='ConfigurableDistiller'), 'x.type', 'is here: distillers, one for each loss'),
    loss_as_distiller=(dict(type='ChannelWiseDivergence', tau=4), 'x.type', "loss='cwd'"),
    option=(dict(LAYER4, loss=dict(type='cwd', tau=4)), 'x.loss.tau', 'It is temperature here'),
    weight=(dict(LAYER4, loss=dict(type='cwd', loss_weight=4)), 'x.loss.loss_weight', 'It belongs to the distiller'),
    recorders=(dict(LAYER4, student_recorders=dict()), 'x.student_recorders', 'stands in pairs'),
    recorder=(dict(LAYER4, pairs=[dict(type='ModuleOutputs', source='backbone.layer4')]), 'x.pairs[0]',
              'an address in pairs'),
    recorder_dict=(dict(LAYER4, pairs=dict(logits=dict(type='ModuleInputs', source='head.fc'))), 'x.pairs',
                   "'decode_head.conv_seg@in'"),
    connector=(dict(LAYER4, adapter=dict(type='ConvModuleConnector', in_channel=4)), 'x.adapter', "adapter='conv1x1'"))


@pytest.mark.parametrize('case', list(HINTS))
def test_a_block_of_mmrazor_is_an_error_that_says_what_it_is_here(case):
    config, path, fragment = HINTS[case]
    with pytest.raises(DistillationError) as caught:
        build_distiller('x', config)
    assert caught.value.path == f'model.distillers.{path}'
    assert fragment in str(caught.value)


def test_every_name_of_mmrazor_has_a_hint_and_others_have_none():
    for name in (*LOSSES, *RECORDERS, *CONNECTORS):
        assert name == 'CrossEntropyLoss' or f'{name} of mmrazor is here: ' in hint_for(name), name
    assert [name for name in ('cwd', 'mmkd.CWDLoss', 'HubrLoss', 'MKDLoss', 'mmdet.L1Loss', 3, None) if hint_for(name)] == []


def test_a_model_of_mmrazor_names_the_block_here():
    with pytest.raises(DistillationError, match=r"^model.architecture: .*It is student=dict"):
        build(dict(distilled(STUDENTS['mmpretrain']()), architecture=dict(cfg_path='x.py')))
