"""model-index.yml and the metafiles are what configs and tables say, and MIM finds them in the built package."""
import subprocess
import sys
from collections import Counter

import pytest
import yaml
from modelindex.load_model_index import load

from mmkd_plugin.report.accuracy import Row
from mmkd_plugin.report.metafiles import COLLECTIONS, ROOT, collection_of, is_the_config, metafiles, shipped, teacher_of


@pytest.fixture(scope='module')
def models():
    """Every entry of every metafile."""
    contents = [yaml.safe_load(text) for text in metafiles().values()]
    return [entry for content in contents for entry in content.get('Models', ())]


def test_the_files_are_those_that_the_command_makes():
    made = metafiles()
    there = {str(path.relative_to(ROOT)) for path in (ROOT / 'configs').rglob('metafile.yml')} | {'model-index.yml'}
    assert there == set(made), 'python -m mmkd_plugin.report.metafiles'
    for path, text in made.items():
        assert (ROOT / path).read_text() == text, f'{path}: python -m mmkd_plugin.report.metafiles'


def test_every_shipped_config_is_in_one_metafile(models):
    assert Counter(entry['Config'] for entry in models) == Counter(str(path.relative_to(ROOT)) for path in shipped())
    assert max(Counter(entry['Name'] for entry in models).values()) == 1, 'MIM goes by the name'


def test_every_collection_has_configs_and_a_page(models):
    assert {entry['In Collection'] for entry in models} == {collection.name for collection in COLLECTIONS}
    assert all((ROOT / collection.readme).is_file() for collection in COLLECTIONS)


@pytest.mark.parametrize(('name', 'collection'), [
    ('mgd-amp-kd_resnet14x2-resnet8_8e_cifar100-20', 'MGD'), ('distpro-27_resnet56-resnet20_240e_cifar100', 'DistPro'),
    ('dfa-t_wrn-28-4-wrn-16-2_140e_cinic10', 'DFA'), ('auto_x', 'Pools of losses'), ('sp_x', 'Losses of the field'),
    ('ifvd-reviewkd_pspnet', 'Losses of the field'), ('pspnet_r18-d8_1k_camvid-128x176', 'Networks alone')])
def test_a_config_is_in_the_collection_of_its_method(name, collection):
    assert collection_of(name).name == collection


def test_every_distilled_config_names_its_teacher(models):
    alone = {entry['Config'] for entry in models if entry['In Collection'] == 'Networks alone'}
    assert {entry['Config'] for entry in models if 'Teacher' not in entry['Metadata']} == alone


def test_a_teacher_may_stand_in_the_config_that_is_inherited():
    folder = ROOT / 'configs/classification/cifar100-20'
    assert teacher_of(folder / 'dfa-last_resnet14x2-resnet8_8e_cifar100-20.py') == (
        'mmkd_plugin::classification/cifar100-20/resnet14x2_24e_cifar100-20.py')


def test_a_result_is_the_mean_of_what_was_measured(models):
    found = {entry['Name']: entry['Results'][0] for entry in models if 'Results' in entry}
    assert found['mgd-amp_pspnet_r18-r18w16-d8_1k_camvid-128x176'] == dict(
        Task='Semantic Segmentation', Dataset='CamVid', Metrics=dict(mIoU=34.39, Seeds=3))
    assert found['resnet26_24e_cifar100-20']['Metrics'] == {'Top 1 Accuracy': 76.0, 'Seeds': 1}
    assert not any('in1k' in name or 'cityscapes' in name for name in found), 'published, not measured here'


@pytest.mark.parametrize(('row', 'unchanged'), [
    (dict(), True), (dict(overrides={'model.teacher.checkpoint': '{teacher}'}), True),
    (dict(overrides={'model.distillers.dfa.aggregation': '{search:aggregation.json}'}), True),
    (dict(overrides={'model.teacher.runtime.fold_bn': True, 'default_hooks.format.mode': 'on'}), True),
    (dict(overrides={'model.distillers.dfa.aggregation': 'last'}), False),
    (dict(overrides={'model.distillers.kd.every': 2}), False), (dict(stage='search'), False)])
def test_only_a_row_that_changes_nothing_is_a_result_of_its_config(row, unchanged):
    assert is_the_config(Row(name='x', config='y', **row)) is unchanged


def test_mim_finds_every_config_in_the_built_package(tmp_path):
    subprocess.run([sys.executable, 'setup.py', '-q', 'build_py', '--build-lib', str(tmp_path)], cwd=ROOT, check=True,
                   capture_output=True)
    mim = tmp_path / 'mmkd_plugin/.mim'
    index = load(str(mim / 'model-index.yml'))
    assert len(index.models) == len(shipped())
    assert all((mim / model.config).is_file() for model in index.models)
    assert (mim / 'tools/train.py').is_file()
