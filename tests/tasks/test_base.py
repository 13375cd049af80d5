"""What every task states of itself."""

from dataclasses import fields

import pytest
import transformers

from internvideo_hf.auto import FAMILIES
from internvideo_hf.data.manifests import COLUMNS
from internvideo_hf.tasks import TASKS, evaluation_tasks, get_task, training_tasks
from internvideo_hf.tasks.base import Task
from internvideo_hf.tasks.protocol import DataSettings, Protocol


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_the_name_of_its_folder_and_something_to_do(name):
    task = get_task(name)
    assert isinstance(task, Task) and task.name == name
    assert task.training or task.evaluation or TASKS[name]


@pytest.mark.parametrize("name", training_tasks())
def test_training_names_classes_and_columns_that_exist(name):
    training = training_tasks()[name]
    own = any(training.auto_class in family.model_names for family in FAMILIES.values())
    assert own or (training.load is not None and hasattr(transformers, training.auto_class))
    assert training.column is None or training.column in COLUMNS


@pytest.mark.parametrize("name", evaluation_tasks())
def test_evaluation_names_settings_that_exist(name):
    evaluation = evaluation_tasks()[name]
    known = {entry.name for entry in fields(Protocol)} | {f"data.{entry.name}" for entry in fields(DataSettings)}
    assert set(evaluation.settings) <= known and evaluation.columns
