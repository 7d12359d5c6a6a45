"""A model server as a process, with the real HTTP face and drain, whose engine says what it is told:

python scripted_model_process.py PORT PAUSE_S ANSWER
"""

import signal
import sys

import uvicorn
from scripted_engine import ScriptedEngine

from visavis.models.engine_api import create_app
from visavis.models.model_server import EngineServer

if __name__ == "__main__":
    port, pause_s, answer = sys.argv[1:]
    engine = ScriptedEngine(answer=answer, pause_s=float(pause_s))
    config = uvicorn.Config(create_app(engine), port=int(port), log_config=None, timeout_graceful_shutdown=30)  # type: ignore[arg-type]
    signal.signal(signal.SIGTERM, lambda *_: None)  # as the model server: uvicorn raises its signal again at the end
    EngineServer(config, engine).run()  # type: ignore[arg-type]
