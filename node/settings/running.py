"""Settings of the work: the queue and its bell, Jobs, their models, and how long what they answered stays."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, model_validator

from node.domain.result import OptionalResult, SegmentationForm
from node.domain.retention import KeepUntil
from node.settings.section import PositiveSeconds, Seconds, Section


class BrokerSettings(Section):
    """``[broker]``: the bell."""

    url: SecretStr
    resend_seconds: PositiveSeconds


class LedgerSettings(Section):
    """``[ledger]``: the queue of record."""

    url: SecretStr
    busy_timeout_s: PositiveSeconds


class DispatchSettings(Section):
    """``[dispatch]``: leases and attempts of Jobs."""

    lease_seconds: Annotated[float, Field(ge=2)]
    heartbeat_seconds: PositiveSeconds
    max_attempts: Annotated[int, Field(ge=1, le=10)]
    retry_seconds: Seconds
    ageing_seconds: PositiveSeconds
    drain_seconds: Annotated[float, Field(ge=0, le=25)]

    @model_validator(mode="after")
    def _heart_beats_twice_a_lease(self) -> "DispatchSettings":
        if self.heartbeat_seconds >= self.lease_seconds / 2:
            raise ValueError("heartbeat_seconds must be less than half of lease_seconds")
        return self


class ModelsSettings(Section):
    """``[models]``: where model folders lie, and how much of them is kept in memory."""

    dirs: tuple[Path, ...]
    memory_bytes: Annotated[int, Field(ge=0)]


class PipelineSettings(Section):
    """``[pipelines.<name>]``: which model runs, and how its Results look."""

    model: str
    segmentation: SegmentationForm = SegmentationForm.BINARY
    optional_results: tuple[OptionalResult, ...] = ()
    time_limit_s: PositiveSeconds = 600.0


class ResultsSettings(Section):
    """``[results]``: what becomes of answers that others replace."""

    reject_superseded: bool


class RetentionSettings(Section):
    """``[retention]``: how long Studies stay, and what must hold before they go."""

    studies_days: Annotated[float, Field(ge=0)]
    results_days: Annotated[float, Field(ge=0)]
    keep_until: KeepUntil
    high_percent: Annotated[float, Field(ge=0, lt=100)]
    low_percent: Annotated[float, Field(ge=0, lt=100)]

    @model_validator(mode="after")
    def _low_is_lower(self) -> "RetentionSettings":
        if self.high_percent and self.low_percent >= self.high_percent:
            raise ValueError("low_percent must be less than high_percent")
        return self
