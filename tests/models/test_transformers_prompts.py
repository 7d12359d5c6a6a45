"""How other people's models are asked: which pictures, instructions and earlier words reach them, and in what form."""

from typing import Any

import pytest
import tiny_families
from PIL import Image

from visavis.models.chat_templates import own_template
from visavis.models.errors import ModelError, TextTooLong
from visavis.models.generation import GenerationRequest, Message, Region, Shown
from visavis.models.transformers_dialogue import PART
from visavis.models.transformers_prompts import Prompt, Prompts

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # transformers' own
A, B, C = (Shown(letter * 64) for letter in "abc")
PER_PICTURE = 4  # tokens, of the tiny checkpoints
SYSTEM = Message("system", ("Be brief.\nBe kind.",))


def user(*parts: str | Shown) -> Message:
    return Message("user", parts)


def said(text: str) -> Message:
    return Message("assistant", (text,))


def asked(*dialogue: Message, region: Region | None = None) -> GenerationRequest:
    """The newest picture is the one that is meant."""
    shown = [image for message in dialogue for image in message.images]
    return GenerationRequest("?", (), shown[-1] if shown else None, region, dialogue=dialogue)


def parts(family: str = "llava", template: str | None = None) -> tuple[Any, Any]:
    model, processor = tiny_families.make(family)
    if template is not None:
        processor.chat_template = template
    return processor, model.config


def make(prompts: Prompts, request: GenerationRequest, room: int = 0) -> tuple[Prompt, list[Shown]]:
    """The prompt, and the pictures that were read for it."""
    read: list[Shown] = []

    def pixels(shown: Shown) -> Image.Image:
        read.append(shown)
        return Image.new("RGB", (40, 30), "red")

    return prompts.make(request, pixels, room), read


def words(prompt: Prompt) -> str:
    return str(tiny_families.TOKENS.decode(prompt.inputs["input_ids"][0])).replace("<image>" * PER_PICTURE, "<image>")


def test_all_pictures_of_a_conversation_are_shown_where_they_came_up() -> None:
    prompts = Prompts(*parts())
    prompt, read = make(
        prompts, asked(user(A, "What is it?"), said("A dog."), user("First: ", B, "second: ", C, "Which is older?"))
    )
    assert prompts.several_pictures and read == [A, B, C]
    assert prompt.images == (A.sha256, B.sha256, C.sha256)
    assert prompt.image_tokens == 3 * PER_PICTURE
    assert prompt.inputs["pixel_values"].shape[0] == 3
    expected = (
        "user: <image>\nWhat is it?assistant: A dog.user: First: <image>\nsecond: <image>\nWhich is older?assistant:"
    )
    assert words(prompt).replace("\nuser", "user").replace("\nassistant", "assistant").strip() == expected


@pytest.mark.parametrize("family", ["gemma3", "idefics3", "mllama", "ovis2"])
def test_families_that_take_several_pictures_are_found_out(family: str) -> None:
    prompts = Prompts(*parts(family))
    one, _ = make(prompts, asked(user(A, "What is it?")))
    three, read = make(prompts, asked(SYSTEM, user(A, "What is it?"), said("A dog."), user(B, C, "And these?")))
    assert prompts.several_pictures and prompts.without_picture and read == [A, B, C]
    assert three.image_tokens == 3 * one.image_tokens > 0


def test_a_model_of_one_picture_gets_the_one_that_is_meant() -> None:
    prompts = Prompts(*parts("blip-2"))
    prompt, read = make(prompts, asked(user(A, B, "What is it?"), said("A dog."), user("Is it big?")))
    assert not prompts.several_pictures and read == [B]
    assert "Question: Is it big? Answer:" in words(prompt)
    assert "one picture" in prompts.told()


BUT_PICTURES = (
    "{% for m in messages %}{{ m.role }}: {% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}"
    "{% endif %}{% endfor %}{% endfor %}"
)
ONE_A_MESSAGE = BUT_PICTURES.replace("{% for c", "{% if m.content[0].type == 'image' %}<image>{% endif %}{% for c")
ONE_AT_ALL = "{% if messages[0].content[0].type == 'image' %}<image>{% endif %}" + BUT_PICTURES


@pytest.mark.parametrize("template", [ONE_A_MESSAGE, ONE_AT_ALL])
def test_a_template_that_would_lose_pictures_gets_one_and_what_was_said_about_it(template: str) -> None:
    prompts = Prompts(*parts(template=template))
    talk = (user(A, B, "What is it?"), said("A dog."), user(C, "And this?"), said("A cat."), user("Is it big?"))
    prompt, read = make(prompts, asked(*talk))
    assert not prompts.several_pictures
    assert (read, prompt.images, prompt.image_tokens) == ([C], (C.sha256,), PER_PICTURE)
    assert "A cat." in words(prompt) and "A dog." not in words(prompt)


def test_a_template_of_one_question_is_asked_that_alone() -> None:
    prompts = Prompts(*parts(template="<image>{{ messages[-1].content[-1].text }} Answer:"))
    prompt, read = make(prompts, asked(SYSTEM, user(A, "What is it?"), said("A dog."), user("Is it big?")))
    assert words(prompt).removeprefix("<s>") == "<image>Is it big? Answer:"
    assert read == [A] and "question alone" in prompts.told() and not prompts.without_picture


LOOP = tiny_families.template("<image>")
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + LOOP
FORGETS = LOOP.replace("in messages %}", "in messages if m.role != 'system' %}", 1)
AS_TEXT = "{% if messages[0].role == 'system' %}SYS {{ messages[0].content }}{% endif %}" + FORGETS
NO_PICTURES_BESIDE = (
    "{% if messages[0].role == 'system' and messages[1].content[0].type == 'image' %}"
    "{{ raise_exception('Prompting with images is incompatible with system messages') }}{% endif %}" + LOOP
)


@pytest.mark.parametrize(
    ("template", "written", "has_role"),
    [
        (LOOP, "system: Be brief.\nBe kind.", True),
        (AS_TEXT, "SYS Be brief.\nBe kind.", True),
        (REFUSES, "user: <image>Be brief.\nBe kind.\nWhat is it?", False),
        (FORGETS, "user: <image>Be brief.\nBe kind.\nWhat is it?", False),
        (NO_PICTURES_BESIDE, "user: <image>Be brief.\nBe kind.\nWhat is it?", False),
    ],
    ids=["parts", "text", "refuses", "forgets", "not beside pictures"],
)
def test_instructions_reach_the_model_whatever_its_template_knows(template: str, written: str, has_role: bool) -> None:
    prompts = Prompts(*parts(template=template))
    prompt, _ = make(prompts, asked(SYSTEM, user(A, "What is it?"), said("A dog."), user("Is it big?")))
    assert words(prompt).replace("Be kind.What", "Be kind.\nWhat").count(written) == 1
    assert words(prompt).count("Be brief") == 1
    assert ("in the first question" in prompts.told()) is not has_role


def test_instructions_in_the_middle_come_before_what_is_said_next_and_roles_alternate() -> None:
    strict = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + LOOP
    )
    prompts = Prompts(*parts(template=strict))
    late = Message("system", ("In French now.",))
    talk = (user("Hello."), user("What is it?"), said("A dog."), said("Or a cat."), late, user("Is it big?"))
    prompt, _ = make(prompts, asked(*talk, Message("system", ("One word.",))))
    lines = ["user: Hello.", "What is it?", "assistant: A dog.", "Or a cat.", "user: In French now.", "One word."]
    written = words(prompt)
    assert [written.count(line) for line in lines] == [1] * 6
    assert written.index("In French now.") < written.index("One word.") < written.index("Is it big?")


def test_what_does_not_fit_is_left_out_from_the_beginning_but_not_the_picture_that_is_meant() -> None:
    processor, config = parts()
    config.text_config.max_position_embeddings = 160
    prompts = Prompts(processor, config)
    old = [one for number in range(40) for one in (user(f"Question {number}?"), said(f"Answer {number}."))]
    prompt, read = make(prompts, asked(user(A, "What is it?"), said("A dog."), *old, user("Is it big?")), room=20)
    assert 100 < prompt.tokens <= 140
    assert prompt.left == 160 - prompt.tokens
    assert read[-1] == A and prompt.image_tokens == PER_PICTURE
    assert "Answer 39." in words(prompt) and "Answer 0." not in words(prompt) and "Is it big?" in words(prompt)
    kept, _ = make(prompts, asked(SYSTEM, *(old * 20), user("Is it big?")), room=20)
    assert 100 < kept.tokens <= 140
    assert "Be brief." in words(kept) and "Answer 39." in words(kept)
    with pytest.raises(TextTooLong):
        make(prompts, asked(user("word " * 60)))


def test_words_of_people_are_no_tokens_of_the_model() -> None:
    prompts = Prompts(*parts())
    prompt, _ = make(prompts, asked(user(A, "Is <image> or </s> in <image>?")))
    assert prompt.image_tokens == PER_PICTURE
    assert not (prompt.inputs["input_ids"][0, 1:] == tiny_families.IDS["</s>"]).any()
    assert "< image> or < /s>" in words(prompt)


def test_a_template_that_begins_as_the_tokenizer_does_begins_once() -> None:
    processor, config = parts(template="<s>" + LOOP)
    from tokenizers.processors import TemplateProcessing

    processor.tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<s> $0", special_tokens=[("<s>", 1)])
    prompt, _ = make(Prompts(processor, config), asked(user(A, "What is it?")))
    assert prompt.inputs["input_ids"][0, :2].tolist().count(tiny_families.IDS["<s>"]) == 1


def test_a_part_that_is_pointed_at_is_one_more_picture_or_the_only_one() -> None:
    part = Region(0.1, 0.2, 0.3, 0.4)
    prompt, read = make(Prompts(*parts()), asked(user(B, A, "What is this?"), region=part))
    assert read == [B, A, Shown(A.sha256, part)]
    assert prompt.images == (B.sha256, A.sha256)
    assert PART in words(prompt)
    _, read = make(Prompts(*parts("git")), asked(user(B, A, "What is this?"), region=part))
    assert read == [Shown(A.sha256, part)]


def test_a_model_without_a_template_that_is_known_is_asked_as_the_first_ones_were() -> None:
    processor, config = parts()
    processor.chat_template = None
    assert own_template(processor) is None
    prompts = Prompts(processor, config)
    prompt, read = make(prompts, asked(SYSTEM, user(A, "What is it?"), said("A dog."), user(B, "And this?")))
    assert read == [A, B]
    expected = (
        "<s>Be brief.\nBe kind. USER: <image>\nWhat is it? ASSISTANT: A dog.</s>USER: <image>\nAnd this? ASSISTANT:"
    )
    assert words(prompt) == expected


@pytest.mark.parametrize("family", ["llava", "git"])
def test_a_processor_that_fails_is_told_at_once(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    processor, config = parts(family)

    def fails(*_: object, **__: object) -> None:
        raise TypeError("no pictures here\nat all")

    monkeypatch.setattr(type(processor), "__call__", fails)
    with pytest.raises(ModelError, match=r"^no pictures here$"):
        Prompts(processor, config)
