"""Settings of what is told to people who watch the node: alarms, metrics, traces, logs."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from node.settings.section import AeTitle, Minutes, Port, PositiveSeconds, Seconds, Section, can_be_asked


class ExpectationSettings(Section):
    """When something is expected at least once in so many minutes."""

    minutes: Annotated[float, Field(gt=0)]
    hours: tuple[Annotated[int, Field(ge=0, le=23)], Annotated[int, Field(ge=1, le=24)]] = (0, 24)
    days: Annotated[tuple[Annotated[int, Field(ge=1, le=7)], ...], Field(min_length=1)] = (1, 2, 3, 4, 5, 6, 7)

    @model_validator(mode="after")
    def _hours_are_in_order(self) -> "ExpectationSettings":
        if self.hours[0] >= self.hours[1]:
            raise ValueError("the first of hours must be less than the second; a night is two entries")
        return self


class SourceSettings(ExpectationSettings):
    """One of ``alarms.sources``: who should send."""

    aet: AeTitle


class MatchSettings(ExpectationSettings):
    """One of ``alarms.pipelines``: what should match."""

    pipeline: str


class AlarmSettings(Section):
    """``[alarms]``: what is watched, and who is told; zero is never."""

    webhook: SecretStr
    webhook_ca: str
    webhook_timeout_s: PositiveSeconds
    sources: tuple[SourceSettings, ...]
    pipelines: tuple[MatchSettings, ...]
    unmatched_studies: Annotated[int, Field(ge=0, le=10_000)]
    job_wait_minutes: Minutes
    no_worker_minutes: Minutes
    given_up_hours: Annotated[float, Field(ge=0)]
    delivery_wait_minutes: Minutes
    destination_down_minutes: Minutes
    store_margin_percent: Annotated[float, Field(ge=0)]
    calm_seconds: Seconds

    @field_validator("webhook")
    @classmethod
    def _is_url(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        if text and not can_be_asked(text):
            # What the library says would quote it, and it may hold a secret.
            raise ValueError(
                "must be empty, or begin with http:// or https:// and name a host, with a port of 1-65535 if any; "
                "spaces and what is not ASCII are written %XX in a path, and xn--... in a host"
            )
        return url


class MetricsSettings(Section):
    """``[metrics]``: numbers for Prometheus, on the loopback address."""

    port: Port


class TracingSettings(Section):
    """``[tracing]``: who is told how long each stage of a Study took."""

    endpoint: Annotated[str, Field(pattern=r"^(https?://.*)?$")]


class LogSettings(Section):
    """``[log]``: how much is told."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
