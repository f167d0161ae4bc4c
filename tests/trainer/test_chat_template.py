import re
from collections.abc import Sequence
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from fakes.tiny import CHATML
from shammah_data.errors import InputError
from shammah_data.manifest import ChatFormat
from shammah_trainer.chat_template import Render, Turn, chat_format, plain_text

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
QWEN = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}" + CHATML
)
# Folds a system turn into the first question, and wants turns to take turns.
GEMMA3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}{% for m in turns %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ first if loop.first }}"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# Only the last answer shows what was thought, and if that was nothing.
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n"
    "{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Puts a system turn into the last question; nothing but the end of a question opens an answer.
MISTRAL = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set told = messages[0]['content'] + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set told = '' %}{% set turns = messages %}{% endif %}{% for m in turns %}"
    "{% if m['role'] == 'user' %}[INST] {{ told if loop.last }}{{ m['content'] }} [/INST]"
    "{% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}"
)
FORMATS = {
    "chatml": (
        CHATML,
        "<|im_start|>",
        ChatFormat(
            start="",
            user_prefix="<|im_start|>user\n",
            user_suffix="<|im_end|>\n",
            assistant_prefix="<|im_start|>assistant\n",
            assistant_suffix="<|im_end|>\n",
            system_prefix="<|im_start|>system\n",
            system_suffix="<|im_end|>\n",
        ),
    ),
    "llama3": (
        LLAMA3,
        "<|begin_of_text|>",
        ChatFormat(
            start="<|begin_of_text|>",
            user_prefix="<|start_header_id|>user<|end_header_id|>\n\n",
            user_suffix="<|eot_id|>",
            assistant_prefix="<|start_header_id|>assistant<|end_header_id|>\n\n",
            assistant_suffix="<|eot_id|>",
            system_prefix="<|start_header_id|>system<|end_header_id|>\n\n",
            system_suffix="<|eot_id|>",
        ),
    ),
    "gemma": (
        GEMMA,
        "<bos>",
        ChatFormat(
            start="<bos>",
            user_prefix="<start_of_turn>user\n",
            user_suffix="<end_of_turn>\n",
            assistant_prefix="<start_of_turn>model\n",
            assistant_suffix="<end_of_turn>\n",
        ),
    ),
    "gemma3": (
        GEMMA3,
        "<bos>",
        ChatFormat(
            start="<bos>",
            user_prefix="<start_of_turn>user\n",
            user_suffix="<end_of_turn>\n",
            assistant_prefix="<start_of_turn>model\n",
            assistant_suffix="<end_of_turn>\n",
        ),
    ),
    "qwen3": (
        QWEN3,
        None,
        ChatFormat(
            start="",
            user_prefix="<|im_start|>user\n",
            user_suffix="<|im_end|>\n",
            assistant_prefix="<|im_start|>assistant\n",
            assistant_suffix="<|im_end|>\n",
            system_prefix="<|im_start|>system\n",
            system_suffix="<|im_end|>\n",
        ),
    ),
    "mistral": (
        MISTRAL,
        "<s>",
        ChatFormat(
            start="<s>",
            user_prefix="[INST] ",
            user_suffix=" [/INST]",
            assistant_prefix="",
            assistant_suffix="</s>",
        ),
    ),
    "qwen": (
        QWEN,
        None,
        ChatFormat(
            start="",
            user_prefix="<|im_start|>user\n",
            user_suffix="<|im_end|>\n",
            assistant_prefix="<|im_start|>assistant\n",
            assistant_suffix="<|im_end|>\n",
            system_prefix="<|im_start|>system\n",
            system_suffix="<|im_end|>\n",
        ),
    ),
}
UNFIT = {
    "numbers its turns": CHATML.replace("'<|im_start|>' + ", "'<|im_start|>' + loop.index ~ "),
    "upper-cases": CHATML.replace("message['content']", "message['content'] | upper"),
    "replaces what is said": CHATML.replace("message['content']", "'...'"),
    "merges turns": (
        "<s>{% for m in messages %}{{ m['content'] }}{{ ' / ' if not loop.last }}{% endfor %}"
        "{% if add_generation_prompt %} = {% endif %}"
    ),
    "forgets earlier answers": (
        "{% for m in messages %}{% if m['role'] == 'user' or loop.last %}<{{ m['role'] }}>{{ m['content'] }}\n"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    ),
    "puts a blank before answers": MISTRAL.replace("{% else %}{{ m['content'] }}", "{% else %} {{ m['content'] }}"),
    "closes only the last answer": MISTRAL.replace("</s>", "{{ '</s>' if loop.last }}"),
    "opens no answer": "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}",
    "says something of its own first": "Be brief. {% if messages[0]['role'] == 'system' %}{{ raise_exception('') }}{% endif %}"
    + CHATML,
}


def renderer(template: str, bos: str | None = None) -> Render:
    """Render as transformers does."""

    def fail(message: str) -> NoReturn:
        raise ValueError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = fail

    def render(turns: Sequence[Turn], add_generation_prompt: bool) -> str:
        text: str = environment.from_string(template).render(
            messages=list(turns), add_generation_prompt=add_generation_prompt, bos_token=bos
        )
        return text

    return render


@pytest.mark.parametrize("family", FORMATS)
def test_prefixes_and_suffixes_are_found(family: str) -> None:
    template, bos, expected = FORMATS[family]
    assert chat_format(renderer(template, bos), bos, family) == expected


@pytest.mark.parametrize("family", FORMATS)
@given(said=st.lists(st.text(min_size=1).filter(lambda text: text == text.strip()), min_size=1, max_size=5))
def test_plain_text_is_what_the_template_renders(family: str, said: list[str]) -> None:
    template, bos, expected = FORMATS[family]
    said = said if len(said) % 2 else said[1:] or ["?"]
    turns = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
    # A system turn of its own keeps the one that the template would insert away.
    if expected.system_prefix is not None:
        turns = [{"role": "system", "content": "Be kind."}, *turns]
    assert plain_text(expected, turns) == renderer(template, bos)(turns, True)


@pytest.mark.parametrize("what", UNFIT)
def test_a_template_that_is_no_plain_sequence_of_turns_is_refused(what: str) -> None:
    with pytest.raises(InputError, match=r"^some/model: its chat template .*another base model$"):
        chat_format(renderer(UNFIT[what]), None, "some/model")


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('first line\nsecond line') }}", "{% for m in messages %}", "{% unheard_of %}"]
)
def test_a_template_that_fails_is_refused_in_one_line(template: str) -> None:
    with pytest.raises(InputError, match=r"^some/model: its chat template fails") as caught:
        chat_format(renderer(template), None, "some/model")
    assert not re.search(r"[\r\n]", str(caught.value))
