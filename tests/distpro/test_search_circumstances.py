"""Searches under all kinds of circumstances: accumulation, half precision, odd operations and networks, mistakes."""
import pytest
import torch
import torch.nn.functional as F
from distpro_runs import distpro, hook_of, scalars, search_cfg, search_hook, validation_batches
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from torch import nn
from zoo import classifier, distilled, retinanet, run, run_cfg

from mmkd_plugin.distpro import read_process
from mmkd_plugin.distpro.search import validation_gradient
from mmkd_plugin.utils.errors import DistillationError


def test_an_iteration_based_search(tmp_path):
    cfg = search_cfg(tmp_path)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=3)
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', _scope_='mmengine')
    runner, _ = run(cfg)
    assert hook_of(runner).search.steps == 3
    assert read_process(tmp_path / 'process.json').length == 3


@pytest.mark.slow
def test_with_gradient_accumulation_the_importance_moves_when_the_weights_do(tmp_path):
    cfg = search_cfg(tmp_path, length=16)  # 8 iterations
    cfg.optim_wrapper.update(accumulative_counts=4, clip_grad=dict(max_norm=1.))
    runner, _ = run(cfg)
    assert hook_of(runner).search.steps == 2
    importance = read_process(tmp_path / 'process.json').importance
    assert [int((one != other).any()) for one, other in zip(importance[1:], importance)] == [0, 0, 0, 1, 0, 0, 0]


def test_a_search_step_every_so_many_iterations(tmp_path):
    runner, _ = run(search_cfg(tmp_path, hook=dict(interval=3), epochs=2))
    assert hook_of(runner).search.steps == 2


# At the end of a schedule the step is so small that float16 cannot say how features move along it.
@pytest.mark.slow
@pytest.mark.parametrize(('wrapper', 'lr'), [
    ('BFloatOptimWrapper', .01), ('HalfOptimWrapper', .01), ('HalfOptimWrapper', 1e-7)])
def test_mixed_precision_finds_nearly_the_same_gradient(tmp_path, wrapper, lr):
    found = {}
    for name in ('OptimWrapper', wrapper):
        class Note(Hook):
            priority = 'ABOVE_NORMAL'

            def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None, name=name):
                search = hook_of(runner).search
                original = search.gradient

                def gradient(*args):
                    found[name] = original(*args)
                    assert found[name].dtype == torch.float32
                    return found[name]
                search.gradient = gradient

        MessageHub._instance_dict.clear()
        # A softmax's gradient is what is left where d_p cancel; sigmoid shows each d_p as it is.
        cfg = search_cfg(tmp_path / name, length=2, distiller=distpro(normalisation='sigmoid'))
        cfg.optim_wrapper.type = name
        cfg.optim_wrapper.optimizer.lr = lr
        run(cfg, before=lambda runner: runner.register_hook(Note()))
    plain, half = found.values()
    assert ((plain - half).norm() / plain.norm()).item() < .1


def test_a_scaled_loss_leaves_v_as_it_is(tmp_path):
    runner, _ = run(search_cfg(tmp_path, length=2))
    data = next(validation_batches(runner))
    plain, scaled = (validation_gradient(runner.model, data, loss_scale=scale) for scale in (1., 4096.))
    assert all(torch.allclose(plain[name], scaled[name], rtol=1e-4, atol=1e-7) for name in plain)


@pytest.mark.slow
def test_what_a_preprocessor_remembers_is_left_as_it_is(tmp_path):
    student = retinanet()
    student['data_preprocessor']['batch_augments'] = [
        dict(type='BatchSyncRandomResize', random_size_range=(64, 512), interval=1)]
    runner, _ = run(search_cfg(tmp_path, 'mmdet', student=student, length=2))
    resize = runner.model.data_preprocessor.batch_augments[0]
    size = resize._input_size
    for _, data in zip(range(3), validation_batches(runner)):  # each draws a size of its own
        validation_gradient(runner.model, data)
    assert resize._input_size == size


@MODELS.register_module(force=True)
class SamplingResNet(MODELS.get('mmpretrain.ResNet_CIFAR')):
    """Warps its images first: grid_sample has no forward-mode derivative."""

    def __init__(self, **options):
        super().__init__(**options)
        self.shift = nn.Parameter(torch.zeros(2))

    def forward(self, images):
        grid = F.affine_grid(torch.eye(2, 3).repeat(len(images), 1, 1), images.shape, align_corners=False) + self.shift
        return super().forward(F.grid_sample(images, grid, align_corners=False))


@pytest.mark.slow
def test_an_operation_without_forward_mode_is_named_once_and_searched_by_differences(tmp_path):
    student = classifier()
    student['backbone'].update(type='SamplingResNet', _scope_='mmengine')
    cfg = search_cfg(tmp_path / 'fallback', student=student)
    cfg.log_level = 'INFO'
    runner, _ = run(cfg)
    log = next((tmp_path / 'fallback').glob('*/*.log')).read_text()
    assert log.count('has no forward-mode derivative') == 1
    assert 'search: grid_sampler_2d has no forward-mode derivative' in log
    assert hook_of(runner).search.hypergradient == 'finite_difference'
    MessageHub._instance_dict.clear()
    run(search_cfg(tmp_path / 'chosen', student=student, hook=dict(hypergradient='finite_difference')))
    found, chosen = (read_process(tmp_path / name / 'process.json') for name in ('fallback', 'chosen'))
    assert torch.equal(found.importance, chosen.importance)


def vit(layers=2):
    return dict(type='ImageClassifier', _scope_='mmpretrain',
                data_preprocessor=dict(type='ClsDataPreprocessor', mean=[120.] * 3, std=[60.] * 3),
                backbone=dict(type='VisionTransformer', img_size=64, patch_size=16, drop_path_rate=.2, arch=dict(
                    embed_dims=16, num_layers=layers, num_heads=2, feedforward_channels=32)),
                head=dict(type='VisionTransformerClsHead', num_classes=5, in_channels=16))


def test_vision_transformers_are_searched_exactly(tmp_path):
    taps = ['backbone.layers.0', 'backbone.layers.1']
    cfg = search_cfg(tmp_path, student=vit(), teacher=vit(), distiller=distpro(levels=taps, transforms=['token1', 'token2']))
    runner, _ = run(cfg)
    assert hook_of(runner).search.hypergradient == 'exact'
    assert hook_of(runner).search.skipped == 0


def test_a_step_without_a_gradient_is_skipped_and_counted(tmp_path):
    cfg = search_cfg(tmp_path, length=4)
    cfg.optim_wrapper.optimizer.lr = 0.  # nothing moves: v is 0 in the direction of the step
    runner, _ = run(cfg)
    assert (hook_of(runner).search.steps, hook_of(runner).search.skipped) == (2, 2)
    assert read_process(tmp_path / 'process.json').importance.tolist() == [[1, 1, 1]] * 2
    assert scalars(tmp_path)[-1]['distpro.skipped'] == 2


def test_a_pathway_of_weight_zero_is_searched_too(tmp_path):
    # Its gradient does not come with the training step's backward.
    def zero(runner):
        class Zero(Hook):
            def before_train(self, runner):
                runner.model.distillation.distpro.importance.value[1] = 0
                runner.model.distillation.distpro.importance.forget()
        runner.register_hook(Zero())

    run(search_cfg(tmp_path, distiller=distpro(normalisation='l1'), length=4), before=zero)
    importance = read_process(tmp_path / 'process.json').importance
    assert importance[0, 1] == 0
    assert importance[1, 1] != 0


@pytest.mark.parametrize(('hook', 'message'), [
    (dict(lr=-1), r'ProcessSearchHook.lr: -1. Accepted: a number > 0'),
    (dict(betas=.5), r'ProcessSearchHook.betas: 0.5. Accepted: a list of 2 numbers in \[0, 1\)'),
    (dict(hypergradient='darts'), r"ProcessSearchHook.hypergradient: 'darts' is not known. Accepted: exact, finite_d"),
    (dict(unit='step'), r"ProcessSearchHook.unit: 'step' is not known"),
    (dict(intervall=1), r"ProcessSearchHook.intervall: 'intervall' is no key here. Did you mean 'interval'"),
    (dict(dataloader='val'), r"ProcessSearchHook.dataloader: 'val'. Accepted: a loader's config"),
    (dict(betas=('a', 'b')), r"ProcessSearchHook.betas: \('a', 'b'\). Accepted: a list of 2 numbers"),
    (dict(interval=3), r'ProcessSearchHook.interval: 3 is too large: in 1 iterations no search step falls where .*distpro'),
    (dict(dataloader=None), r'ProcessSearchHook.dataloader: .* data that training does not see')])
def test_a_wrong_option_is_one_error(tmp_path, hook, message):
    with pytest.raises(DistillationError, match=message):
        run(search_cfg(tmp_path, hook=hook, length=2))


def test_a_search_without_its_hook_and_a_hook_without_a_search_are_refused(tmp_path):
    with pytest.raises(DistillationError, match="distpro: needs a hook with mode='search'. Add dict.type='mmkd.Process"):
        run(run_cfg(distilled(classifier(), distpro=distpro()), tmp_path, length=2))
    message = "Hook: finds 0 distillers of type 'mmkd.DistProDistiller' with mode='search'.*distpro has mode='equal'"
    with pytest.raises(DistillationError, match=message):
        run(search_cfg(tmp_path, distiller=distpro('equal'), length=2))


def test_one_process_is_searched_at_a_time(tmp_path):
    model = distilled(classifier(), one=distpro(), other=distpro())
    with pytest.raises(DistillationError, match="Hook: finds 2 distillers .*one has mode='search', other has mode='s"):
        run(run_cfg(model, tmp_path, length=2, hooks=[search_hook('mmpretrain')]))
    with pytest.raises(DistillationError, match='ProcessSearchHook and ProcessSearchHook are two of one kind'):
        run(run_cfg(model, tmp_path, length=2, hooks=[search_hook('mmpretrain')] * 2))
