"""The model server as a deployment of Ray Serve: one engine a replica and device, more replicas when lines grow.

    serve run ray_serve:build device=cuda gpus=1 max_replicas=8          (in deploy/)
    VISAVIS_MODEL_URL=http://127.0.0.1:8000/v1 visavis serve --redis-url ...

What a replica answers is `visavis.models.engine_api`, unchanged: streams, cancelling by leaving, deadlines, heat maps.
Requests about a picture go to the replica that has its features: gateways send its sha256 as `X-Session-Id`, which
Serve's consistent hashing reads; a replica that has all it can take passes on to the next on the ring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from starlette.applications import Starlette

from visavis.models.engine_api import create_app
from visavis.models.model_server import open_engine

if TYPE_CHECKING:
    from ray.serve import Application

BY_PICTURE = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
DRAIN_S = 60.0  # for running answers when a replica is taken away


class ReplicaSettings(BaseModel):
    """What `serve run` and a RayService may set.

    `ongoing` questions are at one replica (those that run, and a few that wait there and are told their place); what is
    beyond goes to another one, then waits in Serve, at most `queued` of them. Replicas are added while more than
    `target` are at each on average.
    """

    model_config = ConfigDict(extra="forbid")

    model: str = ""
    name: str = "visavis-embedded"
    device: str = "auto"
    precision: str = "auto"
    threads: int = Field(0, ge=0)
    cpus: float = Field(1, ge=0)
    gpus: float = Field(0, ge=0)
    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(1, ge=1)
    target: float = Field(16, gt=0)
    ongoing: int = Field(40, ge=1)
    queued: int = Field(256, ge=1)

    def flags(self) -> list[str]:
        """As the model server takes them."""
        flags = ["--name", self.name, "--device", self.device, "--precision", self.precision]
        flags += ["--model", self.model] if self.model else []
        return flags + (["--threads", str(self.threads)] if self.threads else [])


@serve.ingress()
class ModelReplica:
    """An engine behind its HTTP face. Serve replaces one whose engine has died."""

    def __init__(self, settings: ReplicaSettings) -> None:
        self._engine = open_engine(settings.flags())

    def __serve_build_asgi_app__(self) -> Starlette:
        return create_app(self._engine)

    def check_health(self) -> None:
        """Raises when nothing will be answered here any more."""
        if not self._engine.alive:
            raise RuntimeError("the engine has died")

    def __del__(self) -> None:
        self._engine.close()


def build(args: dict[str, Any]) -> Application:
    """The application; `args` are `ReplicaSettings`. Raises pydantic's ValidationError for what it does not know."""
    settings = ReplicaSettings.model_validate(args)
    deployment = serve.deployment(
        name="model",
        max_ongoing_requests=settings.ongoing,
        max_queued_requests=settings.queued,
        health_check_period_s=5,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=DRAIN_S,
        graceful_shutdown_wait_loop_s=1,
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        autoscaling_config=AutoscalingConfig(
            min_replicas=settings.min_replicas,
            max_replicas=max(settings.min_replicas, settings.max_replicas),
            target_ongoing_requests=settings.target,
            upscale_delay_s=5,
            downscale_delay_s=300,
            look_back_period_s=15,
        ),
        request_router_config=RequestRouterConfig(request_router_class=BY_PICTURE),
    )(ModelReplica)
    return deployment.bind(settings)
