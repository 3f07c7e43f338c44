"""What is taken from a log: versions, decisions, warnings, the costs of matchings at their iterations."""
from made_runs import ENVIRONMENT, line

from mmkd_plugin.report.logs import read_logs

COSTS = ('images on this rank in 0.1 s, solved in 0.2 s; mean cost of matched channels (0 to 4): mgd.layer3 1.250, '
         'mgd.layer4 0.500')


def read(tmp_path, *lines):
    (tmp_path / 'a.log').write_text('\n'.join(lines))
    return read_logs([tmp_path / 'a.log'])


def test_versions_are_those_of_the_environment_alone(tmp_path):
    log = read(tmp_path, line('\n'.join(ENVIRONMENT)), line('Config:\nmodel = dict(\n    type: x)'))
    assert log.versions == {'Python': '3.11.2', 'PyTorch': '2.11.0', 'seed': '0'}


def test_what_this_package_says_is_a_decision_and_what_others_say_is_none(tmp_path):
    said = ['distillation: mgd (MatchingGuidedDistiller)', 'model.distillers.mgd: loss_scale frozen at 3 after 200 its',
            "custom_hooks has no mmkd.MatchingUpdateHook; added: {}", 'MatchingUpdateHook.interval: a matching at the start']
    log = read(tmp_path, *map(line, said), line(said[0]), line('Hooks will be executed in the following order:'),
               line('Iter(train) [ 50/100]  lr: 0.1  loss: 2'))
    assert log.decisions == said


def test_a_warning_that_comes_often_is_one_with_a_count(tmp_path):
    log = read(tmp_path, *[line('the scale had not settled', 'WARNING')] * 3, line('broken', 'ERROR'))
    assert log.warnings == {'the scale had not settled': 3, 'broken': 1}


def test_matchings_stand_at_their_iterations(tmp_path):
    log = read(tmp_path, line(f'matching update after 0 iterations: 8 {COSTS}'),
               line(f'matching update after 40 iterations: 8 {COSTS.replace("1.250", "1.000")}'))
    assert log.matching == {'mgd.layer3': [(0, 1.25), (40, 1.)], 'mgd.layer4': [(0, .5), (40, .5)]}


def test_matchings_of_older_logs_stand_where_they_were_logged(tmp_path):
    log = read(tmp_path, line(f'matching update: 8 {COSTS}'), line('Iter(train) [ 50/100]  lr: 0.1'),
               line(f'matching update: 8 {COSTS}'), line('Epoch(train)  [3][20/30]  lr: 0.1'),
               line(f'matching update: 8 {COSTS}'))
    assert [step for step, _ in log.matching['mgd.layer4']] == [0, 50, 80]


def test_of_endless_warnings_the_first_are_kept(tmp_path):
    log = read(tmp_path, *(line(f'warning {number}', 'WARNING') for number in range(1000)))
    assert (len(log.warnings), log.left_out) == (300, 700)
