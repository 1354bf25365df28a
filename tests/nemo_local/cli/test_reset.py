"""What `reset` removes, and what it must not."""

from __future__ import annotations

import shlex
import sqlite3
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

from nemo_local.core.documents import Documents
from nemo_local.home import LOCK, locked, remove_state


@pytest.fixture
def home(settings):
    """A platform's home that holds something."""
    store = Documents(settings.database_url)
    store.create("dataset", "ns", "d", {})
    store.close()
    (settings.home / "blobs").mkdir()
    (settings.home / "blobs" / "x").write_text("x")
    return settings.home


def test_a_project_with_a_folder_called_logs_is_not_removed(terminal, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "thesis.txt").write_text("years of work")
    for command in ("down", "reset"):  # the first one must not make it look like a home
        done = terminal.run(command, *["--yes"][: command == "reset"], "--home", str(tmp_path))
    assert done.returncode == 1 and "does not look like a platform's home" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "thesis.txt"]


def test_a_folder_of_the_users_with_a_name_of_ours_is_neither_taken_nor_removed(terminal, settings):
    (settings.home / "models" / "meta").mkdir(parents=True)
    (settings.home / "logs").mkdir()
    (settings.home / "logs" / "notes.txt").write_text("years of work")
    checkpoints = str(settings.home / "models")
    for command in (("up", "--detach"), ("up", "--models", checkpoints), ("doctor",)):
        done = terminal.run(*command)
        assert done.returncode == 1
        assert "is not a platform's home yet but holds logs, models" in done.stderr + done.stdout
    assert terminal.run("reset", "--yes").returncode == 1
    assert (settings.home / "logs" / "notes.txt").exists()


def test_checkpoints_in_a_folder_of_the_platforms_own_are_refused(terminal, home):
    (home / "models" / "meta").mkdir(parents=True)
    done = terminal.run("up", "--detach", "--models", str(home / "models"))
    assert done.returncode == 1 and "which `reset` removes: move your checkpoints" in done.stderr


def test_a_file_of_the_user_in_the_home_stays_and_is_named(terminal, home):
    (home / "thesis.txt").write_text("years of work")
    done = terminal.run("reset", "--yes")
    assert done.returncode == 0 and "still there: thesis.txt" in done.stdout
    assert [path.name for path in home.iterdir()] == ["thesis.txt"]


def test_a_home_with_nothing_else_goes_altogether(terminal, home):
    assert f"Removed {home}." in terminal.run("reset", "--yes").stdout
    assert not home.exists()


def test_a_home_that_is_a_mount_point_stays_and_nothing_has_failed(terminal, home):
    mounted = f"mount -t tmpfs none {shlex.quote(str(home))}"
    apart = ["unshare", "--map-root-user", "--mount", "sh", "-ec"]
    if subprocess.run([*apart, mounted], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    reset = f"{shlex.quote(sys.executable)} -m nemo_local reset --yes"
    done = subprocess.run(
        [*apart, f"{mounted}; touch {shlex.quote(str(home / LOCK))}; {reset}"],
        env=terminal.environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Removed what the platform stored in {home}.\n"


def test_an_up_that_waited_for_a_reset_holds_the_lock_of_the_home_it_makes(home):
    waiting, held = threading.Event(), ExitStack()

    def up() -> None:
        held.enter_context(locked(home, lambda text: waiting.set(), make=True))

    with locked(home, print):
        starting = threading.Thread(target=up)
        starting.start()
        assert waiting.wait(30)
        assert remove_state(home) == []
    starting.join(30)
    others: list[str] = []

    def says(text: str) -> None:
        others.append(text)
        held.close()

    with locked(home, says):
        assert len(others) == 1


@pytest.mark.parametrize("left", [[], ["thesis.txt"]], ids=["nothing", "a file of the user"])
@pytest.mark.parametrize(
    ("command", "words"),
    [(("down",), "Nothing was running."), (("reset", "--yes"), "There is nothing in {home}.")],
    ids=["down", "reset"],
)
def test_a_command_that_waited_for_a_reset_finds_nothing_and_has_not_failed(
    terminal, home, command, words, left
):
    for name in left:
        (home / name).touch()
    with locked(home, print):
        waiting = terminal.start(*command)
        terminal.until_it_says(waiting, "waiting for it")
        assert remove_state(home) == left
    said, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, said) == (0, words.format(home=home) + "\n")
    assert [path.name for path in home.glob("*")] == left


def test_rows_in_a_database_elsewhere_do_not_survive_their_blobs(terminal, home, tmp_path):
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    store = Documents(url)
    store.create("dataset", "ns", "d", {})
    store.close()
    assert terminal.run("reset", "--yes", NEMO_LOCAL_DATABASE_URL=url).returncode == 0
    store = Documents(url)
    assert store.all("dataset") == [] and not home.exists()
    store.close()


def test_a_foreign_table_and_a_database_that_is_down_keep_everything(terminal, home, tmp_path):
    with sqlite3.connect(tmp_path / "foreign.db") as database:
        database.execute("create table documents (title text)")
    database.close()
    for url in (f"sqlite:///{tmp_path / 'foreign.db'}", "sqlite:////proc/no/where.db"):
        done = terminal.run("reset", "--yes", NEMO_LOCAL_DATABASE_URL=url)
        assert done.returncode == 1 and "cannot be emptied" in done.stderr
    assert (home / "blobs" / "x").exists() and (home / "platform.db").exists()


def test_a_home_whose_rows_are_elsewhere_is_known_by_its_lock(terminal, settings):
    settings.home.mkdir()
    (settings.home / "platform.lock").touch()
    (settings.home / "logs").mkdir()
    assert terminal.run("reset", "--yes").returncode == 0 and not settings.home.exists()
