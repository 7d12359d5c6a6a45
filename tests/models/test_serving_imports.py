"""Serving the shipped model is quick to start: nothing is imported that takes long and is not needed."""

import subprocess
import sys
import textwrap

ANSWER = """
    import asyncio, sys
    from pathlib import Path
    from visavis.models.engine import InferenceEngine
    from visavis.models.generation import GenerationRequest
    from visavis.models.loading import load_model

    def imported(*packages):
        return sorted(name for name in packages if name in sys.modules)

    HEAVY = ("transformers", "huggingface_hub", "torch._dynamo", "torch._inductor", "torch.distributed.fsdp")
    with InferenceEngine(*load_model(device="cpu")) as engine:
        picture = engine.add_image(Path(sys.argv[1]).read_bytes())
        answer = asyncio.run(engine.generate(GenerationRequest("What animal is it?", image=picture)))
        print(imported(*HEAVY, "langchain_core"))
        from visavis.models.engine_api import create_app

        create_app(engine)
        print(imported(*HEAVY))
        print(answer.output_tokens > 1, answer.text.isascii())
"""


def test_neither_engine_nor_model_server_imports_transformers() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ANSWER), "bot/web/example-cat.jpg"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["[]", "[]", "True True"]
