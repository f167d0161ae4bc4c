from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shammah_data.errors import TrainingError
from shammah_trainer.base import Base
from shammah_trainer.budget import Sizes, Work, checkpoint_bytes, memory_needed, plan_disk, plan_memory
from shammah_trainer.finetune import load_model

# SmolLM2-135M.
SIZES = Sizes(134_515_008, 134_479_872, 134_515_008, 30, 9, 576, 1536, 49_152)
WORK = Work(longest=512, tokens_at_once=4096, mixed=True, rounded=False)
GB = 10**9


def test_where_there_is_room_nothing_is_changed() -> None:
    plan = plan_memory(SIZES, WORK, 32 * GB)
    assert (plan.save_memory, plan.tokens_at_once) == (False, 4096)
    assert plan == plan_memory(SIZES, WORK, None)


def test_activations_are_computed_twice_where_memory_is_short() -> None:
    full = plan_memory(SIZES, WORK, None)
    plan = plan_memory(SIZES, WORK, full.needed - 1)
    assert (plan.save_memory, plan.tokens_at_once) == (True, 4096)
    assert plan.needed < full.needed


def test_fewer_tokens_at_once_come_last() -> None:
    saving = memory_needed(SIZES, WORK, 4096, save_memory=True)
    plan = plan_memory(SIZES, WORK, saving - 1)
    assert (plan.save_memory, plan.tokens_at_once) == (True, 2048)
    assert plan_memory(SIZES, WORK, memory_needed(SIZES, WORK, 512, save_memory=True)).tokens_at_once == 512


def test_too_little_memory_is_told_in_one_line() -> None:
    with pytest.raises(
        TrainingError, match=r'training needs about [\d,]+ MB of memory and 1,000 MB are free: .*method = "lora"'
    ) as e:
        plan_memory(SIZES, WORK, GB)
    assert len(str(e.value).splitlines()) == 1


def test_what_takes_more_is_estimated_higher() -> None:
    def needed(sizes: Sizes = SIZES, **changes: Any) -> int:
        return memory_needed(sizes, replace(WORK, **changes), 1024, save_memory=False)

    assert needed(rounded=True) - needed() == 4 * SIZES.matrices
    assert needed(mixed=False) < needed()
    lora = replace(SIZES, trained=4_884_480)
    assert needed(lora) < needed() - 1.2 * GB


def test_the_disk_must_hold_the_weights_and_should_hold_checkpoints() -> None:
    assert checkpoint_bytes(SIZES) == pytest.approx(1.61e9, rel=0.01)
    assert plan_disk(SIZES, 10 * GB)
    assert not plan_disk(SIZES, 3 * GB)
    with pytest.raises(TrainingError, match=r"a run writes about 1,614 MB and 1,000 MB of the disk are free"):
        plan_disk(SIZES, GB)


def test_sizes_are_those_of_the_model(base: Base) -> None:
    model = load_model(base.folder)
    sizes = Sizes.of(base.folder, None)
    assert sizes.parameters == sizes.trained == sum(parameter.numel() for parameter in model.parameters())
    assert (sizes.layers, sizes.heads, sizes.hidden, sizes.intermediate, sizes.vocab) == (2, 4, 64, 128, 512)
    assert sizes.matrices == sum(parameter.numel() for parameter in model.parameters() if parameter.ndim == 2)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_parameters_of_an_adapter_are_counted(base: Base) -> None:
    from peft import LoraConfig, get_peft_model

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(load_model(base.folder), LoraConfig(r=4, target_modules=targets))
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert Sizes.of(base.folder, 4).trained == trained


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not a model folder that can be trained"):
        Sizes.of(tmp_path, None)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(TrainingError, match="not a model folder that can be trained"):
        Sizes.of(tmp_path, None)
