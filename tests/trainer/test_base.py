import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from fakes.tiny import Said, TinyHome, make_tiny_base, make_tokenizer
from shammah_data.errors import ExportError, InputError
from shammah_runtime.engine.chat import ChatTokenizer
from shammah_trainer.base import Base, make_base


def no_words(_: str) -> None:
    """Say nothing."""


def assert_one_line(error: BaseException) -> None:
    assert len(str(error).splitlines()) == 1


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny model's folder, to be damaged."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def test_a_model_folder_becomes_a_base(tiny_folder: Path, base: Base) -> None:
    assert base.chat.user_prefix == "<|im_start|>user\n"
    assert base.chat.assistant_suffix == "<|im_end|>\n"
    assert base.name.startswith("tiny-")
    source = AutoModelForCausalLM.from_pretrained(tiny_folder).state_dict()
    made = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.bfloat16).state_dict()
    assert source.keys() == made.keys()
    assert all(torch.equal(source[name].to(torch.bfloat16), made[name]) for name in source)


def test_prompts_are_the_ids_of_the_models_own_template(tiny_folder: Path, base: Base) -> None:
    reference = AutoTokenizer.from_pretrained(tiny_folder)
    turns = [{"role": "user", "content": "How does the wifi work?\n  Tell me."}]
    expected = reference.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    tokenizer = ChatTokenizer(base.folder / "tokenizer.json", base.chat)
    assert tokenizer.prompt("How does the wifi work?\n  Tell me.") == list(expected)


def test_stop_ids_hold_what_closes_an_answer(tiny_folder: Path, base: Base) -> None:
    reference = AutoTokenizer.from_pretrained(tiny_folder)
    assert reference.convert_tokens_to_ids("<|im_end|>") in base.stop_ids
    assert reference.convert_tokens_to_ids("<|im_start|>") not in base.stop_ids


def test_a_closing_mark_that_no_setting_names_is_a_stop_id(copy: Path, tmp_path: Path) -> None:
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((copy / name).read_text())
        (copy / name).write_text(json.dumps(settings | {"eos_token_id": 0}))
    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(copy)
    made = make_base(str(copy), tmp_path / "bases", no_words)
    assert set(made.stop_ids) == {0, tokenizer.convert_tokens_to_ids("<|im_end|>")}


def test_the_second_call_reuses_the_first(copy: Path, tmp_path: Path) -> None:
    said: list[str] = []
    first = make_base(str(copy), tmp_path / "bases", said.append)
    assert not any("already there" in line for line in said)
    # What is not read again cannot be missed.
    (copy / "model.safetensors").unlink()
    assert make_base(str(copy), tmp_path / "bases", said.append) == first
    assert "already there" in said[-1]


def _another_model(folder: Path) -> None:
    shutil.copytree(make_tiny_base(folder.parent / "other", seed=1), folder, dirs_exist_ok=True)


def test_a_source_that_changed_is_converted_anew_under_its_name(copy: Path, tmp_path: Path) -> None:
    said: list[str] = []
    first = make_base(str(copy), tmp_path / "bases", said.append)
    _another_model(copy)
    second = make_base(str(copy), tmp_path / "bases", said.append)
    assert (second.name, second.folder) == (first.name, first.folder)
    assert second.sha256 != first.sha256
    made = AutoModelForCausalLM.from_pretrained(second.folder, dtype=torch.bfloat16).state_dict()
    source = AutoModelForCausalLM.from_pretrained(copy).state_dict()
    assert all(torch.equal(source[name].to(torch.bfloat16), made[name]) for name in source)
    assert any("made anew" in line for line in said)
    assert list((tmp_path / "bases").iterdir()) == [second.folder]
    assert make_base(str(copy), tmp_path / "bases", said.append) == second
    assert "already there" in said[-1]


def test_a_changed_source_that_cannot_be_read_leaves_the_base_as_it_was(copy: Path, tmp_path: Path) -> None:
    first = make_base(str(copy), tmp_path / "bases", no_words)
    (copy / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be loaded"):
        make_base(str(copy), tmp_path / "bases", no_words)
    assert Base.open(first.folder) == first
    assert list((tmp_path / "bases").iterdir()) == [first.folder]


def test_a_base_that_does_not_say_what_it_was_made_of_is_taken_as_it_is(copy: Path, tmp_path: Path) -> None:
    first = make_base(str(copy), tmp_path / "bases", no_words)
    info = json.loads((first.folder / "base.json").read_text())
    del info["source"]
    (first.folder / "base.json").write_text(json.dumps(info))
    _another_model(copy)
    assert make_base(str(copy), tmp_path / "bases", no_words) == first


def test_a_base_that_a_run_may_read_is_not_replaced(
    copy: Path, make_home: Callable[..., TinyHome], train: Callable[..., Said]
) -> None:
    home = make_home()
    assert train(home, "base", str(copy)).code == 0
    (made,) = (home.root / "bases").iterdir()
    first = Base.open(made)
    _another_model(copy)
    (home.root / "runs").mkdir()
    with FileLock(home.root / "runs" / ".lock"):
        said = train(home, "base", str(copy))
        assert (said.code, len(said.err.splitlines())) == (2, 1)
        assert "a run is in progress" in said.err
        assert Base.open(made) == first
    assert train(home, "base", str(copy)).code == 0
    assert Base.open(made).sha256 != first.sha256


def test_what_killed_conversions_left_is_removed_and_nothing_else(tiny_folder: Path, tmp_path: Path) -> None:
    bases = tmp_path / "bases"
    for name in (".making-abc", ".making-wheel", ".old-abc", "mine"):
        (bases / name).mkdir(parents=True)
        (bases / name / "large").write_text("x")
    made = make_base(str(tiny_folder), bases, no_words)
    assert {path.name for path in bases.iterdir()} == {"mine", made.name}


def test_the_digest_depends_on_the_model_alone(tiny_folder: Path, copy: Path, base: Base, tmp_path: Path) -> None:
    same = make_base(str(copy), tmp_path / "bases", no_words)
    assert same.sha256 == base.sha256
    assert same.name != base.name
    other = make_base(str(make_tiny_base(tmp_path / "other", seed=1)), tmp_path / "bases", no_words)
    assert other.sha256 != base.sha256


def test_two_folders_of_one_name_are_two_bases(tiny_folder: Path, tmp_path: Path) -> None:
    made = set()
    for place in ("here", "there"):
        shutil.copytree(tiny_folder, tmp_path / place / "model")
        made.add(make_base(str(tmp_path / place / "model"), tmp_path / "bases", no_words).folder)
    assert len(made) == 2


@pytest.mark.parametrize("source", ["/no/such/folder", "./none", "~/none", "none.gguf", "owner", "a/b/c", "...", ""])
def test_what_is_not_there_is_named_in_one_line(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        make_base(source, tmp_path / "bases", no_words)
    assert_one_line(caught.value)
    assert source in str(caught.value)


def test_an_unknown_hub_name_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"^no-such-owner/no-such-model: ") as caught:
        make_base("no-such-owner/no-such-model", tmp_path / "bases", no_words)
    assert_one_line(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.gguf", b""),
        ("model.gguf", b"GGU"),
        ("model.gguf", b"PK\x03\x04 a wheel"),
        ("model.gguf", b"GGUF"),
        ("model.gguf", b"GGUF\x03\x00\x00\x00" + b"\xff" * 64),
        ("model.bin", b"GGUF"),
    ],
)
def test_a_file_that_is_no_gguf_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name) as caught:
        make_base(str(tmp_path / name), tmp_path / "bases", no_words)
    assert_one_line(caught.value)


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _bad_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def _bad_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": 5}')


def _no_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def _unfit_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}")


@pytest.mark.parametrize(
    "damage", [_no_config, _bad_config, _no_weights, _cut_weights, _bad_tokenizer, _no_template, _unfit_template]
)
def test_a_damaged_folder_is_one_line_and_leaves_nothing(damage: Callable[[Path], None], copy: Path, tmp_path: Path) -> None:
    damage(copy)
    with pytest.raises(InputError, match=str(copy)) as caught:
        make_base(str(copy), tmp_path / "bases", no_words)
    assert_one_line(caught.value)
    assert not list((tmp_path / "bases").glob("*"))


def test_an_unknown_architecture_is_named(tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(vocab_size=512, n_embd=32, n_layer=1, n_head=2)).save_pretrained(tmp_path / "gpt2")
    make_tokenizer().save_pretrained(tmp_path / "gpt2")
    with pytest.raises(ExportError, match="'gpt2' is not supported") as caught:
        make_base(str(tmp_path / "gpt2"), tmp_path / "bases", no_words)
    assert_one_line(caught.value)


def test_code_that_a_folder_brings_along_is_not_run_even_if_the_user_says_yes(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    (copy / "own.py").write_text(f"from pathlib import Path\nPath({str(ran)!r}).touch()\n")
    settings = json.loads((copy / "config.json").read_text())
    named = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (copy / "config.json").write_text(json.dumps(settings | {"model_type": "own", "auto_map": named}))
    monkeypatch.setattr("builtins.input", lambda _: "y")
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        make_base(str(copy), tmp_path / "bases", no_words)
    assert_one_line(caught.value)
    assert not ran.exists()


def test_a_folder_that_is_no_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a base folder") as caught:
        Base.open(tmp_path)
    assert_one_line(caught.value)


def write_gguf(folder: Path, path: Path) -> None:
    """A model folder as a GGUF file of float32 tensors, with the names and the head layout of llama.cpp's converter."""
    import gguf

    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    vocabulary = tokenizer["model"]["vocab"]
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.__getitem__))
    writer.add_token_types([3 if token in special else 1 for token in sorted(vocabulary, key=vocabulary.__getitem__)])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(vocabulary["<|im_start|>"])
    writer.add_eos_token_id(vocabulary["<|im_end|>"])
    writer.add_chat_template((folder / "chat_template.jinja").read_text())
    for name, tensor in AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict().items():
        writer.add_tensor(_gguf_name(name), _gguf_layout(name, tensor.numpy(), heads, kv_heads))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    if name in (whole := {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}):
        return whole[name]
    if name == "lm_head.weight":
        return "output.weight"
    _, _, layer, part = name.split(".", 3)
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    return f"blk.{layer}.{parts[part.removesuffix('.weight')]}.weight"


def _gguf_layout(name: str, weight: Any, heads: int, kv_heads: int) -> Any:
    """llama.cpp rotates neighbouring pairs, so its converter interleaves the two halves of each query and key head."""
    count = heads if "q_proj" in name else kv_heads if "k_proj" in name else 0
    if not count:
        return weight
    halves = weight.reshape(count, 2, weight.shape[0] // count // 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def test_a_gguf_file_becomes_the_same_base(tiny_folder: Path, base: Base, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(tiny_folder, path)
    made = make_base(str(path), tmp_path / "bases", no_words)
    assert made.name.startswith("tiny-")
    assert made.chat == base.chat
    assert set(made.stop_ids) == set(base.stop_ids)
    wanted = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32).state_dict()
    found = AutoModelForCausalLM.from_pretrained(made.folder, dtype=torch.float32).state_dict()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    mine = ChatTokenizer(made.folder / "tokenizer.json", made.chat)
    theirs = ChatTokenizer(base.folder / "tokenizer.json", base.chat)
    text = "How does the wifi work? Ça va — 123,  <|im_end|>\n"
    assert mine.prompt(text) == theirs.prompt(text)
    assert mine.decode(mine.encode(text)) == text


@pytest.mark.slow
def test_the_default_base_is_downloaded_and_checked(tmp_path: Path) -> None:
    said: list[str] = []
    made = make_base(None, tmp_path / "bases", said.append)
    assert made.name == "smollm2-135m-instruct"
    assert made.chat.user_prefix == "<|im_start|>user\n"
    tokenizer = ChatTokenizer(made.folder / "tokenizer.json", made.chat)
    assert tokenizer.decode(tokenizer.encode("What is 15 + 27?")) == "What is 15 + 27?"
    assert tokenizer.encode("<|im_end|>")[0] not in made.stop_ids
    assert any("downloading" in line for line in said)
    assert make_base(None, tmp_path / "bases", said.append) == made
