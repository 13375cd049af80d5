"""The executor interface and its implementations."""

import inspect

from internvideo_hf.data.executors import processes
from internvideo_hf.data.executors.base import Executor


def test_the_process_pool_is_an_executor():
    executor: Executor = processes
    names = list(inspect.signature(Executor.map_ordered).parameters)
    assert names == ["self", *inspect.signature(executor.map_ordered).parameters]
