"""Tables of the ledger; what must never happen twice is a key here, not an `if` elsewhere."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    JSON,
    TEXT,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class UtcTime(TypeDecorator[datetime]):
    """An instant, kept as whole microseconds since 1970 so that every database sorts it alike."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> int | None:
        """Return microseconds for an aware datetime."""
        return None if value is None else (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, _dialect: Dialect) -> datetime | None:
        """Return an aware datetime in UTC."""
        return None if value is None else to_instant(value)


def to_instant(microseconds: int) -> datetime:
    """Return what a `UtcTime` means that was read by the driver alone."""
    return EPOCH + timedelta(microseconds=microseconds)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

UID = String(64)
# Compared byte by byte whatever the database's own language is, so that the beginning of a word is a range of an index.
Key = Text().with_variant(TEXT(collation="C"), "postgresql")
# SQLite counts only INTEGER PRIMARY KEY up by itself.
Serial = BigInteger().with_variant(Integer, "sqlite")

studies = Table(
    "studies",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("revision", Integer, nullable=False, default=0),
    Column("first_instance_at", UtcTime, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    Index(None, "state"),
    Index(None, "changed_at"),
)

series = Table(
    "series",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),
    Column("series_instance_uid", UID, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("last_instance_at", UtcTime, nullable=False),
    ForeignKeyConstraint(["study_instance_uid"], ["studies.study_instance_uid"]),
    Index(None, "state"),
    Index(None, "series_instance_uid"),
)

instances = Table(
    "instances",
    metadata,
    Column("sop_instance_uid", UID, primary_key=True),
    Column("study_instance_uid", UID, nullable=False),
    Column("series_instance_uid", UID, nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("transfer_syntax_uid", UID, nullable=False),
    Column("attributes", JSON, nullable=False),
    Column("path", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    # Digest of the version that said first what this one says; NULL: of this one.
    Column("says", String(64)),
    Column("pixel_data_offset", BigInteger),
    Column("association_id", String(64), nullable=False),
    Column("calling_aet", String(16), nullable=False),
    Column("received_at", UtcTime, nullable=False),
    ForeignKeyConstraint(
        ["study_instance_uid", "series_instance_uid"], ["series.study_instance_uid", "series.series_instance_uid"]
    ),
    Index(None, "study_instance_uid", "series_instance_uid"),
)

# What is searched; one row for each Study and Series that is kept, written as they are opened. See `catalogue`.
study_entries = Table(
    "study_entries",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),
    Column("study_date", Key, nullable=False),
    Column("patient_name", Key, nullable=False),
    Column("patient_id", Key, nullable=False),
    Column("accession_number", Key, nullable=False),
    Column("attributes", JSON, nullable=False),
    # Each holds all that a page of Studies is chosen and sorted by.
    Index(None, "study_date", "study_instance_uid"),
    Index(None, "patient_name", "study_date", "study_instance_uid"),
    Index(None, "patient_id", "study_date", "study_instance_uid"),
    Index(None, "accession_number", "study_date", "study_instance_uid"),
)

series_entries = Table(
    "series_entries",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),
    Column("series_instance_uid", UID, primary_key=True),
    Column("study_date", Key, nullable=False),
    Column("modality", Key, nullable=False),
    Column("attributes", JSON, nullable=False),
    Index(None, "modality", "study_date", "study_instance_uid"),
    Index(None, "series_instance_uid"),
)

# Which Associations bring which Series; a Series settles only when none of them is open.
receptions = Table(
    "receptions",
    metadata,
    Column("association_id", String(64), primary_key=True),
    Column("study_instance_uid", UID, primary_key=True),
    Column("series_instance_uid", UID, primary_key=True),
    Column("ended_at", UtcTime),
    ForeignKeyConstraint(
        ["study_instance_uid", "series_instance_uid"], ["series.study_instance_uid", "series.series_instance_uid"]
    ),
    Index(None, "study_instance_uid", "series_instance_uid"),
)

# What is known of how much should come, by who said it; an empty Series Instance UID is the Study as a whole. It may
# stand here before the first Instance, so no Study need be known.
expectations = Table(
    "expectations",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),
    Column("series_instance_uid", UID, primary_key=True),
    Column("told", String(40), primary_key=True),
    Column("source", String(64), primary_key=True),
    Column("notice_uid", UID, primary_key=True),
    Column("expected", Integer),
    Column("held", Integer, nullable=False),
    Column("held_first", Integer, nullable=False),
    Column("is_final", Boolean, nullable=False),
    Column("changes", Integer, nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    Column("failure", String(64), nullable=False),
    Index(None, "seen_at"),
)

# Instance Availability Notifications and Modality Performed Procedure Steps, by their SOP Instance UID.
notices = Table(
    "notices",
    metadata,
    Column("sop_instance_uid", UID, primary_key=True),
    Column("sop_class_uid", UID, nullable=False),
    Column("study_instance_uid", UID, nullable=False),
    Column("source", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    Index(None, "study_instance_uid"),
    Index(None, "changed_at"),
)

# The longest pause between two Associations of each Series that settled, by who sent it.
pauses = Table(
    "pauses",
    metadata,
    Column("pause_id", Serial, primary_key=True),
    Column("source", String(16), nullable=False),
    Column("seconds", Float, nullable=False),
    Index(None, "source", "pause_id"),
)

# Unified Procedure Steps that others created; those of Jobs are told from `jobs`. `attributes` is DICOM JSON.
workitems = Table(
    "workitems",
    metadata,
    Column("workitem_id", Serial, primary_key=True),
    Column("sop_instance_uid", UID, nullable=False),
    Column("state", String(16), nullable=False),
    Column("transaction_uid", UID),
    Column("attributes", Text, nullable=False),
    Column("study_instance_uid", UID),
    # Of those that this node performs.
    Column("pipeline", String(64)),
    Column("job_id", String(36)),
    Column("created_by", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    UniqueConstraint("sop_instance_uid"),
    Index(None, "state", "pipeline"),
    Index(None, "study_instance_uid"),
    Index(None, "job_id"),
)

# Who is told of which workitem; and who of every new one that matches a filter (of any: an empty one).
subscriptions = Table(
    "subscriptions",
    metadata,
    Column("aet", String(64), primary_key=True),
    Column("sop_instance_uid", UID, primary_key=True),
    Column("is_locked", Boolean, nullable=False),
    Column("filter", Text, nullable=False, default=""),
    Column("is_suspended", Boolean, nullable=False, default=False),
    Column("subscribed_at", UtcTime, nullable=False),
    Index(None, "sop_instance_uid"),
)

# What subscribers are told, one row for each of them; those who listen by themselves read on from a number.
workitem_events = Table(
    "workitem_events",
    metadata,
    Column("event_id", Serial, primary_key=True),
    Column("aet", String(64), nullable=False),
    Column("sop_instance_uid", UID, nullable=False),
    Column("event_type", Integer, nullable=False),
    Column("information", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    # None: it is sent, or given up.
    Column("send_at", UtcTime),
    Index(None, "aet", "event_id"),
    Index(None, "send_at"),
    Index(None, "at"),
)

# What RIS and HIS asked for. It may stand here before the first Instance, so no Study need be known.
orders = Table(
    "orders",
    metadata,
    Column("order_id", Serial, primary_key=True),
    Column("identity", Key, nullable=False),
    Column("origin", String(32), nullable=False),
    Column("source", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("placer_order_number", Text, nullable=False),
    Column("filler_order_number", Text, nullable=False),
    Column("accession_number", Key, nullable=False),
    Column("study_instance_uid", UID, nullable=False),
    Column("patient_id", Key, nullable=False),
    Column("patient_id_issuer", Text, nullable=False),
    Column("procedure_codes", JSON, nullable=False),
    Column("procedure_text", Text, nullable=False),
    Column("priority", Integer),
    Column("requested_by", Text, nullable=False),
    Column("requesting_service", Text, nullable=False),
    Column("scheduled_at", UtcTime),
    Column("control_id", Text, nullable=False),
    # FHIR only: what was taken, and under which id it is given back.
    Column("resource_id", String(64), nullable=False),
    Column("resource", Text, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    # When the Studies that are here were told of it; NULL until then.
    Column("heard_at", UtcTime),
    UniqueConstraint("identity"),
    Index(None, "study_instance_uid"),
    Index(None, "accession_number", "patient_id"),
    Index(None, "resource_id"),
    Index(None, "changed_at"),
    Index(None, "heard_at"),
)

# Messages that were taken, so that one that comes again changes nothing.
order_messages = Table(
    "order_messages",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("taken_at", UtcTime, nullable=False),
    Index(None, "taken_at"),
)

# Studies that are to be fetched from others, and were; why, for whom, and what became of it.
fetches = Table(
    "fetches",
    metadata,
    Column("fetch_id", Serial, primary_key=True),
    Column("source", String(64), nullable=False),
    Column("study_instance_uid", UID, nullable=False),
    Column("series", JSON, nullable=False),
    Column("reason", String(8), nullable=False),
    Column("on_behalf", String(64), nullable=False),
    Column("asked_by", String(128), nullable=False),
    Column("asked_at", UtcTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("not_before", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    # Attempts that failed by themselves, and not because the peer was away.
    Column("failures", Integer, nullable=False, default=0),
    Column("instances", Integer),
    Column("done", Integer, nullable=False, default=0),
    Column("failed", Integer, nullable=False, default=0),
    Column("held", Integer, nullable=False, default=0),
    Column("reason_code", String(64)),
    Column("reason_text", Text),
    Column("changed_at", UtcTime, nullable=False),
    # Once for each purpose, whoever asks again.
    UniqueConstraint("source", "study_instance_uid", "reason", "on_behalf"),
    Index(None, "source", "state", "not_before"),
    Index(None, "study_instance_uid"),
    Index(None, "reason", "on_behalf"),
    Index(None, "changed_at"),
)

# What rules want of earlier Studies of the same patient, by the Study that waits for it.
prior_searches = Table(
    "prior_searches",
    metadata,
    Column("search_id", Serial, primary_key=True),
    Column("study_instance_uid", UID, nullable=False),
    Column("terms_key", String(64), nullable=False),
    Column("terms", JSON, nullable=False),
    Column("source", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("is_late", Boolean, nullable=False, default=False),
    Column("text", Text, nullable=False, default=""),
    Column("asked_at", UtcTime, nullable=False),
    Column("until", UtcTime, nullable=False),
    Column("look_at", UtcTime, nullable=False),
    UniqueConstraint("study_instance_uid", "terms_key"),
    Index(None, "state", "look_at"),
)

# What was found: the earlier Studies, the newest first, and how many Instances of each are here.
priors = Table(
    "priors",
    metadata,
    Column("search_id", BigInteger, primary_key=True, autoincrement=False),
    Column("study_instance_uid", UID, primary_key=True),
    Column("place", Integer, nullable=False),
    Column("is_fetched", Boolean, nullable=False),
    Column("held", Integer, nullable=False, default=0),
    ForeignKeyConstraint(["search_id"], ["prior_searches.search_id"], ondelete="CASCADE"),
    Index(None, "study_instance_uid"),
)

# Who is fetched from: whether that is paused, and when it was last asked for new Studies.
pull_sources = Table(
    "pull_sources",
    metadata,
    Column("source", String(64), primary_key=True),
    Column("paused_at", UtcTime),
    Column("paused_by", String(128), nullable=False, default=""),
    Column("pause_reason", Text, nullable=False, default=""),
    Column("polled_at", UtcTime),
)

decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", Serial, primary_key=True),
    Column("study_instance_uid", UID, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("rule", Text, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("clause", Text, nullable=False),
    Column("found", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("trace", JSON, nullable=False),
    Column("decided_at", UtcTime, nullable=False),
    ForeignKeyConstraint(["study_instance_uid"], ["studies.study_instance_uid"]),
    UniqueConstraint("study_instance_uid", "revision", "rule"),
    Index(None, "outcome", "decided_at"),
)

UNHEARD = text("heard_at IS NULL")

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String(36), primary_key=True),
    Column("study_instance_uid", UID, nullable=False),
    Column("pipeline", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("model_version", String(32), nullable=False),
    Column("content", String(64), nullable=False),
    Column("rule", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("deliver_to", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("accepted_at", UtcTime, nullable=False),
    Column("not_before", UtcTime, nullable=False),
    Column("enqueued_at", UtcTime),
    Column("attempts", Integer, nullable=False, default=0),
    Column("fence", Integer, nullable=False, default=0),
    Column("lease_owner", String(128)),
    Column("lease_expires_at", UtcTime),
    Column("reason_code", String(64)),
    Column("reason_text", Text),
    Column("findings", JSON, nullable=False, default=list),
    Column("seconds", JSON, nullable=False, default=dict),
    Column("notes", JSON, nullable=False, default=list),
    Column("threshold", Float),
    Column("model_sha256", String(64)),
    Column("supersedes", String(36)),
    Column("finished_at", UtcTime),
    Column("is_shadow", Boolean, nullable=False, default=False),
    # Of the Series in role "prior".
    Column("prior_study_instance_uid", UID),
    # When routing heard that it has answered; NULL until then.
    Column("heard_at", UtcTime),
    # When an Instance that it has read came again with other content; NULL: it read what counts.
    Column("outdated_at", UtcTime),
    ForeignKeyConstraint(["study_instance_uid"], ["studies.study_instance_uid"]),
    # One question, one Job: whatever is sent, routed or redelivered again.
    UniqueConstraint("study_instance_uid", "pipeline", "model", "model_version", "content"),
    Index(None, "state", "priority", "accepted_at"),
    Index(None, "pipeline", "state", "accepted_at"),
    Index(None, "state", "finished_at"),
    Index(None, "accepted_at", "job_id"),
    Index(None, "prior_study_instance_uid"),
    Index("ix_jobs_unheard", "state", sqlite_where=UNHEARD, postgresql_where=UNHEARD),
)

# How Pipelines were switched; one that has no row is on.
switches = Table(
    "switches",
    metadata,
    Column("pipeline", String(64), primary_key=True),
    Column("mode", String(8), nullable=False),
    Column("changed_by", String(128), nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    Column("reason", Text, nullable=False),
)

results = Table(
    "results",
    metadata,
    Column("sop_instance_uid", UID, primary_key=True),
    Column("job_id", String(36), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("study_instance_uid", UID, nullable=False),
    Column("series_instance_uid", UID, nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("transfer_syntax_uid", UID, nullable=False),
    Column("path", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("is_substitute", Boolean, nullable=False, default=False),
    Column("retracted_at", UtcTime),
    Column("purged_at", UtcTime),
    Column("attributes", JSON, nullable=False, default=dict),
    ForeignKeyConstraint(["job_id"], ["jobs.job_id"]),
    Index(None, "job_id"),
    Index(None, "study_instance_uid"),
    Index(None, "created_at", "sop_instance_uid"),
)

# What a person took back, and what became of it.
retractions = Table(
    "retractions",
    metadata,
    Column("retraction_id", String(36), primary_key=True),
    Column("job_id", String(36), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("comment", Text, nullable=False),
    Column("struck", JSON, nullable=False),
    Column("ordered_by", String(128), nullable=False),
    Column("ordered_at", UtcTime, nullable=False),
    Column("noted_at", UtcTime),
    Column("done_at", UtcTime),
    Column("reason_code", String(64)),
    ForeignKeyConstraint(["job_id"], ["jobs.job_id"]),
    Index(None, "job_id"),
)

# What radiologists say of findings, with its history; it outlives the Job that it is about.
reviews = Table(
    "reviews",
    metadata,
    Column("review_id", Serial, primary_key=True),
    Column("job_id", String(36), nullable=False),
    Column("number", Integer, nullable=False),
    Column("label", Text, nullable=False),
    Column("pipeline", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("model_version", String(32), nullable=False),
    Column("verdict", String(8), nullable=False),
    Column("long_axis_mm", Float),
    Column("short_axis_mm", Float),
    Column("instead", String(32), nullable=False),
    Column("comment", Text, nullable=False),
    Column("reviewer", String(128), nullable=False),
    Column("reviewed_at", UtcTime, nullable=False),
    Index(None, "job_id", "number"),
)

# What each Destination was last seen to accept.
capabilities = Table(
    "capabilities",
    metadata,
    Column("destination", String(64), primary_key=True),
    Column("address", Text, nullable=False),
    Column("accepted", JSON, nullable=False),
    Column("refused", JSON, nullable=False),
    Column("asked_at", UtcTime),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", Serial, primary_key=True),
    Column("destination", String(64), nullable=False),
    Column("study_instance_uid", UID, nullable=False),
    Column("sop_instance_uid", UID, nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("transfer_syntax_uid", UID, nullable=False),
    Column("path", Text, nullable=False),
    Column("job_id", String(36)),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", UtcTime, nullable=False),
    Column("reason_code", String(64)),
    Column("reason_text", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime),
    Column("doubts", Integer, nullable=False, default=0),
    UniqueConstraint("destination", "sop_instance_uid", "path"),
    Index(None, "destination", "state", "not_before"),
    Index(None, "destination", "state", "created_at"),
    Index(None, "destination", "state", "changed_at"),
    Index(None, "study_instance_uid"),
)

# What Destinations took and are still to prove that they hold; losses are counted over all sendings.
confirmations = Table(
    "confirmations",
    metadata,
    Column("delivery_id", BigInteger, primary_key=True, autoincrement=False),
    Column("destination", String(64), nullable=False),
    Column("sent_at", UtcTime, nullable=False),
    # None: nobody asks any more.
    Column("ask_at", UtcTime),
    Column("transaction_uid", UID),
    Column("asks", Integer, nullable=False, default=0),
    Column("misses", Integer, nullable=False, default=0),
    Column("losses", Integer, nullable=False, default=0),
    ForeignKeyConstraint(["delivery_id"], ["deliveries.delivery_id"], ondelete="CASCADE"),
    Index(None, "destination", "ask_at"),
    Index(None, "transaction_uid"),
)

# Studies whose rows have gone, and whose files are going.
purges = Table(
    "purges",
    metadata,
    Column("purge_id", String(36), primary_key=True),
    Column("study_instance_uid", UID, nullable=False),
    Column("began_at", UtcTime, nullable=False),
    Column("with_results", Boolean, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("ordered_by", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("sop_classes", JSON, nullable=False),
    UniqueConstraint("study_instance_uid"),
)

events = Table(
    "events",
    metadata,
    Column("event_id", Serial, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Column("study_instance_uid", UID),
    Column("job_id", String(36)),
    Column("is_alarm", Boolean, nullable=False, default=False),
    Index(None, "study_instance_uid"),
    Index(None, "at"),
    Index(None, "kind", "event_id"),
)

STANDS = text("healed_at IS NULL")

# What is wrong, and was.
alarms = Table(
    "alarms",
    metadata,
    Column("alarm_id", Serial, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("text", Text, nullable=False),
    Column("raised_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    Column("healed_at", UtcTime),
    Column("raise_posted_at", UtcTime),
    Column("heal_posted_at", UtcTime),
    Index(None, "healed_at"),
    # What stands is not raised again, whoever looks.
    Index("uq_alarms_standing", "kind", "subject", unique=True, sqlite_where=STANDS, postgresql_where=STANDS),
)

# Counters of every process, which survive all of them.
tallies = Table(
    "tallies",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("subject", String(128), primary_key=True),
    Column("value", BigInteger, nullable=False),
    Column("counted_at", UtcTime, nullable=False),
)

# Who may log in. `password` is a hash; `subject` is known to an OpenID provider.
users = Table(
    "users",
    metadata,
    Column("user_id", Serial, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("password", Text),
    Column("subject", Text),
    Column("is_disabled", Boolean, nullable=False, default=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("name"),
    UniqueConstraint("subject"),
)

# Of sessions, tokens and links only a digest is kept: whoever reads the ledger cannot use them.
sessions = Table(
    "sessions",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("user_id", BigInteger, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    ForeignKeyConstraint(["user_id"], ["users.user_id"], ondelete="CASCADE"),
    Index(None, "user_id"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("expires_at", UtcTime),
    Column("used_at", UtcTime),
    UniqueConstraint("name"),
)

# One-time links; without a user, the one by which the first admin is made.
links = Table(
    "links",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("user_id", BigInteger),
    Column("expires_at", UtcTime, nullable=False),
    ForeignKeyConstraint(["user_id"], ["users.user_id"], ondelete="CASCADE"),
)

# How often it went wrong of late, for a name (its digest) or an address.
login_failures = Table(
    "login_failures",
    metadata,
    Column("subject", String(80), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("failed_at", UtcTime, nullable=False),
    Column("not_before", UtcTime, nullable=False),
)

FILTERS = ("has_findings", "needs_person", "is_unmatched", "is_pending")

# What the worklist is chosen and sorted by; one row for each Study that is here. See `placement`.
worklist = Table(
    "worklist",
    metadata,
    Column("place_id", Serial, primary_key=True),
    Column("study_instance_uid", UID, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("modalities", Key, nullable=False),
    *(Column(name, Boolean, nullable=False) for name in FILTERS),
    Column("words", Text, nullable=False),
    UniqueConstraint("study_instance_uid"),
    Index(None, "modalities", "priority", "opened_at", "place_id"),
    # Whole ones: of partial ones, SQLite chooses another, and PostgreSQL does not use the first column.
    *(Index(f"ix_worklist_{name}", name, "modalities", "priority", "opened_at", "place_id") for name in FILTERS),
)

# Every word by which a Study is searched on the worklist; they stand in `worklist.words`, too.
worklist_words = Table(
    "worklist_words",
    metadata,
    Column("word", Key, primary_key=True),
    Column("place_id", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
