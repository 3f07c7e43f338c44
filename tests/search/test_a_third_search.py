"""A search that is neither of the two: what a hook of forty lines gets from the room."""
import json
import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Optional

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper, OptimWrapperDict
from zoo import Stop, classifier, distilled, loader, retinanet, run, run_cfg

from mmkd_plugin.baselines import FeatureDistiller
from mmkd_plugin.model import StatefulHook, unwrap
from mmkd_plugin.registry import HOOKS, MODELS
from mmkd_plugin.search import ArtefactFormat, SearchOptions, SearchRun, is_number, require, seed_generators
from mmkd_plugin.search.derive import derive_search
from mmkd_plugin.utils.errors import DistillationError, under
from mmkd_plugin.utils.isolation import preserved_buffers, preserved_rng
from mmkd_plugin.utils.options import Choice, Either, Number, Text, option

FORMAT = ArtefactFormat('test.scale', 1, ('scale', 'meta', 'course'), 'the scale.json that the search has written')
KEY = 'ScaleSearchHook'


class ScaledDistiller(FeatureDistiller):
    """L2 times a scale, which is searched or read from a file."""
    search_hook = f'mmkd.{KEY}'

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureDistiller.Options):
        mode: str = option(Choice(('file', 'search')), 'file', 'where the scale comes from')
        file: Optional[str] = option(Either(Text(), (None,)), None, 'the file a search has written', dict(mode=('file',)))

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.register_buffer('scale', torch.ones(()))

    def find_taps(self, surroundings):
        if self.options.mode == 'file':
            path = self.options.file or surroundings.work_dir / 'search' / 'scale.json'
            with under('file'):
                content = FORMAT.read(path)
                require(is_number(content['scale']), path, 'scale', content['scale'], 'a number')
            self.scale.fill_(content['scale'])

    def forward(self, student, teacher, batch):
        return {name: loss * self.scale for name, loss in super().forward(student, teacher, batch).items()}


class ScaleSearchHook(StatefulHook):
    """Moves the scale up or down; turns round whenever the loss on validation batches has risen."""
    priority, state_key = 'NORMAL', 'scale_search'

    @dataclass(frozen=True, kw_only=True)
    class Options(SearchOptions):
        factor: float = option(Number(least=1), 1.1, 'by which the scale grows or shrinks in a step')
        out: str = option(Text(), 'scale.json', 'name of the file, in the work dir')

    def __init__(self, **given):
        with under(KEY):
            self.options = self.Options.read(given)
        self.run, self.steps, self.direction, self.loss = SearchRun(KEY, self.options), 0, 1, math.inf

    def before_train(self, runner):
        self.distiller = self.run.begin(runner, ScaledDistiller)
        saved = self.run.resume(dict(factor=self.options.factor, seed=self.options.seed, length=runner.max_iters))
        if saved is not None:
            self.steps, self.direction, self.loss = saved['steps'], saved['direction'], saved['loss']
        self.run.open(start=self.steps)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        model, before = unwrap(runner.model), self.loss
        with torch.no_grad(), preserved_rng(), preserved_buffers(model), model.distillation.suspended():
            seed_generators(self.options.seed, self.steps)
            losses = model(**model.data_preprocessor(self.run.next_batch(), True), mode='loss')
            self.loss = float(model.parse_losses(losses)[0])
        self.direction = self.direction if self.loss < before else -self.direction
        self.distiller.scale *= self.options.factor ** self.direction
        self.steps += 1
        self.run.course.note('scale', runner.iter, [float(self.distiller.scale)])
        self.run.log(dict(scale=float(self.distiller.scale)))

    def after_train(self, runner):
        self.run.close(self.steps == runner.max_iters, lambda path: FORMAT.write(path, dict(
            scale=float(self.distiller.scale), meta=self.run.meta, course=self.run.course.state())))

    def state_dict(self):
        return self.run.state(dict(steps=self.steps, direction=self.direction, loss=self.loss))

    def load_state_dict(self, state):
        self.run.load(state)


@pytest.fixture(autouse=True, scope='module')
def registered():
    """For these tests only: others list what is registered."""
    MODELS.register_module(module=ScaledDistiller)
    HOOKS.register_module(module=ScaleSearchHook)
    yield
    del MODELS.module_dict['ScaledDistiller'], HOOKS.module_dict[KEY]


def scaled(mode='search', **options):
    return dict(type='mmkd.ScaledDistiller', mode=mode, pairs=['backbone.layer4'], **options)


def search_cfg(work_dir, hook=None, student=None, distillers=None, **options):
    """A short search: 4 iterations an epoch, with random transforms in training and validation."""
    student = student or classifier()
    val = loader(student['_scope_'], 6)
    val['dataset']['noise'] = True
    model = distilled(deepcopy(student), **(distillers or dict(l2=scaled())))
    cfg = run_cfg(model, work_dir, hooks=[dict(type=f'mmkd.{KEY}', **{'dataloader': val, **(hook or {})})], **options)
    cfg.train_dataloader.dataset.noise = True
    cfg.experiment_name = f'third search in {work_dir}'
    return cfg


def hook_of(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, ScaleSearchHook))


def values_of(runner):
    model = runner.model
    return {**model.state_dict(), **{f'adapter.{name}': value for name, value in model.distillation.state_dict().items()}}


def test_the_course_goes_into_the_file_and_the_log(tmp_path):
    runner, _ = run(search_cfg(tmp_path, epochs=2))
    content = FORMAT.read(tmp_path / 'scale.json')
    scale = float(runner.model.distillation.l2.scale)
    assert content['scale'] == scale != 1
    positions, scales = zip(*content['course']['scale'])
    assert positions == tuple(range(8))
    for earlier, later in zip((1, *scales), scales):
        assert later / earlier == pytest.approx(1.1 if later > earlier else 1 / 1.1)
    assert content['meta']['seed'] == 0
    scalars = next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()
    assert [json.loads(line)['l2.scale'] for line in scalars] == list(scales)


@pytest.mark.slow
def test_a_training_finds_what_the_search_has_written(tmp_path):
    cfg = search_cfg(tmp_path, distillers=dict(l2=scaled('file')))
    hook, = cfg.pop('custom_hooks')
    cfg.search = dict(split=None, hook={name: value for name, value in hook.items() if name != 'type'})
    run(derive_search(cfg))
    MessageHub._instance_dict.clear()
    runner, _ = run(cfg)
    assert runner.model.distillation.l2.scale == FORMAT.read(tmp_path / 'search' / 'scale.json')['scale']


@pytest.mark.parametrize(('change', 'message'), [
    (dict(scale='x'), "scale is 'x'. Accepted: a number"), (dict(scalee=1), "'scalee' is no key here. Did you mean 'scale'"),
    (dict(format='mmkd.process'), "has the format 'mmkd.process'. Accepted: format 'test.scale'")])
def test_a_file_that_does_not_fit_is_one_error_under_its_key(tmp_path, change, message):
    path = tmp_path / 'scale.json'
    FORMAT.write(path, dict(scale=2., meta={}, course={}))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DistillationError, match=f'^model.distillers.l2.file: .*{message}'):
        run(run_cfg(distilled(classifier(), l2=scaled('file', file=str(path))), tmp_path, length=2))


@pytest.mark.slow
@pytest.mark.parametrize('student', [classifier, retinanet])
def test_an_interrupted_search_is_an_uninterrupted_one(tmp_path, student):
    whole, losses = run(search_cfg(tmp_path / 'whole', student=student(), epochs=2, length=4))
    MessageHub._instance_dict.clear()
    _, first = run(search_cfg(tmp_path / 'half', student=student(), epochs=2, length=4),
                   before=lambda runner: runner.register_hook(Stop(epoch=1)))
    assert not (tmp_path / 'half' / 'scale.json').exists()
    MessageHub._instance_dict.clear()
    resumed, second = run(search_cfg(tmp_path / 'half', student=student(), epochs=2, length=4, resume=True))
    assert first + second == losses
    assert len(first) == len(second)
    values = values_of(resumed)
    assert all(torch.equal(value, values[name]) for name, value in values_of(whole).items())
    assert hook_of(whole).state_dict() == hook_of(resumed).state_dict()
    assert (tmp_path / 'whole/scale.json').read_bytes() == (tmp_path / 'half/scale.json').read_bytes()


@pytest.mark.slow
def test_a_search_that_moves_nothing_is_the_training_without_it(tmp_path):
    searched, losses = run(search_cfg(tmp_path / 'search', dict(factor=1)))
    MessageHub._instance_dict.clear()
    cfg = search_cfg(tmp_path / 'plain', distillers=dict(l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'])))
    cfg.custom_hooks = []
    plain, expected = run(cfg)
    assert losses == expected
    values = values_of(searched)
    assert all(torch.equal(value, values[name]) for name, value in values_of(plain).items())


@pytest.mark.parametrize(('key', 'value'), [('every', 2), ('fraction', .5)])
def test_a_search_needs_whole_steps(tmp_path, key, value):
    with pytest.raises(DistillationError, match=f'^model.distillers.l2.{key}: {value} is not for a search, whose steps look '
                       'at whole training steps. Accepted: 1'):
        run(search_cfg(tmp_path, distillers=dict(l2=scaled(**{key: value}))))


@pytest.mark.parametrize(('hook', 'message'), [
    (dict(factor=.5), f'^{KEY}.factor: 0.5. Accepted: a number >= 1'),
    (dict(fator=2), f"^{KEY}.fator: 'fator' is no key here. Did you mean 'factor'"),
    (dict(dataloader=None), f'^{KEY}.dataloader: .*validation data that training does not see')])
def test_a_wrong_option_is_one_error(tmp_path, hook, message):
    with pytest.raises(DistillationError, match=message):
        run(search_cfg(tmp_path, hook, length=2))


def test_several_optimisers_are_refused(tmp_path):
    def twice(runner):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=.1)
        runner.optim_wrapper = OptimWrapperDict(one=OptimWrapper(optimizer))

    with pytest.raises(DistillationError, match=rf'^{KEY}: the run has several optimisers \(optim_wrapper\). Accepted: one'):
        run(search_cfg(tmp_path, length=2), before=twice)


@pytest.mark.parametrize(('distillers', 'message'), [
    (dict(one=scaled(), other=scaled()), "finds 2 distillers of type 'mmkd.ScaledDistiller' with mode='search'"),
    (dict(l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'])), 'finds 0 distillers')])
def test_one_distiller_is_searched(tmp_path, distillers, message):
    with pytest.raises(DistillationError, match=f'^{KEY}: {message}.*Accepted: one'):
        run(search_cfg(tmp_path, distillers=distillers, length=2))


@pytest.mark.slow
def test_resuming_with_other_settings_is_refused_with_both_sides(tmp_path):
    run(search_cfg(tmp_path, epochs=2, length=2), before=lambda runner: runner.register_hook(Stop(epoch=1)))
    MessageHub._instance_dict.clear()
    message = "resume: the search had other settings. Checkpoint: {'factor': 1.1}. Config: {'factor': 2}"
    with pytest.raises(DistillationError, match=message):
        run(search_cfg(tmp_path, dict(factor=2), epochs=2, length=2, resume=True))
