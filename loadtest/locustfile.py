"""Locust's entry: options, one user that plays a scenario, and the exit status.

``locust -f loadtest/locustfile.py --headless --scenario server --host http://127.0.0.1:8000``; without ``--headless``
the web UI starts it, shows it live, and has the last report at ``/leeway``.  Locust gives the runner, the web UI and
the events; arrivals and latencies are ours, as Locust waits for an answer before it asks again, and rounds.
"""

from __future__ import annotations

import json
import logging
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import gevent
import gevent.pool
from locust import User, events, task

import loadtest
from loadtest.client import Target, TargetError
from loadtest.execution import Execution
from loadtest.figures import Judged
from loadtest.limits import NOT_RUN, VOID, exit_status
from loadtest.mixes import places_of
from loadtest.page import page_of
from loadtest.report import document_of, summary_line
from loadtest.runs import VoidError
from loadtest.scenario import pinned, read_scenario
from reading import load_squad

logger = logging.getLogger("leeway.loadtest")

EXCERPT = Path(loadtest.__file__).resolve().parents[1] / "tests" / "data" / "squad-dev-excerpt.json.gz"


class NotServedError(Exception):
    """What Locust's statistics count a request as that got no answer in time; the message is the outcome."""


class GreenLanes:
    """Greenlets."""

    def __init__(self) -> None:
        self._group: Any = gevent.pool.Group()

    def spawn(self, function: Any, *arguments: Any) -> None:
        """Run `function` in a greenlet of its own, from the next turn of the loop on."""
        self._group.spawn(function, *arguments)

    def sleep(self, seconds: float) -> None:
        """Let the others run."""
        gevent.sleep(seconds)

    def join(self) -> None:
        """Wait for all."""
        self._group.join()

    def kill(self) -> None:
        """End all: the test was stopped."""
        self._group.kill(block=False)


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser, **_: Any) -> None:
    """Our own options; each can be given by the environment, too."""
    options: Any = parser  # ConfigArgParse: knows env_var
    options.add_argument(
        "--scenario", env_var="LOADTEST_SCENARIO", default="steady", help="Name in loadtest/scenarios, or a .toml file"
    )
    options.add_argument(
        "--squad", env_var="LOADTEST_SQUAD", default="", help="Questions in SQuAD 1.1 format, plain or .gz (an excerpt)"
    )
    options.add_argument(
        "--length-config", env_var="LOADTEST_LENGTH_CONFIG", default="", help="Id to pin every request to"
    )
    options.add_argument(
        "--draw", env_var="LOADTEST_DRAW", type=int, default=0, help="Another number, other draws of the same seeds"
    )
    options.add_argument(
        "--report-dir", env_var="LOADTEST_REPORT_DIR", default="runs/loadtest", help="Folder of the reports"
    )


@events.init.add_listener
def prepare(environment: Any, web_ui: Any = None, **_: Any) -> None:
    """Until a scenario has come to its end, the exit status says that there is no result."""
    environment.process_exit_code = VOID
    if web_ui is None:
        return

    @web_ui.app.route("/leeway")
    def report() -> str:
        return getattr(environment, "leeway_page", "<p>No scenario has come to its end yet.</p>")


class Generator(User):
    """The one user, whose one task plays a whole scenario."""

    fixed_count = 1
    host = "http://127.0.0.1:8000"

    @task
    def play(self) -> None:
        """Play the scenario, write its report, set the exit status, and end the test."""
        lanes = GreenLanes()
        self.environment.process_exit_code = VOID
        try:
            self.environment.process_exit_code = self._play(lanes)
        except VoidError as error:
            logger.error("void: %s", error)  # noqa: TRY400 - the reason, not where it was found
        except (TargetError, OSError, ValueError) as error:
            logger.error("%s", error)  # noqa: TRY400 - likewise
            self.environment.process_exit_code = NOT_RUN
        finally:
            lanes.kill()
        runner, is_headless = self.environment.runner, self.environment.web_ui is None
        gevent.spawn(runner.quit if is_headless else runner.stop)  # not from within a greenlet that this kills
        gevent.sleep(60)

    def _play(self, lanes: GreenLanes) -> int:
        options = self.environment.parsed_options
        scenario = pinned(read_scenario(options.scenario), options.length_config)
        places = places_of(load_squad(Path(options.squad) if options.squad else EXCERPT))
        target = Target.of(self.environment.host or self.host)
        execution = Execution(
            scenario, places, target, lanes, self._tell_locust, lambda line: logger.info("%s", line), options.draw
        )
        result = execution.run()
        document = document_of(result)
        page = page_of(document, [each.latency_ms for each in result.run.requests if each.answered])
        self.environment.leeway_page = page
        folder = Path(options.report_dir)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
        (folder / f"{scenario.name}.json").write_text(text + "\n", encoding="utf-8")
        (folder / f"{scenario.name}.html").write_text(page, encoding="utf-8")
        logger.info("%s", summary_line(document))
        logger.info("report: %s", folder / f"{scenario.name}.html")
        return exit_status(document)

    def _tell_locust(self, stage: str, judged: Judged) -> None:
        self.environment.events.request.fire(
            request_type="POST",
            name=f"/qa {stage} {judged.budget}",
            response_time=judged.latency_ms,
            response_length=0,
            context={},
            exception=None if judged.in_budget else NotServedError(judged.outcome.value),
            start_time=time.time() - judged.latency_ms / 1e3,
        )
