"""The commands: up, down, status, doctor, reset."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from types import FrameType
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit

import typer

from nemo_local import doctor as doctor_module
from nemo_local.core.client import Client, UpstreamError
from nemo_local.core.errors import DatabaseError
from nemo_local.core.imports import imports_that_stay
from nemo_local.home import check_home, check_nothing_is_taken, locked, read_records
from nemo_local.processes import (
    StartFailed,
    family,
    is_answering,
    is_replaced,
    reset_platform,
    roles,
    start_platform,
    stop_platform,
    wait_until,
)
from nemo_local.settings import Settings, SettingsError

cli = typer.Typer(
    help="The embedded platform: the NeMo Microservices APIs on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Home = Annotated[
    str | None, typer.Option(metavar="PATH", help="Folder for all state [NEMO_LOCAL_HOME].")
]
Host = Annotated[str | None, typer.Option(help="Address to listen on [NEMO_LOCAL_HOST].")]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port of the control plane [NEMO_LOCAL_PORT].")
]
NimPort = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port of inference [NEMO_LOCAL_NIM_PORT].")
]
RECENT_JOBS = 5
STOPPED = "Stopped by `down`."
ANOTHER = "Another `up` has restarted this platform; `status` says where it listens."


@cli.command()
def up(
    home: Home = None,
    host: Host = None,
    port: Port = None,
    nim_port: NimPort = None,
    models: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Folder of real checkpoints [NEMO_LOCAL_MODELS]."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu or cuda [NEMO_LOCAL_DEVICE].")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it answers.")] = False,
) -> None:
    """Start the platform and wait until it answers; without --detach, stay until Ctrl-C."""
    settings = _settings(
        home=home, host=host, port=port, nim_port=nim_port, models_dir=models, device=device
    )
    try:
        settings.check()
        check_nothing_is_taken(settings.home, settings.models_dir)
    except SettingsError as error:
        _fail(str(error))
    typer.echo(f"Starting in {settings.home} ...")
    if not detach:
        _let_signals_interrupt()
    try:
        started = start_platform(settings, typer.echo)
    except StartFailed as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("stopped before it answered.")
    if not any(started.values()):
        typer.echo("This platform is already running, with the settings it was started with.")
        typer.echo("`down` stops it.")
    _say_where(settings)
    if not detach and any(started.values()):
        _stay(settings)


@cli.command()
def down(home: Home = None) -> None:
    """Stop the platform and its training runs; everything stored stays."""
    # Other settings are not read, so a wrong one cannot keep the platform from being stopped.
    only = {"NEMO_LOCAL_HOME": os.environ.get("NEMO_LOCAL_HOME", "")}
    where = _settings(only, home=home).home
    try:
        stopped = stop_platform(where, typer.echo)
    except OSError as error:
        _fail(f"The platform of {where} cannot be stopped: {error}")
    typer.echo(f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running.")


@cli.command()
def status(home: Home = None) -> None:
    """Show processes, models and jobs."""
    settings = _recorded(_settings(home=home))
    records = read_records(settings.home)
    if not records:
        lost = len(family(settings.home))
        unknown = f"has {lost} unrecorded process(es); `down` ends them"
        state = unknown if lost else "is not running; `up` starts it"
        typer.echo(f"The platform of {settings.home} {state}.")
        raise typer.Exit(1)
    broken = False
    for role, record in records.items():
        process = record.process()
        if process is None:
            broken = True
            typer.echo(f"{role:14} ended; pid was {record.pid}. Its log says:")
            typer.echo(record.last_lines())
        elif is_answering(record.url):
            typer.echo(f"{role:14} running   pid {record.pid}  {record.url}")
        else:
            broken = True
            typer.echo(f"{role:14} does not answer   pid {record.pid}  {record.url}")
    _say_models(settings)
    _say_jobs(settings)
    raise typer.Exit(1 if broken else 0)


@cli.command()
def doctor(home: Home = None, port: Port = None, nim_port: NimPort = None) -> None:
    """Check packages, settings, ports, disk and weights, and one tool call when inference is up."""
    settings = _recorded(_settings(home=home, port=port, nim_port=nim_port))
    failed = 0
    for check in doctor_module.checks(settings):
        failed += check.verdict == "fail"
        typer.echo(f"{check.verdict:5} {check.subject}: {check.finding}")
    raise typer.Exit(1 if failed else 0)


@cli.command()
def reset(
    home: Home = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop the platform and remove everything it stored."""
    settings = _settings(home=home)
    nothing = f"There is nothing in {settings.home}."
    if not settings.home.exists():
        typer.echo(nothing)
        return
    try:
        check_home(settings.home)
    except SettingsError as error:
        _fail(str(error))
    if not yes:
        where = f"{settings.home} and of its database" if settings.database else settings.home
        typer.confirm(f"Remove all data, models and jobs of {where}?", abort=True)
    try:
        left = reset_platform(settings, typer.echo)
    except DatabaseError as error:
        _fail(
            f"The database of NEMO_LOCAL_DATABASE_URL cannot be emptied: {error}. The platform is "
            "stopped and nothing was removed; correct the URL, or reset without it."
        )
    except OSError as error:
        _fail(f"Not everything in {settings.home} can be removed: {error}")
    if left is None:
        typer.echo(nothing)
        return
    what = f"what the platform stored in {settings.home}"
    typer.echo(f"Removed {what if settings.home.exists() else settings.home}.")
    if left:
        typer.echo(f"Not the platform's, so still there: {', '.join(left)}.")


@cli.command(hidden=True)
def serve() -> None:
    """Run the control plane in this process; `up` starts it."""
    with imports_that_stay():
        import uvicorn

        from nemo_local.app import create_app
        from nemo_local.core.web import UVICORN

    settings = _settings()
    config = uvicorn.Config(
        create_app(settings, stopping=lambda: server.should_exit),
        host=settings.host,
        port=settings.port,
        **UVICORN,
    )
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise typer.Exit(1)


def _settings(environment: Mapping[str, str] | None = None, **options: Any) -> Settings:
    try:
        return Settings.from_environment(environment, **options)
    except SettingsError as error:
        _fail(str(error))


def _recorded(settings: Settings) -> Settings:
    """The settings, with the address and ports on which this home's platform really listens."""
    records = read_records(settings.home)
    found: dict[str, Any] = {}
    for role, name in (("control plane", "port"), ("inference", "nim_port")):
        if role in records:
            url = urlsplit(records[role].url)
            found.update({"host": url.hostname, name: url.port})
    return replace(settings, **found)


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


def _say_where(settings: Settings) -> None:
    typer.echo(f"platform   {settings.platform_url}   (NEMO_URL and NDS_URL)")
    typer.echo(f"inference  {settings.nim_url}   (NIM_URL)")
    typer.echo(f"state      {settings.home}")
    _say_models(settings)


def _say_models(settings: Settings) -> None:
    listed, problem = doctor_module.served_models(settings)
    if problem:
        typer.echo(f"models         unknown: {problem}")
    elif not listed:
        typer.echo(f"models         none is served; {settings.home / 'logs'} says why")
    for model in listed:
        note = ""
        if model.get("stand_in"):
            note = f"  <- answered by a stand-in, {model.get('answered_by')}"
        typer.echo(f"model      {model['id']}{note}")


def _say_jobs(settings: Settings) -> None:
    client = Client(settings.platform_url, settings.token, 5)
    query = {"sort": "-created_at", "page_size": RECENT_JOBS}
    for kind in ("customization", "evaluation"):
        try:
            jobs = client.get(f"/v1/{kind}/jobs", params=query)["data"]
        except UpstreamError as error:
            typer.echo(f"{kind} jobs: unknown: {doctor_module.reason(error, settings)}")
            continue
        for job in jobs:
            details = job.get("status_details") or {}
            done = details.get("percentage_done", details.get("progress"))
            progress = "" if done is None else f"  {done:g} %"
            typer.echo(f"job        {job['id']}  {kind}  {job['status']}{progress}")


def _let_signals_interrupt() -> None:
    """Make a `kill` or a closing terminal end `up` cleanly, as Ctrl-C does."""

    def interrupt(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a terminal that closes sends it twice
        raise KeyboardInterrupt

    # A background job of a shell starts with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` sets it
            signal.signal(number, interrupt)


def _stay(settings: Settings) -> None:
    """Watch both processes until Ctrl-C; say so when one ends, and stop when the first one does."""
    home = settings.home
    records = read_records(home)
    platform = records.get("control plane")
    if platform is None:
        typer.echo(STOPPED)
        return
    watched = {role: records[role] for role in roles(settings) if role in records}

    def some_ended() -> bool:
        return any(record.process() is None for record in watched.values())

    try:
        typer.echo("Ctrl-C stops it.")
        while watched:
            wait_until(some_ended, float("inf"), "a process ends")
            if read_records(home):  # no `down`, but perhaps another `up` that is still at work
                with locked(home, lambda text: None):
                    pass
            if not read_records(home):
                typer.echo(STOPPED)
                return
            if is_replaced(home, platform):
                typer.echo(ANOTHER)
                return
            for role in [role for role, record in watched.items() if record.process() is None]:
                record = watched.pop(role)
                typer.echo(f"\nThe {role} ended. Its log says:\n{record.last_lines()}", err=True)
                if role == "control plane":
                    stop_platform(home, only=platform)
                    raise typer.Exit(1)
                typer.echo("The rest runs on; `up` in another terminal starts it again.", err=True)
    except KeyboardInterrupt:
        with suppress(OSError):  # the terminal may be gone
            typer.echo("\nStopping ...")
        stop_platform(home, only=platform)
        if is_replaced(home, platform):
            typer.echo(ANOTHER)
            return
        left = len(family(home))
        typer.echo("Stopped." if not left else f"{left} process(es) did not stop.")
