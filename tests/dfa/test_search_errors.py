"""What cannot be searched, and wrong options of the hook, are one clear error."""
import pytest
import torch
from dfa_runs import TWO_STAGES, hook, search_run, searching
from mmengine.optim import OptimWrapper, OptimWrapperDict
from zoo import ToyDataset, classifier, dfa, distilled, mgd

from mmkd_plugin.dfa import AggregationSearchHook
from mmkd_plugin.utils.errors import DistillationError


@pytest.mark.slow
@pytest.mark.parametrize(('model', 'hooks', 'message'), [
    (searching(), [dict(type='mmkd.AggregationSearchHook')],
     'AggregationSearchHook.dataloader: is missing: the search needs validation data that training does not see. Accepted'),
    (searching(), [hook(), hook()], 'AggregationSearchHook and AggregationSearchHook are two of one kind'),
    (searching(), [hook(iterations=3)],
     r'^AggregationSearchHook.iterations: the phases take 6 iterations \(3 \+ 3 for layer3, layer4\), the run has 4'),
    (searching(), [hook(optimizer=dict(type='Adm', lr=1))],
     "^AggregationSearchHook.optimizer.type: 'Adm' is not known. Did you mean 'Adam'"),
    (searching(), [hook(optimizer=dict(type='LBFGS'))], "optimizer.type: 'LBFGS' looks at the loss several times"),
    (searching(), [hook(optimizer=dict(type='Adam', rate=1))],
     r"AggregationSearchHook.optimizer: cannot be built \(TypeError: .*'rate'"),
    (searching(), [dict(type='EMAHook')], "nothing says which group. Add dict.type='mmkd.AggregationSearchHook'"),
    (distilled(classifier(), dfa=dfa('distill', TWO_STAGES, aggregation='last')), [hook()],
     "SearchHook: finds 0 distillers of type 'mmkd.FeatureAggregationDistiller' with mode='search'.*has mode='distill'"),
    (distilled(classifier(), mgd=mgd()), [hook()], "finds 0 distillers of type 'mmkd.FeatureAggregationDistiller'")])
def test_what_cannot_be_searched_is_refused(model, hooks, message, tmp_path):
    with pytest.raises(DistillationError, match=message):
        search_run(tmp_path, model, hooks)


def test_several_optimisers_are_refused(tmp_path):
    def divide(runner):
        optimizer = torch.optim.SGD(runner.model.parameters(), lr=.1)
        runner.optim_wrapper = OptimWrapperDict(one=OptimWrapper(optimizer))

    with pytest.raises(DistillationError, match=r'AggregationSearchHook: the run has several optimisers \(optim_wrapper\)'):
        search_run(tmp_path, before=divide)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(weights_first=1), 'weights_first: 1. Accepted: a number >= 0 and < 1'),
    (dict(regularisation=-1), 'regularisation: -1'), (dict(out=None), "out: None. Accepted: the name of a file"),
    (dict(out='there/a.json'), 'out: .*Accepted: the name of a file, without a folder'),
    (dict(iterations=[9, 0, 0]), r'iterations: \[9, 0, 0\]. Accepted: a list of whole numbers > 0, or one for all, or None'),
    (dict(iterations=0), 'iterations: 0. Accepted: a list of whole numbers > 0, or one for all, or None'),
    (dict(optimizer=dict(type=torch.optim.Adam)), "optimizer: .*Accepted: a config, e.g. dict.type='Adam'"),
    (dict(dataloader='train'), "dataloader: 'train'. Accepted: a loader's config, or None"),
    (dict(unrolled='yes'), "unrolled: 'yes'. Accepted: True or False"),
    (dict(optimizer='Adam'), "optimizer: 'Adam'. Accepted: a config"), (dict(seed=1.5), 'seed: 1.5'),
    (dict(unroled=True), "unroled: 'unroled' is no key here. Did you mean 'unrolled'")])
def test_wrong_options_are_refused(options, message):
    with pytest.raises(DistillationError, match=f'AggregationSearchHook.{message}'):
        AggregationSearchHook(**options)


def test_nan_in_the_validation_data_is_named(tmp_path):
    class Poison(ToyDataset):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            item['inputs'] = item['inputs'].float() * float('nan')
            return item

    from mmengine.registry import DATASETS
    DATASETS.register_module(module=Poison, name='Poison', force=True)
    bad = hook()
    bad['dataloader']['dataset']['type'] = 'Poison'
    with pytest.raises(DistillationError, match='held NaN or infinity in iteration 0'):
        search_run(tmp_path, hooks=[bad])
