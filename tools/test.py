"""Tests a checkpoint: `mmkd test`. A distilled config tests as its student; its teacher is neither built nor loaded."""
from mmkd_plugin.cli.main import flags_of_test
from mmkd_plugin.cli.test import test
from mmkd_plugin.utils.launch import one_line_errors

if __name__ == '__main__':
    with one_line_errors():
        test(flags_of_test().parse_args())
