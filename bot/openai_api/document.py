"""The OpenAPI document of a gateway's HTTP API. The schemas of requests are those that requests are checked with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from pydantic.json_schema import models_json_schema

from visavis.bot.openai_api.bodies import ChatRequest, EmbeddingsRequest
from visavis.bot.openai_api.document_schemas import PICTURE, RESPONSES, SESSION, TEXT, Schema

_REFS = "#/components/schemas/{model}"
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": r"^\d+$"}}}
_CAUSES = {
    "400": "The request has not the expected form, or a picture cannot be read.",
    "401": "No API key of this server.",
    "403": "A page of another origin.",
    "404": "No such model, conversation or picture.",
    "413": "A text, a picture or the request is too large.",
    "415": "A picture of a format that is not read.",
    "421": "Another host's name.",
    "429": "Too many requests.",
    "500": "A fault of the server; the details are in its log.",
    "502": "The model failed.",
    "503": "Too many questions wait, or the store is away.",
}


def openapi_document(models: Sequence[str]) -> Schema:
    """The document of a server with these models, the default one first."""
    security: list[Schema] = [{"key": []}, {}]
    session = _parameter("header", "X-Visavis-Session", SESSION, "The conversation.")
    in_path = _parameter("path", "session", SESSION, "The conversation.", required=True)
    model = _parameter("path", "model", {"type": "string", "minLength": 1}, "Its name.", required=True)
    picture = _parameter("path", "picture", PICTURE, "Its id.", required=True)
    of_session = _parameter("query", "session", SESSION, "The conversation that shows it.", required=True)
    chat = {"200": _content("An answer.", {"application/json": _ref("Completion"), "text/event-stream": TEXT})}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "visavis",
            "version": version("visavis"),
            "description": "Talk about pictures, as with OpenAI's API. Models: " + ", ".join(models) + ".",
        },
        "paths": {
            "/v1/chat/completions": {
                "post": {
                    "operationId": "createChatCompletion",
                    "summary": "Answer the last message of the user.",
                    "security": security,
                    "parameters": [session, _parameter("header", "Idempotency-Key", _KEY, "In a session: ask once.")],
                    "requestBody": _request(_ref("ChatRequest")),
                    "responses": chat | _errors("400", "401", "403", "404", "413", "415", "429", "500", "502", "503"),
                }
            },
            "/v1/embeddings": {
                "post": {
                    "operationId": "createEmbeddings",
                    "summary": "Vectors of texts and pictures; 404 where the model has no space for them.",
                    "parameters": [session],
                    "security": security,
                    "requestBody": _request(_ref("EmbeddingsRequest")),
                    "responses": {"200": _json("One a text or picture.", _ref("Embeddings"))}
                    | _errors("400", "401", "403", "404", "413", "415", "429", "500", "502", "503"),
                }
            },
            "/v1/models": {
                "get": _operation("listModels", "All models.", {"200": _json("All.", _ref("ModelList"))}, security)
            },
            "/v1/models/{model}": {
                "get": _operation("showModel", "One model.", {"200": _json("It.", _ref("Model"))}, security, [model])
            },
            "/v1/sessions": {
                "post": _operation(
                    "beginSession", "Begin a conversation.", {"201": _json("Begun.", _ref("Session"))}, security
                )
            },
            "/v1/sessions/{session}": {
                "delete": _operation(
                    "forgetSession", "Forget it.", {"200": _json("Gone.", _ref("Forgotten"))}, security, [in_path]
                )
            },
            "/v1/images": {
                "post": {
                    "operationId": "addImage",
                    "summary": "Show a conversation a picture.",
                    "parameters": [session | {"required": True}],
                    "requestBody": {"required": True, "content": {"image/*": {}}},
                    "responses": {"201": _json("Kept.", _ref("Picture"))}
                    | _errors("400", "403", "404", "413", "415", "500", "503"),
                }
            },
            "/v1/images/{picture}": {
                "get": _operation(
                    "readImage",
                    "A picture as it was kept.",
                    {"200": _content("Its bytes.", {"image/jpeg": {}, "image/png": {}})},
                    [],
                    [picture, of_session],
                )
            },
            "/v1/images/{picture}/alt": {
                "get": _operation(
                    "describeImage",
                    "What a picture shows, in the model's words.",
                    {"200": _json("The words.", _ref("AltText"))} | _errors("429"),
                    [],
                    [picture, of_session],
                )
            },
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": _request_schemas() | RESPONSES,
        },
    }


_KEY: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x21-\x7e]+$"}


def _request_schemas() -> Schema:
    _, schema = models_json_schema([(ChatRequest, "validation"), (EmbeddingsRequest, "validation")], ref_template=_REFS)
    return dict(schema["$defs"])


def _ref(name: str) -> Schema:
    return {"$ref": _REFS.format(model=name)}


def _request(schema: Schema) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _content(description: str, schemas: Mapping[str, Schema]) -> Schema:
    return {"description": description, "content": {kind: {"schema": schema} for kind, schema in schemas.items()}}


def _json(description: str, schema: Schema) -> Schema:
    return _content(description, {"application/json": schema})


def _errors(*statuses: str) -> Schema:
    errors = {status: _json(_CAUSES[status], _ref("Error")) for status in (*statuses, "421")}
    for status in errors.keys() & {"429", "503"}:
        errors[status]["headers"] = _RETRY_AFTER
    return errors


def _operation(
    name: str, summary: str, responses: Schema, security: list[Schema], parameters: Sequence[Schema] = ()
) -> Schema:
    errors = _errors("400", "401", "403", "404", "500", "503")
    operation = {"operationId": name, "summary": summary, "responses": responses | errors}
    return operation | {"security": security, "parameters": list(parameters)}


def _parameter(place: str, name: str, schema: Schema, description: str, *, required: bool = False) -> Schema:
    return {"in": place, "name": name, "schema": schema, "description": description, "required": required}
