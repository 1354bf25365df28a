"""The Customizer through the official SDK, from the upload of rows to the answer of the adapter."""

from pathlib import Path

import pytest
from nemo_microservices import ConflictError, NotFoundError, UnprocessableEntityError

from nemo_local.settings import Settings
from tests.conftest import free_port, running_control_plane
from tests.nemo_local.customizer.test_hyperparameters import TUTORIAL
from tests.nemo_local.customizer.test_special_tokens import CHATML, OVERRIDES
from tests.nemo_local.customizer.tiny_llama import (
    TEMPLATE,
    call_row,
    make_checkpoint,
    tokenizer,
    write_rows,
)
from tests.running_nim import eventually, running_nim

pytestmark = pytest.mark.contract

MODEL = "meta/llama-3.2-1b-instruct"
CONFIG = f"{MODEL}@v1.0.0+80GB"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A platform with a tiny random Llama under the tutorial's name, and the tutorial's files."""
    folder = tmp_path_factory.mktemp("customizer")
    make_checkpoint(folder / "models" / MODEL)
    settings = Settings.from_environment(
        {},
        home=folder / "home",
        port=free_port(),
        nim_port=free_port(),
        models_dir=folder / "models",
        dataset_rows=0,
        device="cpu",
        threads=1,
    )
    with running_control_plane(settings) as platform, running_nim(settings):
        prepare(platform, folder)
        yield platform


def prepare(platform, folder: Path):
    hub = platform.hf()
    hub.create_repo("xlam-tutorial-ns/xlam-ft-dataset", repo_type="dataset")
    for split, numbers in (("training", range(40)), ("validation", range(40, 48))):
        path = write_rows(folder / f"{split}.jsonl", [call_row(number) for number in numbers])
        hub.upload_file(
            path_or_fileobj=path,
            path_in_repo=f"{split}/{path.name}",
            repo_id="xlam-tutorial-ns/xlam-ft-dataset",
            repo_type="dataset",
        )
    platform.sdk().datasets.create(
        name="xlam-ft-dataset",
        namespace="xlam-tutorial-ns",
        files_url="hf://datasets/xlam-tutorial-ns/xlam-ft-dataset",
    )


@pytest.fixture(scope="module")
def sdk(running):
    return running.sdk()


def create(sdk, **changed):
    body = {
        "config": CONFIG,
        "dataset": {"name": "xlam-ft-dataset", "namespace": "xlam-tutorial-ns"},
        "hyperparameters": TUTORIAL,
        **changed,
    }
    return sdk.customization.jobs.create(**body)


def test_the_tutorials_job_is_trained_registered_and_served(running, sdk):
    job = create(sdk, output_model="xlam-tutorial-ns/llama-3.2-1b-xlam-run1@v1")
    assert job.status == "created" and job.config == CONFIG
    assert job.dataset == "xlam-tutorial-ns/xlam-ft-dataset"
    assert job.hyperparameters.lora.alpha == 16
    assert job.config_snapshot.training_option.micro_batch_size == 1
    assert job.status_details.status_logs[0].message == "created"

    seen = []

    def finished():
        status = sdk.customization.jobs.status(job.id)
        seen.append((status.status, status.steps_completed))
        return status.status in ("completed", "failed", "cancelled")

    eventually(finished, "the job has ended")
    status = sdk.customization.jobs.status(job.id)
    assert status.status == "completed", status.status_logs[-1]
    assert {state for state, _ in seen} <= {"pending", "running", "completed"}
    assert [steps for _, steps in seen] == sorted(steps for _, steps in seen)
    assert (status.steps_completed, status.steps_per_epoch, status.epochs_completed) == (6, 3, 2)
    assert [point.step for point in status.metrics.metrics.val_loss] == [2, 5]
    assert status.percentage_done == 100 and status.best_epoch == 2
    assert [line.message for line in status.status_logs][-1] == "EntityHandler_1_Completed"

    model = sdk.models.retrieve("llama-3.2-1b-xlam-run1@v1", namespace="xlam-tutorial-ns")
    assert model.artifact.status == "upload_completed"
    assert model.peft.finetuning_type == "lora" and model.base_model == MODEL
    # Completed means served: no wait here.
    assert job.output_model in [entry.id for entry in sdk.inference.models.list().data]
    client = running.openai()
    answer = client.chat.completions.create(
        model=job.output_model,
        messages=[{"role": "user", "content": "add 3"}],
        max_tokens=4,
    )
    assert answer.model == job.output_model and answer.usage.completion_tokens > 0

    logs = sdk.customization.jobs.container_logs(job.id)
    assert logs.error is None
    assert "val_loss" in next(iter(logs.entries.values())).logs["main"]
    files = running.hf().list_repo_files("xlam-tutorial-ns/llama-3.2-1b-xlam-run1", revision="v1")
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= set(files)

    with pytest.raises(ConflictError, match=r"Model xlam-tutorial-ns/.*@v1 already exists"):
        create(sdk, output_model="xlam-tutorial-ns/llama-3.2-1b-xlam-run1@v1")

    sdk.models.delete("llama-3.2-1b-xlam-run1@v1", namespace="xlam-tutorial-ns")

    def gone():
        return job.output_model not in [entry.id for entry in client.models.list()]

    eventually(gone, "the deleted model is no longer served")


@pytest.mark.parametrize("name", ["a-template", "tokens-too"])
def test_an_adapter_is_asked_in_the_form_it_was_trained_in(running, sdk, name):
    template, tokens = TEMPLATE.replace('"<|" + m.role + "|>"', '"~~~ " + m.role + ": "'), None
    template = template.replace('"<|assistant|>"', '"~~~ assistant: "') + "\n\n"
    if name == "tokens-too":
        template, tokens = CHATML, OVERRIDES
    target = {"base_model": MODEL, "num_parameters": 1, "precision": "fp32", "tokenizer": tokens}
    option = {
        "training_type": "sft", "finetuning_type": "lora", "num_gpus": 1, "micro_batch_size": 1,
    }  # fmt: skip
    config = {
        "max_seq_length": 256,
        "target": {key: value for key, value in target.items() if value},
        "training_options": [option],
        "chat_prompt_template": template,
    }
    job = create(
        sdk,
        config=config,
        output_model=f"ns/{name}@v1",
        hyperparameters=TUTORIAL | {"max_steps": 2},
    )
    assert job.warnings is None and job.config_snapshot.tokenizer == tokens
    eventually(
        lambda: sdk.customization.jobs.status(job.id).status in ("completed", "failed"), "it ended"
    )
    status = sdk.customization.jobs.status(job.id)
    assert [line.message for line in status.status_logs][-2:] == [
        "EntityHandler_1_Running", "EntityHandler_1_Completed",
    ], status.status_logs[-1]  # fmt: skip
    stored = set(running.hf().list_repo_files(f"ns/{name}", revision="v1"))
    assert ("tokenizer.json" in stored) == bool(tokens) and "chat_template.jinja" in stored

    row, client = call_row(3), running.openai()
    expected = tokenizer()
    expected.chat_template = template
    expected.add_tokens((tokens or {}).get("additional_special_tokens", []), special_tokens=True)
    question = {"messages": row["messages"][:1], "tools": row["tools"]}
    prompt = expected.apply_chat_template(
        question["messages"], tools=question["tools"], add_generation_prompt=True, tokenize=False
    )
    length = len(expected(prompt, add_special_tokens=False).input_ids)
    for model, same in ((job.output_model, True), (MODEL, False)):
        answer = client.chat.completions.create(
            model=model, max_tokens=4, temperature=0, logprobs=True, **question
        )
        assert (answer.usage.prompt_tokens == length) is same
    asked = client.completions.create(
        model=job.output_model, prompt=prompt, max_tokens=4, temperature=0, logprobs=1
    )
    chat = client.chat.completions.create(
        model=job.output_model, max_tokens=4, temperature=0, logprobs=True, **question
    )
    first = chat.choices[0].logprobs.content[0]
    assert first.token == asked.choices[0].logprobs.tokens[0]
    assert first.logprob == pytest.approx(asked.choices[0].logprobs.token_logprobs[0], abs=1e-4)


@pytest.mark.parametrize("finetuning_type", ["lora_merged", "all_weights"])
def test_a_whole_model_is_stored_and_served_once_it_is_deployed(running, sdk, finetuning_type):
    name = finetuning_type.replace("_", "-")
    job = create(
        sdk,
        output_model=f"ns/{name}@v1",
        hyperparameters={**TUTORIAL, "finetuning_type": finetuning_type, "max_steps": 3},
    )
    eventually(
        lambda: sdk.customization.jobs.status(job.id).status in ("completed", "failed"), "it ended"
    )
    status = sdk.customization.jobs.status(job.id)
    assert status.status == "completed", status.status_logs[-1]
    model = sdk.models.retrieve(f"{name}@v1", namespace="ns")
    assert model.peft is None and model.artifact.status == "upload_completed"
    files = running.hf().list_repo_files(f"ns/{name}", revision="v1")
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(files)
    client = running.openai()
    assert job.output_model not in [entry.id for entry in client.models.list()]

    deploy(sdk, name, job.output_model)

    def deployed():
        deployment = sdk.deployment.model_deployments.retrieve(name, namespace="ns")
        assert deployment.status_details.status != "failed", deployment.status_details
        return deployment.deployed

    eventually(deployed, "the model is deployed")
    (listed,) = [entry for entry in client.models.list() if entry.id == job.output_model]
    assert listed.parent is None and listed.max_model_len == 512
    answer = client.chat.completions.create(
        model=job.output_model, messages=[{"role": "user", "content": "add 3"}], max_tokens=4
    )
    assert answer.model == job.output_model and answer.usage.completion_tokens > 0
    sdk.deployment.model_deployments.delete(name, namespace="ns")
    assert job.output_model not in [entry.id for entry in client.models.list()]


@pytest.mark.parametrize("base", ["ns/own", "ns/own@1"], ids=["a stored model", "the target"])
def test_a_target_that_is_downloaded_carries_adapters(running, sdk, tmp_path, base):
    running.hf().create_repo("ns/own", repo_type="model", exist_ok=True)
    running.hf().upload_folder(
        repo_id="ns/own", folder_path=make_checkpoint(tmp_path / "own"), repo_type="model"
    )
    target = {"model_uri": "hf://ns/own", "num_parameters": 1, "precision": "fp32"}
    if base == "ns/own":
        artifact = {"files_url": "hf://ns/own", "status": "upload_completed"}
        sdk.models.create(name="own", namespace="ns", artifact=artifact)
        target["base_model"] = base
    else:
        target["hf_endpoint"] = running.hub_url
        target["tokenizer"] = {"additional_special_tokens": ["<|tool_call|>"]}
    deploy(sdk, "own", base)
    path = {"target_name": "own@1", "namespace": "ns"}
    sdk.customization.targets.create(name="own@1", namespace="ns", **target)
    eventually(
        lambda: sdk.customization.targets.retrieve(**path).status == "ready", "it is downloaded"
    )
    option = {
        "training_type": "sft", "finetuning_type": "lora", "num_gpus": 1, "micro_batch_size": 1,
    }  # fmt: skip
    config = {"max_seq_length": 256, "target": "ns/own@1", "training_options": [option]}
    output = "ns/on-own@v1" if base == "ns/own" else "ns/on-own@v2"
    job = create(
        sdk, config=config, output_model=output, hyperparameters=TUTORIAL | {"max_steps": 2}
    )
    eventually(
        lambda: sdk.customization.jobs.status(job.id).status in ("completed", "failed"), "it ended"
    )
    messages = [line.message for line in sdk.customization.jobs.status(job.id).status_logs]
    assert messages[-1] == "EntityHandler_1_Completed" and "ModelNotServed" not in messages
    client = running.openai()
    assert client.models.retrieve(output).parent == base
    messages = [{"role": "user", "content": "add 1"}]
    answer = client.chat.completions.create(model=output, messages=messages, max_tokens=3)
    assert answer.model == output and answer.usage.completion_tokens > 0
    sdk.deployment.model_deployments.delete("own", namespace="ns")
    assert output not in [entry.id for entry in client.models.list()]
    sdk.customization.targets.delete("own@1", namespace="ns")


def deploy(sdk, name, model):
    nim = {"image_name": "nvcr.io/nim/meta/llama", "image_tag": "1.8.3", "gpu": 1}
    sdk.deployment.model_deployments.create(
        name=name, namespace="ns", config={"model": model, "nim_deployment": nim}
    )


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("ns/a@v1", "it is an adapter, served while meta/none is deployed"),
        ("ns/unheard-of@v1", "unknown model"),
    ],
)
def test_what_is_no_whole_model_is_not_deployed_and_says_why(running, sdk, model, words):
    sdk.models.create(
        name="a@v1",
        namespace="ns",
        base_model="meta/none",
        peft={"finetuning_type": "lora"},
        artifact={"files_url": "hf://ns/a@v1", "status": "upload_completed"},
    )
    deploy(sdk, "a", model)

    def details():
        return sdk.deployment.model_deployments.retrieve("a", namespace="ns").status_details

    eventually(lambda: details().status == "failed", "the deployment failed")
    assert words in details().description
    sdk.deployment.model_deployments.delete("a", namespace="ns")
    sdk.models.delete("a@v1", namespace="ns")


def test_a_job_that_is_cancelled_while_it_trains_ends_early_and_its_model_has_failed(running, sdk):
    job = create(sdk, hyperparameters={**TUTORIAL, "epochs": 500})
    eventually(lambda: sdk.customization.jobs.status(job.id).steps_completed > 0, "the job trains")
    assert sdk.customization.jobs.cancel(job.id).status in ("cancelling", "cancelled")
    eventually(
        lambda: sdk.customization.jobs.retrieve(job.id).status == "cancelled", "it is cancelled"
    )
    assert sdk.customization.jobs.status(job.id).percentage_done < 100
    namespace, name = job.output_model.split("/")
    assert sdk.models.retrieve(name, namespace=namespace).artifact.status == "upload_failed"
    listed = sdk.customization.jobs.list(filter={"status": "cancelled"}, sort="-created_at")
    assert [entry.id for entry in listed] == [job.id]


def test_refusals_have_the_types_of_the_sdk(sdk):
    with pytest.raises(NotFoundError, match="Dataset ns/none not found"):
        create(sdk, dataset="ns/none")
    with pytest.raises(NotFoundError, match=r"Config meta/x@v1 not found"):
        create(sdk, config="meta/x@v1")
    with pytest.raises(UnprocessableEntityError, match="Version is not specified in the config"):
        create(sdk, config=MODEL)
    with pytest.raises(UnprocessableEntityError, match="Unknown hyperparameter 'epoch'"):
        create(sdk, hyperparameters=TUTORIAL | {"epoch": 1})
    with pytest.raises(NotFoundError, match=r"cust-none' not found"):
        sdk.customization.jobs.retrieve("cust-none")


def test_configs_and_targets_through_the_sdk(sdk):
    configs = {f"{entry.namespace}/{entry.name}" for entry in sdk.customization.configs.list()}
    assert {CONFIG, f"{MODEL}@v1.0.0+A100", f"{MODEL}@v1.0.0+L40"} <= configs
    option = {"training_type": "sft", "finetuning_type": "lora", "num_gpus": 1}
    target = sdk.customization.targets.create(
        name="t@1", namespace="ns", num_parameters=5, precision="fp32", model_path=MODEL
    )
    assert target.status == "ready"
    config = sdk.customization.configs.create(
        name="c@v1",
        namespace="ns",
        max_seq_length=64,
        training_options=[{**option, "micro_batch_size": 2}],
        target="ns/t@1",
    )
    assert config.target.model_path == MODEL
    changed = sdk.customization.configs.update("c@v1", namespace="ns", max_seq_length=32)
    assert (changed.max_seq_length, changed.warning_message) == (32, None)
    several = {**option, "num_gpus": 4, "micro_batch_size": 1}
    changed = sdk.customization.configs.update(
        "c@v1", namespace="ns", add_training_options=[several]
    )
    (known,) = changed.training_options
    assert (known.num_gpus, known.micro_batch_size) == (4, 1)
    off = sdk.customization.targets.update("t@1", namespace="ns", enabled=False)
    assert off.enabled is False
    with pytest.raises(UnprocessableEntityError, match="is not enabled"):
        create(sdk, config="ns/c@v1")
    sdk.customization.configs.delete("c@v1", namespace="ns")
    sdk.customization.targets.delete("t@1", namespace="ns")
    with pytest.raises(NotFoundError):
        sdk.customization.targets.retrieve("t@1", namespace="ns")
