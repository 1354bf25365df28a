"""Our inference server for benchmarks/serve.py: the pocket base, adapters on it, or one merged.

The same engine and routes as `python -m nemo_local.nim`; what it serves comes from the command line
instead of a platform.
"""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from nemo_local.catalog import DEFAULT_MODEL, POCKET_WEIGHTS, Catalog, load_catalog
from nemo_local.core.client import Client
from nemo_local.core.error_bodies import install_error_handlers
from nemo_local.nim.engine import Engine
from nemo_local.nim.hub import Hub
from nemo_local.nim.metrics import Metrics
from nemo_local.nim.models import Models
from nemo_local.nim.reconcile import Reconciler
from nemo_local.nim.routes import Handlers, router
from nemo_local.nim.service import NimService
from nemo_local.settings import Settings

BASE = POCKET_WEIGHTS / "base"
ADAPTERS = 8
RANK = 32
"""The rank of the tutorial's training."""


def make_adapter(seed: int) -> object:
    """The base with a random adapter on every linear layer, small enough to leave replies alike."""
    torch.manual_seed(seed)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(BASE), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1e-3)
    return model


def save_merged(model: object, folder: Path) -> Path:
    model.merge_and_unload().save_pretrained(folder)  # type: ignore[attr-defined]
    AutoTokenizer.from_pretrained(BASE).save_pretrained(folder)
    return folder


def load(models: Models, work: Path, adapters: bool, merged: bool) -> Catalog:
    """Load the models that the command line asks for."""
    catalog = load_catalog(Settings.from_environment({}, home=work))
    base = catalog.models[DEFAULT_MODEL]
    if merged:
        folder = save_merged(make_adapter(0), work / "merged")
        models.load_base(replace(base, id="bench/merged", path=folder))
        return catalog
    models.load_base(base)
    for i in range(ADAPTERS if adapters else 0):
        folder = work / f"adapter-{i}"
        make_adapter(i).save_pretrained(folder)  # type: ignore[attr-defined]
        models.load_adapter(f"bench/adapter-{i}@v1", base.id, folder, f"hf://bench/adapter-{i}")
    return catalog


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--adapters", action="store_true")
    parser.add_argument("--merged", action="store_true")
    given = parser.parse_args()
    metrics = Metrics()
    engine = Engine(metrics)
    models = Models(engine, "cpu")
    engine.start()
    catalog = load(models, given.work, given.adapters, given.merged)
    nowhere = Client("http://127.0.0.1:9")
    # Never started: nothing comes or goes while we measure.
    reconciler = Reconciler(models, catalog, nowhere, Hub(nowhere, None, given.work))
    reconciler.settled.set()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        engine.stop()

    app = FastAPI(lifespan=lifespan)
    install_error_handlers(app)
    app.include_router(router(Handlers(NimService(models, engine, metrics), reconciler)))
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_config=None, access_log=False)


if __name__ == "__main__":
    main()
