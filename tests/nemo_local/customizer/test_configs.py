"""Configs and targets over HTTP."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from nemo_local.core.client import UpstreamError
from tests.conftest import running_control_plane
from tests.nemo_local.customizer.conftest import CONFIG, MODEL, job_body

BASE = "/v1/customization"
OPTION = {"training_type": "sft", "finetuning_type": "lora", "num_gpus": 1, "micro_batch_size": 2}


@pytest.fixture
def option_config(client):
    """The path of a config with one option."""
    body = {"name": "one@v1", "namespace": "ns", "max_seq_length": 9, "target": f"{MODEL}@2.0"}
    client.post(f"{BASE}/configs", json=body | {"training_options": [OPTION]})
    yield f"{BASE}/configs/ns/one@v1"
    client.delete(f"{BASE}/configs/ns/one@v1")


def refused(call, *arguments, **options):
    with pytest.raises(UpstreamError) as error:
        call(*arguments, **options)
    return error.value.status, str(error.value.detail)


def test_the_catalogue_is_offered(client):
    config = client.get(f"{BASE}/configs/{CONFIG}")
    assert config["max_seq_length"] == 512
    assert config["training_precision"] == "bf16-mixed"
    assert config["dataset_schemas"][0]["required"] == ["prompt", "completion"]
    assert [(o["training_type"], o["finetuning_type"]) for o in config["training_options"]] == [
        (training_type, finetuning_type)
        for training_type in ("sft", "dpo", "distillation")
        for finetuning_type in ("lora", "lora_merged", "all_weights")
    ]
    target = config["target"]
    assert (target["namespace"], target["name"]) == ("meta", "llama-3.2-1b-instruct@2.0")
    assert (target["base_model"], target["enabled"], target["status"]) == (MODEL, True, "ready")
    assert target["custom_fields"]["stand_in"] == "false"
    for hardware in ("A100", "L40"):
        assert client.get(f"{BASE}/configs/{MODEL}@v1.0.0+{hardware}")["target"]["enabled"]
    other = client.get(f"{BASE}/configs/meta/llama-3.1-8b-instruct@v1.0.0%2B80GB")
    assert other["target"]["enabled"] is False


def test_configs_are_filtered_by_their_target_and_sorted(client):
    def names(**params):
        listed = client.get(f"{BASE}/configs", params={"page_size": "100", **params})
        return [f"{c['namespace']}/{c['name']}" for c in listed["data"]]

    enabled = names(**{"filter[target_enabled]": "true"})
    assert enabled == names(**{"filter[enabled]": "true"}) and CONFIG in enabled
    assert all(name.startswith(MODEL) for name in enabled)
    assert names(**{"filter[target_base_model]": MODEL}) == enabled
    assert set(names(**{"filter[finetuning_type]": "all_weights"})) == set(names())
    assert names(**{"filter[training_type]": "grpo"}) == []
    assert set(names(**{"filter[training_type]": "sft"})) == set(names())
    assert names(sort="name") == sorted(names(), key=lambda full: full.split("/", 1)[1])
    largest = names(sort="-num_parameters")
    assert "70b" in largest[0]
    assert refused(client.get, f"{BASE}/configs", params={"sort": "x"})[0] == 422


def test_a_config_of_ones_own(client):
    body = {
        "name": "mine@v1",
        "namespace": "ns",
        "max_seq_length": 100,
        "training_options": [OPTION],
        "target": f"{MODEL}@2.0",
        "description": None,
    }
    made = client.post(f"{BASE}/configs", json=body)
    assert made["training_options"][0]["tensor_parallel_size"] == 1
    assert made["target"]["base_model"] == MODEL
    assert refused(client.post, f"{BASE}/configs", json=body)[0] == 409

    path = f"{BASE}/configs/ns/mine@v1"
    other = OPTION | {"finetuning_type": "all_weights"}
    changed = client.patch(path, json={"add_training_options": [other], "max_seq_length": 90})
    assert changed["max_seq_length"] == 90 and changed["warning_message"] is None
    assert [o["finetuning_type"] for o in changed["training_options"]] == ["lora", "all_weights"]
    pair = {"training_type": "sft", "finetuning_type": "all_weights"}
    changed = client.patch(path, json={"remove_training_options": [pair]})
    assert len(changed["training_options"]) == 1
    changed = client.patch(path, json={"remove_training_options": [pair]})
    assert (
        changed["warning_message"] == "Training options to remove were not there: sft/all_weights"
    )
    lora = {"training_type": "sft", "finetuning_type": "lora"}
    assert refused(client.patch, path, json={"remove_training_options": [lora]})[0] == 422

    assert client.delete(path)["message"] == "Resource deleted successfully."
    assert refused(client.get, path) == (404, "Config ns/mine@v1 not found.")


def test_a_pod_spec_is_kept_as_it_was_sent(client):
    terms = [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]
    spec = {
        "node_affinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}
        },
        "tolerations": [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 5}],
    }
    body = {"max_seq_length": 100, "training_options": [OPTION], "target": f"{MODEL}@2.0"}
    names = {"name": "pod@v1", "namespace": "ns"}
    made = client.post(f"{BASE}/configs", json={**body, **names, "pod_spec": spec})
    assert made["pod_spec"] == spec
    other = {"tolerations": [{"tolerationSeconds": 6}]}
    path = f"{BASE}/configs/ns/pod@v1"
    assert client.patch(path, json={"pod_spec": other})["pod_spec"] == other
    assert client.get(path)["pod_spec"] == other


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"pod_spec": {"tolerations": [{"tolerationSeconds": "x"}]}}, 422, "tolerationSeconds"),
        ({"target": "meta/llama-3.2-1b-instruct@3.0"}, 404, "Did you mean meta/llama-3.2-1b-instr"),
        ({"target": "nothing"}, 422, "does not have the form namespace/name"),
        ({"training_options": []}, 422, "at least one option"),
        ({"training_options": [{"training_type": "sft"}]}, 422, "finetuning_type"),
        ({"max_seq_length": 0}, 422, "max_seq_length must be at least 1"),
        ({"training_options": [OPTION | {"micro_batch_size": 0}]}, 422, "must be at least 1, not"),
        ({"training_options": [OPTION | {"num_gpus": -3}]}, 422, "num_gpus must be at least 1"),
        ({"name": "a b"}, 422, "letters, digits"),
        ({"training_precision": "int3"}, 422, "training_precision"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(client, changed, status, words):
    body = {"max_seq_length": 100, "training_options": [OPTION], "target": f"{MODEL}@2.0"}
    found, detail = refused(client.post, f"{BASE}/configs", json={**body, **changed})
    assert found == status and words in detail


def test_a_target_with_a_local_checkpoint_is_ready(client, models_dir):
    body = {"name": "t@1", "namespace": "ns", "num_parameters": 5, "precision": "fp32"}
    made = client.post(f"{BASE}/targets", json=body | {"model_path": MODEL})
    assert (made["status"], made["enabled"], made["base_model"]) == ("ready", True, "ns/t@1")
    path = f"{BASE}/targets/ns/t@1"
    changed = client.patch(path, json={"model_path": str(models_dir / "none")})
    assert changed["status"] == "failed" and changed["warning_message"] is None
    assert client.patch(path, json={"enabled": False})["enabled"] is False
    listed = client.get(f"{BASE}/targets", params={"filter[name]": "t@1"})
    assert [t["namespace"] for t in listed["data"]] == ["ns"]
    client.delete(path)
    assert refused(client.get, path)[0] == 404


def test_a_job_whose_teacher_would_mix_packed_rows_says_that_packing_is_off(
    client, dataset, checkpoint, tmp_path
):
    folder = shutil.copytree(checkpoint, tmp_path / "teacher")
    (folder / "config.json").write_text('{"model_type": "opt"}')
    body = {"name": "opt@1", "namespace": "ns", "num_parameters": 5, "precision": "fp32"}
    client.post(f"{BASE}/targets", json=body | {"model_path": str(folder), "enabled": True})
    given = {
        "training_type": "distillation",
        "distillation": {"teacher": "ns/opt@1"},
        "sequence_packing_enabled": True,
    }
    job = client.post(f"{BASE}/jobs", json=job_body(hyperparameters=given))
    client.delete(f"{BASE}/jobs/{job['id']}")
    client.delete(f"{BASE}/targets/ns/opt@1")
    (warning,) = job["warnings"]
    assert warning["message"] == "Sequence packing is off"
    assert warning["explanation"].startswith("not tested for 'opt' of the teacher, only for llama")


def test_what_is_null_in_a_target_is_as_if_it_were_not_given(client, dataset):
    body = {"namespace": "ns", "num_parameters": 5, "precision": "fp32", "model_path": MODEL}
    empty = {"enabled": None, "custom_fields": None, "base_model": None}
    made = client.post(f"{BASE}/targets", json={**body, **empty, "name": "null@1"})
    assert (made["enabled"], made["custom_fields"], made["base_model"]) == (True, {}, "ns/null@1")
    path = f"{BASE}/targets/ns/null@1"
    client.patch(path, json={"enabled": False, "base_model": "x", "custom_fields": {"a": "b"}})
    changed = client.patch(path, json=empty)
    assert changed["enabled"] and changed["custom_fields"] == {}
    assert changed["base_model"] == "ns/null@1"

    nameless = client.post(f"{BASE}/targets", json=body)
    config = {"max_seq_length": 100, "training_options": [OPTION]}
    config["target"] = f"ns/{nameless['name']}"
    job = client.post(f"{BASE}/jobs", json=job_body(config=config))
    assert job["config_snapshot"]["base_model"] == config["target"]
    client.post(f"{BASE}/jobs/{job['id']}/cancel")


def test_a_config_with_a_template_of_its_own_names_the_keys_of_its_rows(client):
    body = {"name": "qa@v1", "namespace": "ns", "max_seq_length": 9, "target": f"{MODEL}@2.0"}
    body |= {"training_options": [OPTION], "prompt_template": "Q {q} A {a}"}
    (schema,) = client.post(f"{BASE}/configs", json=body)["dataset_schemas"]
    assert schema["required"] == ["q", "a"] and list(schema["properties"]) == ["q", "a"]


def test_the_keys_of_rows_follow_a_new_template_unless_they_were_given(client, option_config):
    def required(**changed):
        (schema,) = client.patch(option_config, json=changed)["dataset_schemas"]
        return schema["required"]

    assert required(prompt_template="{a} {b}") == ["a", "b"]
    assert required(description="mine", dataset_schemas=None) == ["a", "b"]
    own = [{"type": "object", "required": ["c"]}]
    assert required(dataset_schemas=own) == ["c"]
    assert required(prompt_template="{d} {e}") == ["c"]
    assert required(dataset_schemas=None) == ["d", "e"]


def test_a_config_cannot_lose_all_its_options(client, option_config):
    before = client.get(option_config)
    status, detail = refused(client.patch, option_config, json={"training_options": []})
    assert status == 422 and "at least one training option" in detail
    assert client.get(option_config) == before
    other = OPTION | {"finetuning_type": "all_weights"}
    replaced = client.patch(option_config, json={"training_options": [other]})
    assert [o["finetuning_type"] for o in replaced["training_options"]] == ["all_weights"]


def test_options_that_are_added_at_once_are_all_there(client, option_config):
    def patch(change):
        client.patch(option_config, json=change)

    kinds = [("sft", "all_weights"), *((t, "lora") for t in ("dpo", "distillation"))]
    types = [{"training_type": t, "finetuning_type": f} for t, f in kinds]
    for _ in range(5):
        adding = [{"add_training_options": [OPTION | pair]} for pair in types]
        words = [{"description": str(number)} for number in range(4)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(patch, [*adding, *words]))
        assert len(client.get(option_config)["training_options"]) == 4
        client.patch(option_config, json={"remove_training_options": types})


def test_of_options_of_the_same_types_the_last_counts(client, option_config):
    twice = [OPTION | {"micro_batch_size": size} for size in (2, 4)]
    for change in ({"add_training_options": twice}, {"training_options": twice}):
        options = client.patch(option_config, json=change)["training_options"]
        assert [option["micro_batch_size"] for option in options] == [4]


def test_a_target_in_use_stays(client):
    status, detail = refused(client.delete, f"{BASE}/targets/{MODEL}@2.0")
    assert status == 409 and "is used by config meta/llama-3.2-1b-instruct@v1.0.0+80GB" in detail


def test_a_target_we_cannot_fetch_fails_and_its_jobs_are_refused(client, dataset):
    body = {"name": "u@1", "namespace": "ns", "num_parameters": 5, "precision": "bf16-mixed"}
    body["model_uri"] = "ngc://nvidia/nemo/x:1"
    target = client.post(f"{BASE}/targets", json=body)
    assert target["status"] == "failed"
    assert "checkpoints are downloaded from hf://" in target["custom_fields"]["why"]
    inline = {"max_seq_length": 100, "training_options": [OPTION], "target": "ns/u@1"}
    status, detail = refused(client.post, f"{BASE}/jobs", json=job_body(config=inline))
    assert status == 422 and "is failed, not ready: checkpoints are downloaded from hf://" in detail


def test_jobs_of_a_target_whose_weights_were_deleted_are_refused(
    client, dataset, checkpoint, tmp_path
):
    folder = shutil.copytree(checkpoint, tmp_path / "base")
    body = {"name": "gone@1", "namespace": "ns", "num_parameters": 5, "precision": "fp32"}
    made = client.post(f"{BASE}/targets", json=body | {"model_path": str(folder)})
    assert made["status"] == "ready"
    shutil.rmtree(folder)
    config = {"max_seq_length": 100, "training_options": [OPTION], "target": "ns/gone@1"}
    status, detail = refused(client.post, f"{BASE}/jobs", json=job_body(config=config))
    assert status == 422 and "has no weights any more: no checkpoint (config.json, *" in detail


def test_custom_fields_of_a_job_and_a_target_hold_any_json(client, dataset):
    fields = {"a": 1, "n": None, "inside": [{"b": True}]}
    job = client.post(f"{BASE}/jobs", json=job_body(custom_fields=fields))
    path = f"{BASE}/jobs/{job['id']}"
    assert job["custom_fields"] == client.get(path)["custom_fields"] == fields
    client.delete(path)
    body = {"name": "c@1", "namespace": "ns", "num_parameters": 5, "precision": "fp32"}
    assert client.post(f"{BASE}/targets", json=body | {"custom_fields": fields})
    path = f"{BASE}/targets/ns/c@1"
    assert client.patch(path, json={"custom_fields": {"b": 2}})["custom_fields"] == {"b": 2}
    status, detail = refused(client.post, f"{BASE}/jobs", json=job_body(custom_fields=[1]))
    assert status == 422 and "custom_fields" in detail


def test_an_error_about_integrations_names_them(client, dataset):
    with pytest.raises(UpstreamError) as error:
        client.post(f"{BASE}/jobs", json=job_body(integrations=[{"type": "nope"}]))
    assert error.value.status == 422
    assert error.value.detail[0]["loc"][:3] == ["body", "integrations", 0]


def test_a_seed_that_a_user_disabled_stays_disabled(own_settings):
    path = f"{BASE}/targets/{MODEL}@2.0"
    for expected in (True, False):
        with running_control_plane(own_settings) as running:
            client = running.client()
            assert client.get(path)["enabled"] is expected
            client.patch(path, json={"enabled": False})


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(LFS_POINTER, "is a Git LFS pointer; fetch the file", id="LFS pointer"),
        pytest.param(b"\x10\x27\0\0\0\0\0\0{", "not a safetensors file, or is cut", id="cut short"),
        pytest.param(b"", "not a safetensors file, or is cut short", id="empty"),
    ],
)
def test_a_target_whose_weights_cannot_be_read_says_why_and_its_jobs_are_refused(
    client, dataset, checkpoint, tmp_path, content, words
):
    folder = shutil.copytree(checkpoint, tmp_path / "base")
    weights = (folder / "model.safetensors").read_bytes()
    body = {"name": "lfs@1", "namespace": "ns", "num_parameters": 5, "precision": "fp32"}
    path = f"{BASE}/targets/ns/lfs@1"
    config = {"max_seq_length": 100, "training_options": [OPTION], "target": "ns/lfs@1"}

    (folder / "model.safetensors").write_bytes(content)
    made = client.post(f"{BASE}/targets", json=body | {"model_path": str(folder)})
    assert made["status"] == "failed" and words in made["custom_fields"]["why"]
    status, detail = refused(client.post, f"{BASE}/jobs", json=job_body(config=config))
    assert status == 422 and words in detail

    (folder / "model.safetensors").write_bytes(weights)
    changed = client.patch(path, json={"model_path": str(folder)})
    assert changed["status"] == "ready"
    assert changed["custom_fields"]["why"] == f"weights found in {folder}"

    (folder / "model.safetensors").write_bytes(content)
    status, detail = refused(client.post, f"{BASE}/jobs", json=job_body(config=config))
    assert status == 422 and "has no weights any more" in detail and words in detail
    client.delete(path)


def test_a_path_that_is_too_long_for_the_system_is_a_target_without_weights(client):
    body = {"name": "long@1", "namespace": "ns", "num_parameters": 5, "precision": "fp32"}
    longest = {"model_path": "a" * 5000}
    assert client.post(f"{BASE}/targets", json=body | longest)["status"] == "failed"
    path = f"{BASE}/targets/ns/long@1"
    client.patch(path, json={"model_path": MODEL})
    assert client.patch(path, json=longest)["status"] == "failed"
    client.delete(path)


def test_folders_that_cannot_be_trained_stop_no_platform(own_settings, checkpoint, tmp_path):
    models = tmp_path / "models"
    for name in ("broken", "with space"):
        shutil.copytree(checkpoint, models / "me" / name)
    weights = (models / "me/broken/model.safetensors").read_bytes()
    settings = replace(own_settings, models_dir=models)
    path = "me/broken@v1.0.0+80GB"
    for content, enabled, length in (
        (LFS_POINTER, False, 4096),
        (weights, True, 512),
        (LFS_POINTER, False, 512),
    ):
        (models / "me/broken/model.safetensors").write_bytes(content)
        with running_control_plane(settings) as running:
            config = running.client().get(f"{BASE}/configs/{path}")
            assert (config["target"]["enabled"], config["max_seq_length"]) == (enabled, length)
            assert ("Git LFS pointer" in config["target"]["custom_fields"]["why"]) is not enabled


def test_what_a_user_gave_a_seeded_target_is_there_after_a_restart(own_settings, checkpoint):
    path = f"{BASE}/targets/meta/llama-3.1-8b-instruct@2.0"
    given = {"model_path": str(checkpoint), "enabled": True, "num_parameters": 42}
    with running_control_plane(own_settings) as running:
        client = running.client()
        client.patch(f"{BASE}/targets/{MODEL}@2.0", json={"custom_fields": {"a": "b"}})
        before = client.patch(path, json=given | {"custom_fields": {"a": "b"}})
        assert before["status"] == "ready"
        config = {"max_seq_length": 9000, "description": "mine"}
        client.patch(f"{BASE}/configs/meta/llama-3.1-8b-instruct@v1.0.0+80GB", json=config)
    with running_control_plane(own_settings) as running:
        client = running.client()
        assert client.get(path).items() <= before.items()
        config = client.get(f"{BASE}/configs/meta/llama-3.1-8b-instruct@v1.0.0+80GB")
        assert config["max_seq_length"] == 9000
        fields = client.get(f"{BASE}/targets/{MODEL}@2.0")["custom_fields"]
        assert fields["a"] == "b" and fields["stand_in"] == "false"
