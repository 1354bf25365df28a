"""What `reset` removes, and what it must not."""

from __future__ import annotations

import sqlite3

import pytest

from nemo_local.core.documents import Documents


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


def test_a_file_of_the_user_in_the_home_stays_and_is_named(terminal, home):
    (home / "thesis.txt").write_text("years of work")
    done = terminal.run("reset", "--yes")
    assert done.returncode == 0 and "still there: thesis.txt" in done.stdout
    assert [path.name for path in home.iterdir()] == ["thesis.txt"]


def test_a_home_with_nothing_else_goes_altogether(terminal, home):
    assert f"Removed {home}." in terminal.run("reset", "--yes").stdout
    assert not home.exists()


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
