"""From error type to exit code: the one place where a failure becomes a message and a number."""

from __future__ import annotations

import gc
import io
import signal
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from plantops import __version__, extras
from plantops.console import Console
from plantops.errors import BUG, INTERRUPTED, PlantopsError, SetupError, in_words, redacted

_AGAIN_S = 0.05


def main() -> None:
    """The entry point of the `plantops` command."""
    # Starting makes many objects and hardly any garbage: 4 ms here, 100 ms where mlflow is imported.
    gc.set_threshold(50_000)
    code = _run()
    # The process ends: without this the interpreter searches all that was imported for garbage, 14 ms of 100.
    gc.freeze()
    sys.exit(code)


def _run() -> int:
    import typer
    from typer.exceptions import TyperException

    from plantops.cli import app

    hear_signals()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = app(prog_name="plantops", standalone_mode=False)  # also under python -m
    except PlantopsError as error:
        Console(sys.stderr).error(error)
        return error.code
    except typer.Exit as leaving:
        return leaving.exit_code
    except TyperException as error:
        error.show()  # type: ignore[attr-defined]
        return SetupError.code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        return 1
    except Exception as error:  # noqa: BLE001 - the funnel: what the machine refused, or else a bug
        if refused := in_words(error) or extras.lacking(error):
            Console(sys.stderr).error(refused)
            return refused.code
        return _bug()
    if code == INTERRUPTED:  # Typer makes this of Ctrl-C
        Console(sys.stderr).say("interrupted; what was in service still is")
    return code if isinstance(code, int) else 0


def hear_signals() -> None:
    """Have SIGTERM and SIGHUP interrupt as Ctrl-C does, and none of the three be lost."""
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup wants to be left alone
        signal.signal(signal.SIGHUP, _terminate)
    signal.signal(signal.SIGALRM, _terminate)
    sys.unraisablehook = _once_more


def _terminate(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _once_more(lost: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised while it lets go of objects, an interruption too: that comes again a moment later."""
    if lost.exc_type is KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
    else:
        sys.__unraisablehook__(lost)


def _report_folder() -> Path:
    """The state folder of the project that we are in, else the home folder."""
    here = Path.cwd()
    return next((one / ".plantops" for one in (here, *here.parents) if (one / ".plantops").is_dir()), Path.home())


def _bug() -> int:
    text = redacted(f"plantops {__version__}, Python {sys.version}\n{' '.join(sys.argv)}\n\n{traceback.format_exc()}")
    path = _report_folder() / f"plantops-bug-{datetime.now(UTC):%Y%m%d-%H%M%S}.txt"
    try:
        path.write_text(text, encoding="utf-8")
        where = f"a report is in {path}"
    except OSError:
        where = text
    Console(sys.stderr).say(redacted(f"this is a bug in plantops: {sys.exc_info()[1]!r}; {where}"), "red")
    return BUG


if __name__ == "__main__":
    main()
