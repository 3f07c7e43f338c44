"""Trains any OpenMMLab config, distilled or not: `mmkd train` without a search. The flags are those of the upstream tool."""
from mmkd_plugin.cli.main import flags_of_train
from mmkd_plugin.cli.train import train
from mmkd_plugin.utils.launch import one_line_errors

if __name__ == '__main__':
    with one_line_errors():
        train(flags_of_train().parse_args())
