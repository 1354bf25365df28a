"""Clients of the platform, made from URLs, and a check that every service answers."""

from collections.abc import Mapping

from nemo_microservices import NeMoMicroservices
from openai import OpenAI

from utils.errors import Refused, Unreachable
from utils.http import probe

# A cheap request that each service answers on every platform: service -> path.
PROBES = {
    "Data Store": "/v1/hf/api/datasets?limit=1",
    "Entity Store": "/v1/namespaces?page_size=1",
    "Customizer": "/v1/customization/jobs?page_size=1",
    "Evaluator": "/v1/evaluation/jobs?page_size=1",
    "Guardrails": "/v1/guardrail/configs?page_size=1",
    "Deployment": "/v1/deployment/model-deployments?page_size=1",
    "NIM": "/v1/models",
}


def nemo(url: str, token: str | None = None) -> NeMoMicroservices:
    """The official SDK's client for one service, or for a gateway in front of several; not for NIM,
    which has its own client and token: see `openai`."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return NeMoMicroservices(base_url=url, default_headers=headers)


def openai(nim_url: str, token: str | None = None) -> OpenAI:
    """The OpenAI client for NIM; it requires some key, which NIM reads only if it checks tokens."""
    return OpenAI(base_url=f"{nim_url}/v1", api_key=token or "none")


def require_answers(
    urls: Mapping[str, tuple[str, str]], token: str | None = None, nim_token: str | None = None
) -> None:
    """Check that every service answers: {"NIM": ("NIM_URL", "http://127.0.0.1:8000")}.

    NIM is asked with `nim_token`, the others with `token`.

    Raises:
        Unreachable: one does not, or something else does; names the URL and the setting.
        Refused: one requires a token, or another one.
    """
    for service, (setting, url) in urls.items():
        key, own = ("NIM_TOKEN", nim_token) if service == "NIM" else ("NEMO_TOKEN", token)
        try:
            answer = probe(url, PROBES[service], setting=setting, token=own)
        except Refused as error:
            if error.status in (401, 403):
                told = f"{error}; set {key} to a token that {url} takes"
                raise Refused(told, error.status) from None
            raise Unreachable(f"{error}; is {setting} the URL of {service}?") from None
        # NIM and the Entity Store list models at the same path, but only the latter in pages.
        if service == "NIM" and isinstance(answer, dict) and "pagination" in answer:
            raise Unreachable(f"{url} is the Entity Store: set {setting} to the URL of NIM.")
