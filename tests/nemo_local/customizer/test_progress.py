from nemo_local.customizer.progress import FILE, ProgressReader, ProgressWriter, read_all

PREPARED = {"steps_per_epoch": 4, "total_steps": 8, "resumed_from": 0}


def test_events_become_the_fields_of_the_status(tmp_path, clock):
    writer = ProgressWriter(tmp_path, clock)
    assert read_all(tmp_path).details()["percentage_done"] == 0.0
    writer.write("prepared", **PREPARED)
    writer.write("train_loss", step=1, value=3.0)
    writer.write("val_loss", step=3, value=2.5)
    writer.write("train_loss", step=3, value=2.0)
    writer.write("step", steps=5)
    writer.write("val_loss", step=7, value=2.75)
    details = read_all(tmp_path).details()
    writer.close()
    at = "2025-06-20T03:58:16.182000"
    assert details == {
        "steps_completed": 5,
        "steps_per_epoch": 4,
        "epochs_completed": 1,
        "percentage_done": 62.5,
        "best_epoch": 1,
        "train_loss": 2.0,
        "val_loss": 2.5,
        "metrics": {
            "keys": ["train_loss", "val_loss"],
            "metrics": {
                "train_loss": [
                    {"step": 1, "timestamp": at, "value": 3.0},
                    {"step": 3, "timestamp": at, "value": 2.0},
                ],
                "val_loss": [
                    {"step": 3, "timestamp": at, "value": 2.5},
                    {"step": 7, "timestamp": at, "value": 2.75},
                ],
            },
        },
    }


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(tmp_path):
    writer = ProgressWriter(tmp_path)
    writer.write("prepared", **PREPARED)
    for step in (1, 3, 5):
        writer.write("train_loss", step=step, value=1.0)
    writer.write("failed", message="killed")
    writer.write("prepared", **{**PREPARED, "resumed_from": 4})
    writer.close()
    progress = read_all(tmp_path)
    assert [point["step"] for point in progress.train_loss] == [1, 3]
    assert progress.steps == 4 and progress.failure is None


def test_tool_calls_are_those_of_the_best_validation(tmp_path):
    writer = ProgressWriter(tmp_path)
    writer.write("prepared", **PREPARED)
    for step, loss, calls in ((3, 2.0, 0.25), (5, 1.0, 0.75), (7, 1.5, 0.5)):
        writer.write("val_loss", step=step, value=loss)
        assert read_all(tmp_path).best_tool_calls is None or step > 3
        writer.write("tool_calls", step=step, names=1.0, calls=calls)
    assert read_all(tmp_path).best_tool_calls["calls"] == 0.75
    writer.write("prepared", **{**PREPARED, "resumed_from": 4})
    writer.close()
    assert read_all(tmp_path).best_tool_calls["calls"] == 0.25


def test_half_a_line_waits_and_a_torn_one_is_left_out(tmp_path):
    reader = ProgressReader(tmp_path)
    assert reader.read() == []
    path = tmp_path / FILE
    path.write_text('{"event": "step", "steps": 1}\n{"event": "st')
    assert [event["steps"] for event in reader.read()] == [1]
    assert reader.read() == []
    writer = ProgressWriter(tmp_path)  # the writer's process was killed and starts again
    writer.write("step", steps=3)
    writer.close()
    assert [event["steps"] for event in reader.read()] == [3]
