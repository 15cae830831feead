"""What the farm offers to MQTT clients: submitting and controlling jobs; and what slots say of their attempts."""

from __future__ import annotations

from concurrent.futures import Future

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from callboard_broker.services.farm.api import ApiRequest, FarmApi
from callboard_broker.services.farm.reports import report
from callboard_broker.services.farm.service import Farm
from callboard_core.callee import Callee, Request
from callboard_core.cards import WorkerCard
from callboard_core.errors import BadRequest
from callboard_core.farm.messages import ATTEMPT_WORKER, AttemptCall, AttemptReply, as_args
from callboard_core.farm.reports import JobReport
from callboard_core.farm.requests import JobAction, JobRequest
from callboard_core.messages import read_args
from callboard_core.presence import Presence
from callboard_core.topics import Kind, client_of

__all__ = ["FarmWorkers"]

#: Reports of attempts that are worked on, and that may wait: every slot has two attempts at most.
_ATTEMPTS = 5_000
_ATTEMPTS_WAITING = 50_000


class Submitted(BaseModel):
    """The new job."""

    job: str = Field(description="its id")


class JobCall(BaseModel):
    """Args of the worker ``job``; without ``action`` it only tells how the job is."""

    model_config = ConfigDict(extra="forbid")

    job: str = Field(min_length=1, max_length=63, description="the job's id")
    action: JobAction | None = None


class FarmWorkers:
    """Binds calls to the farm."""

    def __init__(self, farm: Farm, api: FarmApi) -> None:
        self._farm = farm
        self._api = api

    def offer(self, presence: Presence, callee: Callee) -> None:
        """Pin the cards and answer the calls. What slots call has no card: it is for nobody else."""
        callee.handle(
            Kind.WORKER,
            ATTEMPT_WORKER,
            self.attempt,
            run="inline",
            concurrency=_ATTEMPTS,
            backlog=_ATTEMPTS_WAITING,
        )
        callee.handle(Kind.WORKER, "submit", self.submit, concurrency=4)
        callee.handle(Kind.WORKER, "job", self.job, concurrency=4)
        callee.handle(Kind.WORKER, "api", self.api, concurrency=4)
        presence.pin(
            WorkerCard(
                name="api",
                epoch=presence.epoch,
                label="The farm's JSON API",
                description="Creates, reads, updates or deletes all items that match, in one transaction.",
                service="api",
                concurrency=4,
                parameters=ApiRequest.model_json_schema(),
            )
        )
        presence.pin(
            WorkerCard(
                name="submit",
                epoch=presence.epoch,
                label="Submit a job",
                description="Its files must be artifacts of the board already, or lie in a shared folder.",
                service="submit",
                concurrency=4,
                parameters=JobRequest.model_json_schema(),
                result=Submitted.model_json_schema(),
            )
        )
        presence.pin(
            WorkerCard(
                name="job",
                epoch=presence.epoch,
                label="Look after a job",
                description="Tells how a job is, after doing something with it if that is asked for.",
                service="job",
                concurrency=4,
                parameters=JobCall.model_json_schema(),
                result=JobReport.model_json_schema(),
            )
        )

    def attempt(self, request: Request) -> Future[JsonValue]:
        """Take what a slot says of its attempt; answered once it is on the disk."""
        call = read_args(AttemptCall, request.args)
        answer: Future[JsonValue] = Future()
        self._farm.take(call, caller_of(request)).add_done_callback(lambda done: _pass_on(done, answer))
        return answer

    def api(self, request: Request) -> JsonValue:
        """Answer a request about items; who may call this worker may also write."""
        return self._api.handle(request.args, who=caller_of(request))

    def submit(self, request: Request) -> JsonValue:
        """Make a job."""
        job = self._farm.submit(read_args(JobRequest, request.args), caller_of(request))
        return Submitted(job=job).model_dump()

    def job(self, request: Request) -> JsonValue:
        """Do something with a job and tell how it is."""
        call = read_args(JobCall, request.args)
        with self._farm.reading() as book:
            job = book.job(call.job)
        if call.action is not None:
            self._farm.act([job.id], call.action)
        with self._farm.reading() as book:
            return as_args(report(book, job))


def caller_of(request: Request) -> str:
    """Return the client that called: the second level of the topic it wants the answer on.

    Raises:
        BadRequest: it wants none.
    """
    if request.caller is None:
        raise BadRequest("reply_to: missing; it says who asks")
    return client_of(request.caller)


def _pass_on(done: Future[AttemptReply], answer: Future[JsonValue]) -> None:
    if not answer.set_running_or_notify_cancel():
        return  # the caller waits no more; the slot repeats what it has to tell
    error = done.exception()
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(as_args(done.result()))
