"""A node without network: files in, the same stations, Results as files out."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from node.clock import utc_now
from node.domain.decision import Outcome
from node.domain.job import Job, JobState
from node.domain.prior import PRIOR_ROLE
from node.domain.result import Result
from node.domain.study import StudyFacts
from node.domain.uids import StudyUID
from node.errors import Broken, ModelInvalid, NodeError, NotDicom, PipelineUnknown
from node.fhir.diagnostic_report import build_bundle
from node.header.part10 import PREAMBLE, has_prefix
from node.header.scan import scan_file
from node.intake.adoption import arrival_of_file
from node.intake.ports import IntakeTerms
from node.intake.station import Intake
from node.ledger.instances import InstanceLedger
from node.ledger.jobs import JobLedger
from node.ledger.opening import open_ledger
from node.ledger.studies import StudyLedger
from node.ledger.views import LedgerView, StudyStory
from node.rules.explain import refusal_of
from node.settings.whole import Settings
from node.site import build_assembly, build_routing, retry_policy, survey_models
from node.version import product_version
from node.volumes import open_store
from node.workforce import spawn_worker

ASSOCIATION = "process"
# The settling of a Series waits for nothing more; quiet time is for networks.
FAR_AHEAD = timedelta(days=1)
# Exit codes of a worker that has told what became of its Job: it is spent, or the Job was over its time limit.
TOLD = (os.EX_TEMPFAIL, os.EX_SOFTWARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedFile:
    """A file that is no Instance.

    Attributes
    ----------
    is_dicom
        True when it claims to be DICOM and is damaged; False when it never was.
    """

    path: Path
    code: str
    text: str
    is_dicom: bool


class OfflineNode:
    """Takes files through intake, assembly, routing and a worker, all in one temporary folder.

    Parameters
    ----------
    settings
        Their data_dir must be a folder that nobody else uses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = open_ledger(settings)
        self._store = open_store(settings)
        self._intake = Intake(
            store=self._store,
            ledger=InstanceLedger(self._engine),
            clock=utc_now,
            terms=IntakeTerms(own_results="store", max_instance_bytes=settings.store.max_instance_bytes),
        )
        self._routing = build_routing(settings, self._engine)
        self._view = LedgerView(self._engine)
        self._studies = StudyLedger(self._engine)

    def take_in(self, paths: Sequence[Path]) -> Iterator[RefusedFile]:
        """Take in each file; yields those that are refused."""
        for path in paths:
            try:
                self._take_file(path)
            except NodeError as exc:
                yield RefusedFile(path=path, code=exc.code, text=str(exc), is_dicom=_claims_dicom(path))
        self._intake.association_ended(ASSOCIATION)

    def route(self) -> None:
        """Settle and route everything that was taken in."""
        build_assembly(self._settings, self._engine).tick(utc_now() + FAR_AHEAD)
        while self._routing.tick(utc_now()) is not None:
            pass

    def run_jobs(self) -> None:
        """Run every Job, and those to which rules are led by what was answered.

        Raises
        ------
        Broken
            If a worker ends with an error without having worked on a Job; what it finished is in the ledger.
        """
        while True:
            self._drain()
            self.route()
            if JobLedger(self._engine).next_scheduled(utc_now() + FAR_AHEAD) is None:
                return

    def _drain(self) -> None:
        """Run what waits in a worker process, and in another one what is left when it dies with a Job in hand.

        Raises
        ------
        Broken
            If the worker ends with an error without having worked on a Job; what it finished is in the ledger.
        """
        jobs = JobLedger(self._engine)
        while (code := spawn_worker(self._settings, ("drain",)).wait()) != 0:
            died_with = jobs.reap_expired(utc_now() + FAR_AHEAD, retry_policy(self._settings))
            if not died_with and code not in TOLD:
                raise Broken("the worker ended with an error; its log is on standard error")

    def stories(self) -> tuple[StudyStory, ...]:
        """Return every Study that was taken in, in the order of arrival."""
        found = self._view.list_studies(limit=1_000_000)
        return tuple(sorted(found, key=lambda story: (story.first_instance_at, story.study_instance_uid)))

    def facts(self) -> tuple[StudyFacts, ...]:
        """Return what rules are asked about, of every Study that was taken in."""
        return tuple(self._studies.study_facts(story.study_instance_uid) for story in self.stories())

    def report(self, out: Path) -> dict[str, Any]:
        """Copy every Result to `out` and return report.json."""
        studies = [self._report_study(story, out) for story in self.stories()]
        return {"radnode": product_version(), "studies": studies}

    def close(self) -> None:
        """Let go of the ledger."""
        self._engine.dispose()

    def _take_file(self, path: Path) -> None:
        try:
            content = path.read_bytes()
        except OSError as exc:
            raise NotDicom(f"{path} cannot be read ({exc.strerror}); check its rights") from exc
        header = scan_file(content)
        self._intake.store_instance(content[header.data_set_offset :], arrival_of_file(header, ASSOCIATION))

    def _report_study(self, story: StudyStory, out: Path) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "study_instance_uid": story.study_instance_uid,
            "decisions": [decision.as_json() for decision in story.decisions],
            "jobs": [self._report_job(job, story, out) for job in story.jobs],
        }
        if not story.jobs:
            entry["refusal"] = refusal_of(story.decisions) or self._say_faults(story)
        return entry

    def _say_faults(self, story: StudyStory) -> dict[str, str] | None:
        """Return why nothing ran for a Study whose rules asked for Pipelines without a model; None for others."""
        faults = survey_models(self._settings).faults
        asked = {name for rule in self._settings.rules for name in rule.get("run", ()) if name in faults}
        matched = [one.reason for one in story.decisions if one.outcome is Outcome.MATCH]
        return {"code": ModelInvalid.code, "text": " ".join(matched)} if asked and matched else None

    def _report_job(self, job: Job, story: StudyStory, out: Path) -> dict[str, Any]:
        reason = {"reason": {"code": job.reason_code, "text": job.reason_text}} if job.reason_code else {}
        order = job.order
        return {
            "pipeline": order.pipeline,
            "model": {"name": order.model, "version": order.model_version, "weights_sha256": job.model_sha256},
            "state": job.state.value,
            **reason,
            "inputs": dict(order.inputs),
            "seconds": dict(job.seconds),
            "stages": {stage: dict(parts) for stage, parts in job.stages.items()},
            "findings": list(job.findings),
            "notes": list(job.notes),
            "fhir": self._write_fhir(job, story, out),
            "results": [
                {
                    "kind": result.kind.value,
                    "sop_class_uid": result.sop_class_uid,
                    "sop_instance_uid": result.sop_instance_uid,
                    "series_instance_uid": result.series_instance_uid,
                    "path": self._copy(
                        result.path, out, story.study_instance_uid, f"{order.pipeline}-{result.kind.value}"
                    ),
                }
                for result in _results_of(job, story)
            ],
        }

    def _write_fhir(self, job: Job, story: StudyStory, out: Path) -> str | None:
        """Write the answer as FHIR Bundle and return its path; None where there is no answer."""
        if job.state is not JobState.COMPLETED:
            return None
        study = self._studies.study_facts(story.study_instance_uid)
        # No clock in what must be the same each time.
        bundle = build_bundle(study, replace(job, finished_at=None), _results_of(job, story))
        target = out / story.study_instance_uid / f"{job.order.pipeline}-fhir.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(bundle, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return str(target.relative_to(out))

    def _copy(self, path: str, out: Path, study: StudyUID, name: str) -> str:
        folder = out / study
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{name}.dcm"
        shutil.copyfile(self._store.path(path), target)
        return str(target.relative_to(out))


def _results_of(job: Job, story: StudyStory) -> list[Result]:
    return [result for result in story.results if result.job_id == job.job_id and not result.is_substitute]


@contextmanager
def node_on_files(settings: Settings, what: Path) -> Iterator[OfflineNode]:
    """Open a node that has taken in a file or folder and asked the rules; nothing is run.

    Raises
    ------
    NotDicom
        If there is no Instance in it.
    """
    files = [what] if what.is_file() else sorted(path for path in what.rglob("*") if path.is_file())
    with TemporaryDirectory(prefix="radnode-") as folder:
        node = OfflineNode(offline_settings(settings, Path(folder)))
        try:
            refused = list(node.take_in(files))
            if len(refused) == len(files):
                raise NotDicom(f"{what} holds no DICOM file; name a folder with Instances")
            node.route()
            yield node
        finally:
            node.close()


def offline_settings(settings: Settings, folder: Path, *, pipeline: str | None = None) -> Settings:
    """Return `settings` for a node that lives in `folder`, knows no Destination, and perhaps one Pipeline only.

    Raises
    ------
    PipelineUnknown
        If `pipeline` is not configured.
    """
    if pipeline is not None and pipeline not in settings.pipelines:
        raise PipelineUnknown(f"pipeline {pipeline!r} is unknown; known are {', '.join(settings.pipelines)}")
    asked = [rule for rule in settings.rules if pipeline is None or pipeline in rule.get("run", ())]
    rules = tuple({key: rule[key] for key in rule if key not in {"forward", "deliver_to", "priors"}} for rule in asked)
    return settings.offline(folder, rules=tuple(_without_prior(rule) for rule in rules if "run" in rule))


def _without_prior(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule that reads no earlier Study: nobody is there who could be asked for one."""
    inputs = rule.get("inputs")
    if not isinstance(inputs, Mapping):
        return dict(rule)
    return {**rule, "inputs": {role: wanted for role, wanted in inputs.items() if role != PRIOR_ROLE}}


def _claims_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return has_prefix(file.read(len(PREAMBLE)))
    except OSError:
        return False
