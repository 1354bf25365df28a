"""Plain HTTP requests, and the translation of every SDK's errors into ours."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

import requests

from utils.errors import Conflict, NemoError, NotFound, Refused, Unavailable, Unreachable

if TYPE_CHECKING:
    from nemo_microservices import APIStatusError

CONNECT_TIMEOUT_S = 5.0
_AWAY = (408, 425, 429, 500, 502, 503, 504)
_KINDS = {404: NotFound, 409: Conflict, **dict.fromkeys(_AWAY, Unavailable)}

P = ParamSpec("P")
R = TypeVar("R")


class Client(Protocol):
    """What the clients of the SDKs have in common."""

    @property
    def base_url(self) -> object: ...


C = TypeVar("C", bound=Client)


def probe(
    base_url: str, path: str, *, setting: str, token: str | None = None, timeout_s: float = 30.0
) -> Any:
    """The JSON body of a successful GET."""
    response = _send("GET", base_url, path, setting, token, timeout_s)
    with translated(base_url, setting=setting):
        return response.json()


def post_form(
    base_url: str, path: str, form: Mapping[str, str], *, setting: str, token: str | None = None
) -> Any:
    """The JSON answer to a POST of a form.

    `setting` is the name in config.py that an error tells the reader to change.
    """
    response = _send("POST", base_url, path, setting, token, 60.0, form)
    with translated(base_url, setting=setting):
        return response.json() if response.content else None


def _send(
    method: str,
    base_url: str,
    path: str,
    setting: str,
    token: str | None,
    timeout_s: float,
    form: Mapping[str, str] | None = None,
) -> requests.Response:
    base_url = base_url.rstrip("/")
    url = f"{base_url}{path}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with translated(base_url, setting=setting):
        response = requests.request(
            method, url, data=form, headers=headers, timeout=(CONNECT_TIMEOUT_S, timeout_s)
        )
    if response.status_code >= 400:
        raise refusal(response.status_code, f"{method} {url}", _detail(response), setting)
    return response


def refusal(status: int, request: str, detail: object, setting: str) -> Refused:
    """The error for a status: Refused, or the subclass that `utils.errors` has for it.

    refusal(404, "GET http://host/v1/x", "x not found", "NEMO_URL")
    -> NotFound("GET http://host/v1/x was answered 404: x not found")
    """
    kind = _KINDS.get(status, Refused)
    told = f"{request} was answered {status}: {detail}"
    if kind is Unavailable:
        told += (
            f" (the service at {setting} cannot answer now: "
            "try again, read its log, or change the URL)"
        )
    return kind(told, status)


def is_taken(error: "APIStatusError") -> bool:
    """True when what the request would create exists; some services answer that with 500."""
    return error.status_code == 409 or "already exists" in error.message


@contextmanager
def translated(url: str, *, setting: str) -> Iterator[None]:
    """Within this block, errors of requests and of the SDKs become those of `utils.errors`.

    with translated(config.ENTITY_STORE_URL, setting="ENTITY_STORE_URL"):
        client.namespaces.retrieve("none")   # raises NotFound instead of the SDK's own class
    """
    try:
        yield
    except NemoError:
        raise
    except Exception as error:
        ours = _translate(error, url, setting)
        if ours is None:
            raise
        raise ours from None  # a reader needs our sentence, not the way through the clients


def translates(
    setting: str,
) -> Callable[[Callable[Concatenate[C, P], R]], Callable[Concatenate[C, P], R]]:
    """A decorator for verbs: errors of their first argument, the client, become ours.

    @translates("ENTITY_STORE_URL")
    def ensure_namespace(client: NeMoMicroservices, namespace: str) -> Namespace: ...
    """

    def decorate(verb: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], R]:
        @wraps(verb)
        def translating(client: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
            url = str(client.base_url).rstrip("/").removesuffix("/v1")
            with translated(url, setting=setting):
                answer = verb(client, *args, **kwargs)
                if isinstance(answer, str) and verb.__annotations__["return"] is not str:
                    raise _no_json(answer, url, setting)  # an SDK passes on what is no JSON
                return answer

        return translating

    return decorate


def _translate(error: Exception, url: str, setting: str) -> NemoError | None:
    """Our error for one of the SDKs', or None when it comes from somewhere else."""
    # Imported here: they take a second, and only the unlucky path needs them.
    import httpx  # the SDKs and huggingface_hub speak through it
    import nemo_microservices
    import openai
    from huggingface_hub import errors as hub

    if isinstance(error, nemo_microservices.APIStatusError | openai.APIStatusError):
        request = f"{error.request.method} {error.request.url}"
        detail = _inner_detail(error.body) or error.body or error.response.reason_phrase
        return refusal(error.status_code, request, detail, setting)
    if isinstance(error, hub.HfHubHTTPError) and error.response is not None:
        detail = _inner_detail(error.server_message) or str(error).splitlines()[0]
        return refusal(error.response.status_code, str(error.response.url), detail, setting)
    if isinstance(error, json.JSONDecodeError):
        return _no_json(error.doc, url, setting)
    if isinstance(error, AttributeError) and isinstance(error.obj, str):
        return _no_json(error.obj, url, setting)  # an SDK passed on what was no JSON
    late = (
        requests.ReadTimeout,
        nemo_microservices.APITimeoutError,
        openai.APITimeoutError,
        httpx.ReadTimeout,
    )
    if isinstance(error, late) and not isinstance(error.__cause__, httpx.ConnectTimeout):
        return Unreachable(
            f"Platform at {url} did not answer in time. It may be busy: run the cell again, and if "
            f"that does not help, read its log, or set {setting} to another one."
        )
    lost = (
        requests.RequestException,
        nemo_microservices.APIConnectionError,
        openai.APIConnectionError,
        httpx.HTTPError,
    )
    if isinstance(error, lost):
        return Unreachable(
            f"Platform not reachable at {url}: start the embedded one with `make up`, "
            f"or set {setting} to one that runs. What was seen: {_first_cause(error)}"
        )
    return None


def _no_json(text: str, url: str, setting: str) -> Unreachable:
    start = " ".join(text[:60].split())
    return Unreachable(
        f"{url} answered with something else than JSON ({start!r}): is {setting} the right "
        "URL? A page to sign in looks like this, too."
    )


def _first_cause(error: BaseException) -> str:
    """The message of the first error in the chain, or the name of its type; the value of a header,
    which may be a token, is left out."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    told = re.sub(r"(header value).*", r"\1 (not shown)", str(error), flags=re.I | re.S)
    return told or type(error).__name__


def _detail(response: requests.Response) -> object:
    try:
        body = response.json()
    except ValueError:
        return _inner_detail(response.text) or response.reason
    return _inner_detail(body) or body


def _inner_detail(body: object) -> object:
    """The sentence in an error body, whichever service wrote it; None when there is none.

    For text, such as a gateway's error page, it is the beginning.
    """
    if isinstance(body, str):
        return body[:300]
    if not isinstance(body, dict):
        return body
    return body.get("detail") or body.get("error") or body.get("message")
