"""All settings of one process: checked, frozen, passed down."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, SecretStr, model_validator

from node.domain.origin import ORIGINS_VARIABLE, Origins, encode_origins
from node.settings.environment import write_variables
from node.settings.peers import HOLDING, DeliverySettings, DestinationSettings, SenderSettings, WorklistSettings
from node.settings.receiving import (
    AssemblySettings,
    Hl7Settings,
    NodeSettings,
    OrdersSettings,
    SecuritySettings,
    StoreSettings,
)
from node.settings.running import (
    BrokerSettings,
    DispatchSettings,
    LedgerSettings,
    ModelsSettings,
    PipelineSettings,
    ResultsSettings,
    RetentionSettings,
)
from node.settings.section import Section
from node.settings.watching import AlarmSettings, LogSettings, MetricsSettings, TracingSettings
from node.settings.web import ViewerSettings, WebSettings

# Tables whose keys are names that a site chooses.
NAMED_TABLES = frozenset({"pipelines", "destinations", "sources"})
# Below node.data_dir: what `radnode models add` and `pull` install where models.dirs names no folder.
MODELS_FOLDER = "models"
# The same: which Layouts were found to be fastest.
LAYOUTS_FOLDER = "calibration"


class Settings(Section):
    """All settings of one process.

    Attributes
    ----------
    rules
        ``[[rules]]`` as plain tables; the rules' own grammar checks them (`node.rules.grammar`).
    """

    node: NodeSettings
    broker: BrokerSettings
    ledger: LedgerSettings
    store: StoreSettings
    assembly: AssemblySettings
    dispatch: DispatchSettings
    delivery: DeliverySettings
    results: ResultsSettings
    retention: RetentionSettings
    alarms: AlarmSettings
    metrics: MetricsSettings
    tracing: TracingSettings
    viewer: ViewerSettings
    models: ModelsSettings
    web: WebSettings
    security: SecuritySettings
    hl7: Hl7Settings
    orders: OrdersSettings
    worklist: WorklistSettings
    log: LogSettings
    pipelines: Mapping[str, PipelineSettings]
    destinations: Mapping[str, DestinationSettings] = Field(default_factory=dict)
    sources: Mapping[str, SenderSettings] = Field(default_factory=dict)
    rules: tuple[dict[str, Any], ...] = ()
    _origins: Origins = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: object) -> None:
        """Keep where the values are from; the loader hands it in."""
        self._origins = context if isinstance(context, Mapping) else {}

    @property
    def origins(self) -> Origins:
        """Dotted key to where its value stands; what is absent is a default."""
        return self._origins

    @model_validator(mode="after")
    def _expected_pipelines_exist(self) -> "Settings":
        for entry in self.alarms.pipelines:
            if entry.pipeline not in self.pipelines:
                known = ", ".join(self.pipelines)
                raise ValueError(f"alarms.pipelines names {entry.pipeline!r}, which is no pipeline; known are {known}")
        return self

    @model_validator(mode="after")
    def _asked_destinations_exist(self) -> "Settings":
        for name, entry in self.sources.items():
            asked = self.destinations.get(entry.ask)
            if entry.ask and (asked is None or asked.transport not in HOLDING):
                known = ", ".join(one for one, told in self.destinations.items() if told.transport in HOLDING)
                raise ValueError(
                    f"sources.{name}.ask names {entry.ask!r}, which is no destination that can be asked; known are "
                    f"{known or 'none'}"
                )
            if (entry.host or entry.url) and name in self.destinations:
                raise ValueError(f"sources.{name} has the name of a destination; give it another one, or ask that")
        asked = self.destinations.get(self.worklist.ask)
        if self.worklist.ask and (asked is None or asked.transport != "cstore"):
            raise ValueError(f"worklist.ask names {self.worklist.ask!r}, which is no destination of transport 'cstore'")
        telling = [entry.ask for entry in self.sources.values() if entry.ask and entry.says_how_to_fetch]
        if len(set(telling)) < len(telling):
            raise ValueError("two of sources say how to fetch from one destination; say it once")
        aets = [entry.aet for entry in self.sources.values()]
        if len(set(aets)) < len(aets):
            raise ValueError("two of sources have one aet")
        return self

    @property
    def store_root(self) -> Path:
        """Folder of the store."""
        return Path(self.store.url) if self.store.url else self.node.data_dir / "store"

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.ledger.url.get_secret_value() or f"sqlite:///{self.node.data_dir.resolve() / 'ledger.sqlite'}"

    @property
    def model_dirs(self) -> tuple[Path, ...]:
        """Folders with model folders of the site: those of ``models.dirs``, then the one of the node itself."""
        return (*self.models.dirs, self.node.data_dir / MODELS_FOLDER)

    @property
    def broker_dir(self) -> Path:
        """Folder in which an embedded broker keeps its files."""
        return self.node.data_dir / "broker"

    @property
    def layouts_dir(self) -> Path:
        """Folder with what calibrations of the models chose."""
        return self.node.data_dir / LAYOUTS_FOLDER

    def with_broker(self, url: str) -> "Settings":
        """Return these settings with the broker that really runs."""
        return self.model_copy(update={"broker": self.broker.model_copy(update={"url": SecretStr(url)})})

    def offline(self, data_dir: Path, *, rules: tuple[dict[str, Any], ...]) -> "Settings":
        """Return these settings for a node that lives in `data_dir` alone and knows no Destination."""
        changes: dict[str, Any] = {
            "node": self.node.model_copy(update={"data_dir": data_dir}),
            "ledger": self.ledger.model_copy(update={"url": SecretStr("")}),
            "store": self.store.model_copy(update={"url": ""}),
            "log": self.log.model_copy(update={"level": "ERROR"}),
            "web": self.web.model_copy(update={"port": 0}),
            "hl7": self.hl7.model_copy(update={"port": 0}),
            "worklist": self.worklist.model_copy(update={"ask": "", "aet": "", "host": "", "port": 0}),
            "models": self.models.model_copy(update={"dirs": self.model_dirs}),
            # Nobody waits for a second attempt; what failed once is reported.
            "dispatch": self.dispatch.model_copy(update={"max_attempts": 1}),
            "destinations": {},
            "sources": {},
            # Nothing comes after what there is; no maximum age is waited for either.
            "assembly": self.assembly.model_copy(update={"evidence": ("association-end", "quiet-time")}),
            "rules": rules,
        }
        return self.model_copy(update=changes)

    def as_environment(self) -> dict[str, str]:
        """Return variables from which another process loads these very settings."""
        # TOML has no word for none; what is none by default is left out.
        table = self.model_dump(mode="json", exclude_none=True)
        table["broker"]["url"] = self.broker.url.get_secret_value()
        table["ledger"]["url"] = self.ledger.url.get_secret_value()
        table["alarms"]["webhook"] = self.alarms.webhook.get_secret_value()
        table["web"]["oidc"]["client_secret"] = self.web.oidc.client_secret.get_secret_value()
        for name, entry in self.destinations.items():
            table["destinations"][name]["token"] = entry.token.get_secret_value()
        # Whole, because a name in the name of a variable would lose its capitals.
        variables = write_variables(table, whole=("rules", *sorted(NAMED_TABLES)))
        return {**variables, ORIGINS_VARIABLE: encode_origins(self.origins)}
