"""Between the simulation and the server's router: the one file to change when the router's interface does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from benchmarks.simulation.world import World
from server.routing.latency_model import LatencyModel
from server.routing.policy import BacklogPrice, Policy
from server.routing.router import Router
from server.routing.ticket import Dispatch, Refusal, Request, Ticket


class Routes(Protocol):
    """What the loop needs of a router."""

    def admit(self, request: Request, now_ns: int) -> Ticket | Refusal:
        """Let `request` wait, or say why not."""

    def dispatch(self, now_ns: int) -> tuple[Dispatch | None, list[Ticket]]:
        """What to run now, and who was dropped."""

    def finished(self, dispatch: Dispatch, now_ns: int) -> bool:
        """The part has run; whether that was the last part of its request."""

    def answered(self, dispatch: Dispatch, after_ns: int) -> None:
        """The answer is out, `after_ns` after the end of inference."""


class ServerRouter:
    """The server's own router, with its own latency model, under `policy`."""

    def __init__(self, world: World, policy: Policy) -> None:
        self._model = LatencyModel(world.profile)
        self._router = Router(world.table, self._model, policy)

    def admit(self, request: Request, now_ns: int) -> Ticket | Refusal:
        """See `Routes`."""
        return self._router.admit(request, now_ns)

    def dispatch(self, now_ns: int) -> tuple[Dispatch | None, list[Ticket]]:
        """See `Routes`."""
        return self._router.dispatch(now_ns)

    def finished(self, dispatch: Dispatch, now_ns: int) -> bool:
        """See `Routes`."""
        return self._router.finished(dispatch, now_ns)

    def answered(self, dispatch: Dispatch, after_ns: int) -> None:
        """See `Routes`."""
        self._model.observe_answer(dispatch.ticket.work, dispatch.factor, after_ns)


MakeRouter = Callable[[World, Policy], Routes]


def own_policy(world: World) -> Policy:
    """The policy that the server has by default."""
    typical = LatencyModel(world.profile).work((round(world.table.mean_real_length),)).base_ns
    return BacklogPrice(world.f1, typical)
