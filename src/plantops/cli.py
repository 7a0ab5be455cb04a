"""The command line: each command parses, calls one function, prints, and returns an exit code."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from plantops import __version__, notices, records, upkeep
from plantops.config import MAX_INTERVAL_S, MIN_INTERVAL_S, find_root
from plantops.console import Console
from plantops.errors import CHANGES_WAITING, Refused, SetupError
from plantops.quick import Command, ConfigFile, Group, Json, say_all
from plantops.quick import config as _config
from plantops.unit import service

app = typer.Typer(
    cls=Group, name="plantops", no_args_is_help=True, add_completion=True, rich_markup_mode=None,
    pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]},
    help="Notices new photos under DVC, trains, judges, releases and rolls back an image classifier.",
)  # fmt: skip
command = partial(app.command, cls=Command)

_SECONDS = typer.Option(min=MIN_INTERVAL_S, max=MAX_INTERVAL_S, help="Seconds between two looks.")
Interval = Annotated[float | None, _SECONDS]


def _version(wanted: bool) -> None:
    if wanted:
        from plantops import git

        print(f"plantops {__version__}{git.own_revision()}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise SetupError("the folder that we are in is gone", "cd into the project") from None


command()(upkeep.init)


@command()
def run(
    force: Annotated[bool, typer.Option("--force", help="Run every step although nothing changed.")] = False,
    skip_dvc: Annotated[bool, typer.Option("--skip-dvc", help="No training: deploy what was accepted.")] = False,
    skip_docker: Annotated[bool, typer.Option("--skip-docker", help="Build no image.")] = False,
    skip_deploy: Annotated[bool, typer.Option("--skip-deploy", help="Train and judge only.")] = False,
    accept_anyway: Annotated[
        str | None, typer.Option("--accept-anyway", metavar="REASON", help="Release what the gate does not accept.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and change nothing.")] = False,
    config: ConfigFile = None,
) -> None:
    """Run the pipeline once, if anything changed: train, judge, release, deploy."""
    from plantops import pipeline, report
    from plantops.steps import Options

    if accept_anyway is not None and (skip_dvc or not accept_anyway.strip()):
        why = "--skip-dvc leaves the gate out" if skip_dvc else "it wants a reason"
        raise SetupError(f"--accept-anyway: {why}", 'plantops run --accept-anyway "why"')
    settings, console = _config(config), Console()
    options = Options(force, skip_dvc, skip_docker, skip_deploy, (accept_anyway or "").strip())
    if dry_run:
        report.dry_run(settings, options, console)
        return
    outcome = pipeline.run(settings, options, console)
    report.summary(settings, outcome, console)


@command()
def check(
    as_json: Json = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 6 when changes are waiting.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Look at the photos themselves and at code, too.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep checking; say what changes. Runs nothing.")] = False,
    interval: Interval = None,
    config: ConfigFile = None,
) -> None:
    """Say whether there is something to run, and why. Changes no answer."""
    from plantops import checking

    settings, console = _config(config), Console()
    if watch:
        every = settings.watch.interval_s if interval is None else interval
        checking.keep(settings, console, every, as_json, deep)
        return
    due = checking.once(settings, console, as_json, deep)
    if due and exit_code:
        raise typer.Exit(CHANGES_WAITING)


@command()
def data(as_json: Json = False, config: ConfigFile = None) -> None:
    """Look at the photos: what changed, what is wrong, which labels a person should see. Writes reports/data.html."""
    from plantops.look import words

    words.show(_config(config), Console(), as_json)


@command()
def watch(
    once: Annotated[bool, typer.Option("--once", help="One look and at most one run, for cron.")] = False,
    interval: Interval = None,
    config: ConfigFile = None,
) -> None:
    """Watch the project and run the pipeline whenever something changed. Ctrl-C or SIGTERM ends it."""
    from plantops import report
    from plantops.watch import Watch, heard

    settings, console = _config(config), Console()
    watching = Watch(settings, console, interval, report.summary)
    if once:
        watching.once()
        return
    with heard() as calls:
        try:
            watching.keep(calls)
        except KeyboardInterrupt:
            if not calls.ended:
                raise
    console.say("stopped watching; what is in service still is")


app.add_typer(service, name="service")
command()(notices.notify)
command(hidden=True)(notices.deliver)


@command()
def status(
    as_json: Json = False,
    live: Annotated[bool, typer.Option("--live", help="The API's figures, every two seconds, until Ctrl-C.")] = False,
    config: ConfigFile = None,
) -> None:
    """What is in service, what is going on, and what waits."""
    from plantops import live as figures
    from plantops import report

    if live:
        figures.show(_config(config), Console(), as_json)
    else:
        report.status(_config(config), Console(), as_json)


@command()
def releases(as_json: Json = False, config: ConfigFile = None) -> None:
    """List the releases, newest first."""
    from plantops import report

    report.releases(_config(config), Console(), as_json)


@command()
def gate(
    against: Annotated[str | None, typer.Option(metavar="RELEASE", help="Not the release in service.")] = None,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Judge the newest candidate, and change nothing. Exit with 4 when it is not accepted."""
    from plantops import judgement, recall, report

    settings = _config(config)
    with recall.look(settings) as store:
        verdict = judgement.alone(settings, store, against)
    report.verdict(verdict, Console(), as_json)
    if not verdict.accepted:
        raise typer.Exit(Refused.code)


for _recorded in (records.history, records.show, records.diff, records.report, records.verify):
    command()(_recorded)
for _kept in (upkeep.ci, upkeep.reproduce, upkeep.upgrade, upkeep.uninstall):
    command()(_kept)


@command()
def rollback(
    release: Annotated[str | None, typer.Argument(help="Which one; the previous by default.")] = None,
    config: ConfigFile = None,
) -> None:
    """Go back to an older release. The one left is withdrawn and does not come back by itself."""
    from plantops import releases as shelf
    from plantops import report

    console = Console()
    report.rolled_back(shelf.roll_back(_config(config), console, release), release is not None, console)


@command()
def gc(
    keep: Annotated[int, typer.Option(help="How many of the newest releases stay whole.", min=1)] = 5,
    with_dvc: Annotated[
        bool, typer.Option("--dvc", help="Old stage outputs, too, where the DVC remote has them for sure.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Remove the bundles and images of older releases. What a .dvc names stays, and what a rollback needs."""
    from plantops import tidy

    tidy.tidy(_config(config), Console(), keep, with_dvc, dry_run, as_json)


@command()
def backup(
    file: Annotated[Path | None, typer.Argument(help="The archive; one in .plantops/backups/ by default.")] = None,
    config: ConfigFile = None,
) -> None:
    """Write releases, memory, MLflow and settings into one file. A run and the API may go on."""
    from plantops import backup as keeping

    console = Console()
    target = keeping.backup(_config(config), console, file.resolve() if file else None)
    console.say(f"{target}  {target.stat().st_size / 1e6:,.1f} MB; copy it to another disk", "green")


@command()
def restore(
    file: Annotated[Path, typer.Argument(help="An archive that plantops backup wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Set aside the releases that are here.")] = False,
    config: ConfigFile = None,
) -> None:
    """Put a backup into this project. What was there is set aside, never deleted."""
    from plantops import backup as keeping

    say_all(keeping.restore(_config(config), Console(), file.resolve(), force))


@command()
def up(config: ConfigFile = None) -> None:
    """Start the API with the release in service, and the pages beside it."""
    from plantops import releases as shelf

    shelf.up(_config(config), Console())


@command()
def down(config: ConfigFile = None) -> None:
    """Stop the API and the pages beside it; says what it stopped. Data and volumes stay."""
    from plantops import releases as shelf

    shelf.down(_config(config), Console())


@command()
def restart(config: ConfigFile = None) -> None:
    """Start the API anew with the release in service, without a gap."""
    from plantops import releases as shelf

    console = Console()
    console.say(f"{shelf.restart(_config(config), console).id} answers, started anew", "green")


@command()
def logs(
    service: Annotated[str, typer.Argument(help="Of the Docker stack: mlflow, prometheus …")] = "plant-disease-api",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    config: ConfigFile = None,
) -> None:
    """Show the log of the API, or of a service beside it."""
    from plantops import releases as shelf

    shelf.logs(_config(config), service, follow)


@command()
def doctor(
    as_json: Json = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="Rebuild a lost memory; clear what dead git and DVC processes left.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Look for what is wrong here, and say the command that mends it."""
    from plantops import doctor as surgery
    from plantops import report

    if fix:
        surgery.fix(Path.cwd(), config, Console(sys.stderr if as_json else None))
    report.findings(surgery.examine(Path.cwd(), config), Console(), as_json)


@command()
def key() -> None:
    """Make a key for the API. It is shown once; config.yaml gets its hash."""
    from plantops.keys import hash_of, new_key

    made = new_key()
    print(f"key:   {made}")
    print(f"hash:  {hash_of(made)}")
    print("The hash goes to api.keys in config.yaml (then plantops restart); the key to whoever asks:", file=sys.stderr)
    print("  curl -H 'X-API-Key: KEY' ...   or   -H 'Authorization: Bearer KEY'", file=sys.stderr)


@command()
def predict(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO…", help="Photos, or folders of them.", exists=True)],
    url: Annotated[str | None, typer.Option(help="An API; by default the project's own, where it answers.")] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="A bundle, without an API; by default the release in service.")
    ] = None,
    top: Annotated[int, typer.Option(help="How many of the likeliest classes --json lists.", min=1, max=1000)] = 5,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Say which class photos show. Photos that cannot be used are listed, and the exit code is 1 then."""
    from plantops import predicting

    if (url and bundle) or (as_csv and as_json):
        raise SetupError("--url or --bundle, and --csv or --json: not both", "plantops predict --help")
    kind = "csv" if as_csv else "json" if as_json else ""
    source = predicting.Source(url, bundle) if url or bundle else predicting.own(_config(config))
    predicting.predict(photos, source, kind, top)


@command()
def inbox(
    listed: Annotated[bool, typer.Option("--list", help="Say what waits, and open no page.")] = False,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Label photos that the model was unsure of, on a local page; the next run learns from them."""
    from plantops.inbox import desk

    settings, console = _config(config), Console()
    if listed or as_json:
        desk.show(settings, console, as_json)
    else:
        desk.sit(settings, console)


@command()
def sample(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="Where; the raw data by default.")] = None,
    classes: Annotated[int, typer.Option(help="How many classes.", min=2)] = 6,
    per_class: Annotated[int, typer.Option(help="How many leaves of each.", min=4)] = 60,
    seed: Annotated[int, typer.Option(help="Other leaves for another number.")] = 1,
) -> None:
    """Draw sample leaves to try plantops with. They are no photos, and never mixed with photos."""
    from plantops import dvc
    from plantops import sample as drawing

    target = folder or dvc.raw_folder(find_root(Path.cwd()))
    console = Console()
    for name, count in drawing.draw(target, classes, per_class, seed).items():
        console.say(f"  {count:4d}  {name}")
    console.say(
        f"drawn sample leaves (no photos) in {os.path.relpath(target)}; next: dvc add each class, then plantops run"
    )


@command()
def follow(config: ConfigFile = None) -> None:
    """Make models/production and the aliases in MLflow what the store says."""
    from plantops import releases as shelf

    say_all(shelf.follow(_config(config)))
