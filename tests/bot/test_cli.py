"""The command line: what `--help` costs, what commands print, and their exit codes."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from running_gateway import RunGateway
from scripted_engine import ScriptedEngine
from typer.testing import CliRunner

from visavis.bot import captions, doctor, explain, terminal_chat
from visavis.bot.cli import app
from visavis.bot.local_chat import MemoryImages
from visavis.bot.settings import load_settings
from visavis.dialogue.limits import ImageLimits

HEAVY = {"asyncio", "langchain_core", "numpy", "PIL", "pydantic", "redis", "rich", "starlette", "torch", "transformers"}
COMMANDS = (
    "serve",
    "chat",
    "ask",
    "caption",
    "explain",
    "search",
    "train",
    "average",
    "promote",
    "evaluate",
    "compare",
    "import",
    "doctor",
)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> ScriptedEngine:
    """Takes the place of the engine that commands would open in process."""
    engine = ScriptedEngine()
    for module in (terminal_chat, captions, explain):
        monkeypatch.setattr(module, "open_engine", lambda settings: contextlib.nullcontext(engine))
    return engine


@pytest.fixture
def photo_file(tmp_path: Path, photo: bytes) -> Path:
    file = tmp_path / "photo.png"
    file.write_bytes(photo)
    return file


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, visavis.bot.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(imported)


def test_the_module_is_the_command_too() -> None:
    said = subprocess.run([sys.executable, "-m", "visavis.bot.cli", "--help"], capture_output=True, text=True)
    assert said.returncode == 0 and "doctor" in said.stdout


def test_every_command_explains_itself() -> None:
    listed = CliRunner().invoke(app, ["--help"])
    assert listed.exit_code == 0
    for command in COMMANDS:
        assert command in listed.stdout
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_ask_streams_an_answer_and_keeps_the_dialogue(engine: ScriptedEngine, photo_file: Path) -> None:
    one = CliRunner().invoke(app, ["ask", str(photo_file), "What is it?"])
    assert (one.exit_code, one.stdout.strip()) == (0, engine.answer)
    two = CliRunner().invoke(app, ["ask", str(photo_file), "What is it?", "What color?"])
    assert two.stdout.splitlines() == ["> What is it?", f"{engine.answer} ", "> What color?", f"{engine.answer} "]
    first, followed = engine.asked[-2:]
    assert (first.question, first.history, followed.question) == ("What is it?", (), "What color?")
    assert followed.history == (("What is it?", f"{engine.answer} "),)
    assert first.image == followed.image and followed.image in engine.images


@pytest.mark.parametrize(("content", "words"), [(b"text", "not a picture"), (None, "No such file")])
def test_ask_refuses_what_is_no_photo(
    engine: ScriptedEngine, tmp_path: Path, content: bytes | None, words: str
) -> None:
    file = tmp_path / "photo.jpg"
    if content is not None:
        file.write_bytes(content)
    result = CliRunner().invoke(app, ["ask", str(file), "What?"])
    assert result.exit_code == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path, photo_file: Path) -> None:
    code = f"""
import contextlib, sys
from scripted_engine import ScriptedEngine
from visavis.bot import terminal_chat
from visavis.bot.cli import app
terminal_chat.open_engine = lambda settings: contextlib.nullcontext(ScriptedEngine(pause_s=0.1))
sys.argv[1:] = ["ask", {str(photo_file)!r}, "What is it?", "And now?"]
app()
"""
    command = [sys.executable, "-c", code]
    place = Path(__file__).parent
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asking:
        assert asking.stdout is not None and asking.stderr is not None
        asking.stdout.readline()
        asking.stdout.close()
        assert asking.stderr.read() == b""
    assert asking.returncode == 1


def test_ctrl_c_does_not_wait_for_the_model(photo_file: Path) -> None:
    code = f"""
import contextlib, sys, time
from visavis.bot import terminal_chat
from visavis.bot.cli import app
@contextlib.contextmanager
def loading(settings):
    print("loading", flush=True)
    time.sleep(60)
    yield
terminal_chat.open_engine = loading
sys.argv[1:] = ["ask", {str(photo_file)!r}, "What is it?"]
app()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as asking:
        assert asking.stdout is not None and asking.stderr is not None
        asking.stdout.readline()
        asking.send_signal(signal.SIGINT)
        asking.wait(timeout=30)
        assert (asking.returncode, asking.stderr.read()) == (130, b"")


def test_a_command_that_answers_leaves_with_its_code_and_all_it_said(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "visavis.bot.cli", "ask", str(tmp_path / "none.jpg"), "What?"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "none.jpg: No such file or directory." in ended.stderr


def test_ask_without_weights_says_which_file_is_missing(tmp_path: Path, photo_file: Path) -> None:
    result = CliRunner().invoke(app, ["ask", str(photo_file), "What?", "--model", str(tmp_path)])
    assert result.exit_code == 2
    assert "config.json is missing" in result.stderr


def test_caption_goes_on_after_a_bad_photo(engine: ScriptedEngine, photo_file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    result = CliRunner().invoke(app, ["caption", str(bad), str(photo_file), str(tmp_path / "none.jpg")])
    assert result.exit_code == 1
    assert result.stdout == f"{photo_file}: {engine.answer}\n"
    assert [line.partition(": ")[0] for line in result.stderr.splitlines()] == [str(bad), str(tmp_path / "none.jpg")]
    assert CliRunner().invoke(app, ["caption", str(photo_file)]).exit_code == 0


def test_caption_as_json_is_one_object_a_photo(engine: ScriptedEngine, photo_file: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["caption", "--json", str(photo_file), str(tmp_path / "none.jpg")])
    good, bad = (json.loads(line) for line in result.stdout.splitlines())
    assert good == {"image": str(photo_file), "caption": engine.answer, "confidence": 0.5}
    assert bad["error"]["code"] == "bad_image"


def test_captions_are_searched_for_with_beams(engine: ScriptedEngine, photo_file: Path) -> None:
    assert CliRunner().invoke(app, ["caption", "--beams", "4", str(photo_file)]).exit_code == 0
    assert [request.sampling.beams for request in engine.asked] == [4]
    assert CliRunner().invoke(app, ["caption", "--beams", "99", str(photo_file)]).exit_code == 2


def test_explain_writes_a_sheet_and_asks_again_with_a_part_hidden(engine: ScriptedEngine, tmp_path: Path) -> None:
    photo, sheet = tmp_path / "two.png", tmp_path / "map.png"
    two = Image.new("RGB", (40, 40), "blue")
    two.paste("white", (0, 0, 20, 40))
    two.save(photo)
    command = ["explain", str(photo), "What is it?", "--out", str(sheet), "--cover", "0,0,0.5,1"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert result.stdout.count(engine.answer) == 2 and str(sheet) in result.stdout
    with Image.open(sheet) as drawn:
        assert drawn.width == 4 * (40 + 8) - 8  # six tiles, four in a row
        top = drawn.height // 2 + 28  # of the last tile, the fifth word
        hot, cold = drawn.getpixel((48 + 2, top + 2)), drawn.getpixel((48 + 37, top + 37))
    assert isinstance(hot, tuple) and isinstance(cold, tuple)
    assert sum(cold) < 80 < 700 < sum(hot)  # blue gone dark, white as it was
    assert len(engine.images) == 2 and engine.asked[0].image != engine.asked[1].image


def test_a_sheet_of_an_unknown_kind_is_one_sentence(engine: ScriptedEngine, photo_file: Path, tmp_path: Path) -> None:
    for name in ("map", "map.txt"):
        result = CliRunner().invoke(app, ["explain", str(photo_file), "What?", "--out", str(tmp_path / name)])
        assert (result.exit_code, result.stderr.count("\n"), engine.asked) == (1, 1, [])
    command = ["explain", str(photo_file), "What?", "--out", str(tmp_path / "no" / "map.png")]
    assert CliRunner().invoke(app, command).stderr.count("No such file") == 1


@pytest.mark.parametrize("part", ["1,2,3", "0.5,0.5,0.6,0.1", "a,b,c,d", "nan,0,1,1"])
def test_a_part_outside_the_photo_is_one_sentence(engine: ScriptedEngine, photo_file: Path, part: str) -> None:
    result = CliRunner().invoke(app, ["explain", str(photo_file), "What?", "--cover", part])
    assert (result.exit_code, result.stderr.count("\n"), engine.asked) == (2, 1, [])


def test_chat_in_process_reads_commands_and_never_drives_the_terminal(
    engine: ScriptedEngine, photo_file: Path, tmp_path: Path
) -> None:
    engine.answer = "red\x1b[2J square"
    typed = f"/image {photo_file}\nWhat is it?\n/image {tmp_path / 'none.png'}\n/image\n/help\n/quit\n"
    result = CliRunner().invoke(app, ["chat"], input=typed)
    assert result.exit_code == 0
    assert "red[2J square" in result.stdout
    assert "none.png: No such file" in result.stdout
    assert result.stdout.count("/quit ends") == 3 and len(engine.asked) == 1


def test_caption_keeps_one_photo_at_a_time(
    engine: ScriptedEngine, photo_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = MemoryImages(ImageLimits())
    monkeypatch.setattr(captions, "MemoryImages", lambda limits: images)
    other = tmp_path / "other.png"
    Image.new("RGB", (9, 9), "blue").save(other)
    assert CliRunner().invoke(app, ["caption", str(photo_file), str(other)]).exit_code == 0
    assert len(images._images) == 1


async def test_chat_with_a_server(run_gateway: RunGateway, photo_file: Path) -> None:
    import asyncio

    async with run_gateway() as url:
        typed = f"/image {photo_file}\nWhat is it?\n"
        result = await asyncio.to_thread(CliRunner().invoke, app, ["chat", "--url", url], typed)
    assert result.exit_code == 0
    assert "Connected to visavis-embedded." in result.stdout
    assert "a red square on white" in result.stdout


def test_chat_without_a_server_at_the_address_is_one_sentence() -> None:
    result = CliRunner().invoke(app, ["chat", "--url", "http://127.0.0.1:1"])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "No visavis server answers" in result.stderr


def test_a_wrong_flag_is_one_sentence() -> None:
    result = CliRunner().invoke(app, ["serve", "--device", "tpu"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_doctor_tells_what_is_there_and_what_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--model", str(tmp_path), "--json", "--port", "0"])
    report = json.loads(result.stdout)
    verdicts = {finding["subject"]: finding["verdict"] for finding in report["findings"]}
    assert (result.exit_code, report["healthy"]) == (1, False)
    assert verdicts["model"] == "missing"
    assert [verdicts[name] for name in ("Python", "torch", "CPU", "data folder", "store", "port")] == ["ok"] * 6
    assert "config.json is missing" in CliRunner().invoke(app, ["doctor", "--model", str(tmp_path)]).stdout


async def test_doctor_asks_a_named_store(store_url: str) -> None:
    there = await doctor.examine(load_settings(redis_url=store_url))
    gone = await doctor.examine(load_settings(redis_url="redis://127.0.0.1:1"))
    assert [finding.verdict for findings in (there, gone) for finding in findings if finding.subject == "store"] == [
        "ok",
        "missing",
    ]


def test_import_says_what_it_wrote_or_why_it_did_not(tmp_path: Path, photo_file: Path) -> None:
    talk = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A dog."}]
    (tmp_path / "chat.json").write_text(
        json.dumps([{"image": photo_file.name, "conversations": talk}]), encoding="utf-8"
    )
    source, out = str(photo_file.parent), tmp_path / "out"
    (photo_file.parent / "chat.json").write_text((tmp_path / "chat.json").read_text(encoding="utf-8"), encoding="utf-8")
    done = CliRunner().invoke(app, ["import", "llava", source, str(out)])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "1 photos; 0 lines left out whose photo is not there"
    (photo_file.parent / "chat.json").write_text("[3]", encoding="utf-8")
    wrong = CliRunner().invoke(app, ["import", "llava", source, str(out)])
    assert wrong.exit_code == 1 and "not of the form llava" in wrong.stderr
    assert CliRunner().invoke(app, ["import", "imagenet", source, str(out)]).exit_code == 2
