"""Every error of radnode, sorted by what to do next.

NodeError
├── Transient                try again, nobody needs to act
│   ├── StoreFull            disk below its reserve, or the write failed
│   ├── LedgerBusy           the ledger did not answer in time
│   ├── AuditFull            no room for a record of the audit trail
│   ├── BrokerUnreachable    the bell cannot be rung; Jobs wait in the ledger
│   │   ├── BrokerLoginRefused
│   │   └── BrokerTakesNothing
│   ├── DestinationDown      no connection, no association, or no Status
│   ├── DestinationBusy      the Destination answered A7xx
│   ├── RetrieveFailed       a peer did not give all of what it was asked for
│   ├── WebhookFailed        nobody took note of an alarm
│   ├── CollectorFailed      nobody took the traces
│   ├── PackageUnreachable   the package of the viewer cannot be fetched
│   ├── ModelUnreachable     the weights of a model cannot be fetched
│   ├── StudyChanged         the inputs of a Job are no longer the ones it was ordered on
│   ├── ModelChanged         this worker has another version of the model than the Job was ordered on
│   ├── OutOfMemory          neither the device nor the CPU had the memory for a Job
│   ├── DeviceFailed         the device cannot compute, or failed and will not again in this process
│   ├── RequestStalled       the body of an HTTP request stopped coming
│   ├── DecodersBusy         all processes that read pixels for HTTP requests are at work
│   ├── TooManyLogins        a name or an address has to wait before the next try
│   ├── ProviderFailed       the OpenID provider did not answer, or with nothing that is valid
│   └── LeaseLost            another worker owns the Job now
├── Rejected                 this object or Series, never
│   ├── NotDicom             no Part 10 file, or cut
│   │   └── TooComplex       nested too deep, or of too many elements
│   ├── TooLarge             longer than the node takes
│   ├── BadIdentifier        a UID is missing, malformed or hostile
│   ├── UidMismatch          command set and data set disagree
│   ├── IdentifierClash      the UID belongs to an Instance of another Series
│   ├── AttributeRefused     an Attribute of a normalized service is not what it must be
│   │   ├── AttributeMissing
│   │   ├── AttributeEmpty
│   │   └── AttributeInvalid
│   ├── NoticeKnown          a Procedure Step or notification is created a second time
│   ├── NoticeUnknown        a Procedure Step is changed that was never created
│   ├── NoticeFinal          a Procedure Step is changed that is over
│   ├── WorkitemRefused      what is asked of a Unified Procedure Step cannot be done
│   │   ├── WorkitemKnown        it is created a second time
│   │   ├── WorkitemUnknown      it is not here
│   │   ├── WorkitemFinal        it is COMPLETED or CANCELED
│   │   ├── TransactionWrong     whoever asks does not perform it
│   │   ├── WorkitemTaken        it is IN PROGRESS already
│   │   ├── ScheduledByCreation  nothing becomes SCHEDULED but by its creation
│   │   ├── WorkitemIncomplete   it lacks what a step needs that is over
│   │   ├── SubscriberUnknown    nobody knows where the subscriber can be told
│   │   ├── NotCreatedScheduled  it is created in another state than SCHEDULED
│   │   ├── WorkitemNotStarted   it is not IN PROGRESS yet
│   │   ├── WorkitemCompleted    it is to be canceled, and COMPLETED
│   │   ├── PerformerUnreachable nobody who could cancel it listens
│   │   ├── ActionUnfit          such an action is not for this Instance
│   │   └── ActionUnknown        there is no such action
│   ├── RequestMalformed     an HTTP request that cannot be understood
│   ├── QueryRefused         Studies of a peer are not asked for so
│   ├── MessageRefused       an HL7 message, or a field of it, that cannot be understood
│   │   ├── MessageUnsupported   of a kind that the node does not take
│   │   └── MessageFraming       not between the signs that begin and end one (MLLP)
│   ├── ResourceRefused      a FHIR resource, or an element of it, that is not what it must be
│   ├── NotAuthorized        whoever asks may not do that
│   │   ├── ForgedRequest    a form that none of our pages has made
│   │   └── LoginRefused     name or password is not right, or nobody by that name may come
│   ├── NotAuthenticated     nobody knows who asks
│   ├── PasswordUnfit        a password that others would guess
│   ├── NotAcceptable        nothing of what the node has is among what Accept allows
│   ├── PreconditionFailed   somebody changed the thing since whoever asks has seen it
│   ├── NotThisHost          a name by which nobody calls this node
│   ├── MediaTypeNotSupported
│   ├── NotEligible          a Series that the Pipeline must not read
│   │   ├── GeometryRefused
│   │   │   ├── SliceMissing
│   │   │   ├── SliceDoubled
│   │   │   ├── MixedGeometry
│   │   │   └── NoFrameOfReference
│   │   ├── WrongBodyPart
│   │   ├── WrongView
│   │   ├── WrongModality
│   │   ├── WrongAge
│   │   ├── WrongContrast
│   │   ├── WrongFieldOfView
│   │   ├── WrongSpacing
│   │   ├── PhantomOrTest
│   │   ├── UnlikeTraining   the input autoencoder has not seen its like
│   │   ├── TooFewSlices
│   │   └── InputMissing
│   ├── PixelsUndecodable
│   ├── DecoderDied          an Instance on which the process that read it died, or took too long
│   ├── ModelOutputInvalid   NaN, or a mask that covers everything
│   ├── ResultCheckFailed    the gate found a Result that is not true
│   ├── ReportRefused        a RIS or HIS will never take this message about an answer
│   └── DestinationRefused   the Destination will never take this Result
│       └── SopClassNotSupported
├── Misconfigured            a person must act
│   ├── SettingsInvalid
│   ├── RuleInvalid
│   ├── PipelineUnknown
│   ├── ModelInvalid
│   ├── PackageRefused       not the package of the viewer that is pinned, byte for byte
│   ├── MoveDestinationUnknown  the peer does not know where to send what we ask it for
│   ├── PortInUse
│   ├── DataDirInUse
│   ├── LedgerUnusable
│   │   └── LedgerDamaged
│   ├── FileUnreadable       a file of the store, or a part of it, cannot be read
│   ├── AuditUnwritable      a record of the audit trail is lost
│   ├── AuditBroken          its records are missing, changed or in another order
│   ├── TruthInvalid         what a model is to be measured against cannot be read, or is of something else
│   ├── NotFound
│   └── WrongState           the thing is in no state in which that can be done
└── Broken                   our bug
"""

from typing import ClassVar

# PS3.4 B.2.3 and PS3.7 Annex C.
OUT_OF_RESOURCES = 0xA700
DATA_SET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
INVALID_ATTRIBUTE_VALUE = 0x0106
DUPLICATE_SOP_INSTANCE = 0x0111
NO_SUCH_SOP_INSTANCE = 0x0112
MISSING_ATTRIBUTE = 0x0120
MISSING_ATTRIBUTE_VALUE = 0x0121
MISTYPED_ARGUMENT = 0x0212
INVALID_SOP_INSTANCE = 0x0117
PROCESSING_FAILURE = 0x0110
SOP_CLASS_NOT_SUPPORTED = 0x0122
NO_SUCH_ACTION = 0x0123
NOT_AUTHORIZED = 0x0124
# PS3.4 CC.2.
UPS_FINAL = 0xC300
UPS_TRANSACTION_WRONG = 0xC301
UPS_IN_PROGRESS = 0xC302
UPS_ONLY_CREATED_SCHEDULED = 0xC303
UPS_INCOMPLETE = 0xC304
UPS_UNKNOWN = 0xC307
UPS_AET_UNKNOWN = 0xC308
UPS_NOT_CREATED_SCHEDULED = 0xC309
UPS_NOT_IN_PROGRESS = 0xC310
UPS_COMPLETED = 0xC311
UPS_PERFORMER_UNREACHABLE = 0xC312
UPS_ACTION_UNFIT = 0xC314


class NodeError(Exception):
    """An error that the node knows; the message names the thing and the remedy.

    Attributes
    ----------
    code
        Stable name, kebab-case; stored in the ledger and shown to people.
    dimse_status
        Status (0000,0900) for a DIMSE peer, PS3.7 Annex C.
    http_status
        Status for an HTTP peer, PS3.18 8.5.
    """

    code: ClassVar[str] = "node-error"
    dimse_status: ClassVar[int] = PROCESSING_FAILURE
    http_status: ClassVar[int] = 500


class Transient(NodeError):
    """What failed may succeed later without anybody's help."""

    code = "transient"
    dimse_status = OUT_OF_RESOURCES
    http_status = 503


class StoreFull(Transient):
    """The store cannot take more bytes now; nothing was acknowledged."""

    code = "store-full"
    http_status = 507


class LedgerBusy(Transient):
    """The ledger did not take a transaction in time."""

    code = "ledger-busy"


class AuditFull(Transient):
    """The volume of the audit trail has no room for a record."""

    code = "audit-full"
    http_status = 507


class BrokerUnreachable(Transient):
    """The broker cannot be reached; Jobs stay SCHEDULED in the ledger."""

    code = "broker-unreachable"


class BrokerLoginRefused(BrokerUnreachable):
    """The broker does not accept our user or password, or grants them too little."""

    code = "broker-login-refused"


class BrokerTakesNothing(BrokerUnreachable):
    """The broker answers, and takes no message: it is full, read-only, or cannot save."""

    code = "broker-takes-nothing"


class DestinationDown(Transient):
    """A Destination did not answer: no connection, no association, or no Status."""

    code = "destination-down"
    http_status = 502


class DestinationBusy(Transient):
    """A Destination answered out of resources (A7xx)."""

    code = "destination-busy"
    http_status = 502


class RetrieveFailed(Transient):
    """A peer did not give all Instances that it was asked for (C-MOVE, C-GET, WADO-RS); they are asked for again."""

    code = "retrieve-failed"
    http_status = 502


class WebhookFailed(Transient):
    """The URL of alarms.webhook did not take note of an alarm; it is told again."""

    code = "webhook-failed"
    http_status = 502


class CollectorFailed(Transient):
    """The collector of tracing.endpoint did not take the traces; they are sent again."""

    code = "collector-failed"
    http_status = 502


class PackageUnreachable(Transient):
    """The package of the viewer cannot be fetched."""

    code = "package-unreachable"
    http_status = 502


class ModelUnreachable(Transient):
    """The weights of a model of the catalogue cannot be fetched; what came so far is kept."""

    code = "model-unreachable"
    http_status = 502


class StudyChanged(Transient):
    """Instances came or went between the order of a Job and its start."""

    code = "study-changed"
    http_status = 409


class ModelChanged(Transient):
    """A Job was ordered on another model, or another version of it, than this worker has."""

    code = "model-changed"
    http_status = 409


class OutOfMemory(Transient):
    """A Job needed more memory than there was, at the smallest batch and on the CPU too."""

    code = "out-of-memory"


class DeviceFailed(Transient):
    """The device of a worker cannot compute, or reported a fault after which this process cannot use it."""

    code = "device-failed"


class LeaseLost(Transient):
    """A worker tried to change a Job that is no longer its own."""

    code = "lease-lost"
    http_status = 409


class RequestStalled(Transient):
    """The body of an HTTP request stopped coming before its end."""

    code = "request-stalled"
    http_status = 408


class DecodersBusy(Transient):
    """No process was free to read an Instance for an HTTP request."""

    code = "decoders-busy"


class TooManyLogins(Transient):
    """So many logins went wrong for a name or from an address that the next try has to wait."""

    code = "too-many-logins"
    http_status = 429


class ProviderFailed(Transient):
    """The OpenID provider did not answer, or what it answered is not valid."""

    code = "provider-failed"
    http_status = 502


class Rejected(NodeError):
    """The object can never be accepted as it is."""

    code = "rejected"
    dimse_status = CANNOT_UNDERSTAND
    http_status = 400


class NotDicom(Rejected):
    """The bytes are no complete DICOM data set."""

    code = "not-dicom"


class TooComplex(NotDicom):
    """Sequences nest deeper, or there are more elements, than in any object of the standard."""

    code = "too-complex"


class TooLarge(Rejected):
    """The Instance is larger than settings allow, or its data set inflates to more than the node reads.

    Also a Series with more pixels than a worker reads together.
    """

    code = "too-large"
    http_status = 413


class BadIdentifier(Rejected):
    """A UID is missing, longer than 64 characters, or holds other than digits and dots."""

    code = "bad-identifier"
    dimse_status = INVALID_SOP_INSTANCE


class UidMismatch(Rejected):
    """The command set announces another Instance than the data set holds."""

    code = "uid-mismatch"
    dimse_status = DATA_SET_MISMATCH
    http_status = 409


class IdentifierClash(Rejected):
    """The SOP Instance UID already names an Instance of another Study or Series.

    Attributes
    ----------
    study_instance_uid
        Of the Instance that was not taken; None where it is not known.
    """

    code = "identifier-clash"
    dimse_status = DUPLICATE_SOP_INSTANCE
    http_status = 409

    def __init__(self, text: str = "", study_instance_uid: str | None = None) -> None:
        super().__init__(text)
        self.study_instance_uid = study_instance_uid


class AttributeRefused(Rejected):
    """An Attribute of a normalized service is not what it must be.

    Attributes
    ----------
    tag
        Of the Attribute; 0 where it is not known.
    """

    code = "attribute-refused"
    dimse_status = INVALID_ATTRIBUTE_VALUE

    def __init__(self, text: str = "", tag: int = 0) -> None:
        super().__init__(text)
        self.tag = tag


class AttributeMissing(AttributeRefused):
    """An Attribute that a request needs is not in its Attribute List."""

    code = "attribute-missing"
    dimse_status = MISSING_ATTRIBUTE


class AttributeEmpty(AttributeRefused):
    """An Attribute that needs a value has none."""

    code = "attribute-empty"
    dimse_status = MISSING_ATTRIBUTE_VALUE


class AttributeInvalid(AttributeRefused):
    """An Attribute has a value that it must not have, or not at that time."""

    code = "attribute-invalid"
    dimse_status = INVALID_ATTRIBUTE_VALUE


class NoticeKnown(Rejected):
    """A Procedure Step or notification of this SOP Instance UID was created before."""

    code = "notice-known"
    dimse_status = DUPLICATE_SOP_INSTANCE
    http_status = 409


class NoticeUnknown(Rejected):
    """A Procedure Step was never created here."""

    code = "notice-unknown"
    dimse_status = NO_SUCH_SOP_INSTANCE
    http_status = 404


class NoticeFinal(Rejected):
    """A Procedure Step is COMPLETED or DISCONTINUED, and may no longer be updated."""

    code = "notice-final"
    dimse_status = PROCESSING_FAILURE
    http_status = 409


class WorkitemRefused(Rejected):
    """What is asked of a Unified Procedure Step cannot be done."""

    code = "workitem-refused"
    dimse_status = PROCESSING_FAILURE
    http_status = 409


class WorkitemKnown(WorkitemRefused):
    """There is a workitem of this SOP Instance UID."""

    code = "workitem-known"
    dimse_status = DUPLICATE_SOP_INSTANCE


class WorkitemUnknown(WorkitemRefused):
    """There is no workitem of this SOP Instance UID."""

    code = "workitem-unknown"
    dimse_status = UPS_UNKNOWN
    http_status = 404


class WorkitemFinal(WorkitemRefused):
    """A workitem is COMPLETED or CANCELED, and may no longer be updated."""

    code = "workitem-final"
    dimse_status = UPS_FINAL


class TransactionWrong(WorkitemRefused):
    """The Transaction UID is not the one under which the workitem is performed, or is absent."""

    code = "transaction-wrong"
    dimse_status = UPS_TRANSACTION_WRONG
    http_status = 400


class WorkitemTaken(WorkitemRefused):
    """A workitem is IN PROGRESS already."""

    code = "workitem-taken"
    dimse_status = UPS_IN_PROGRESS


class ScheduledByCreation(WorkitemRefused):
    """A workitem becomes SCHEDULED by its creation only."""

    code = "scheduled-by-creation"
    dimse_status = UPS_ONLY_CREATED_SCHEDULED
    http_status = 400


class WorkitemIncomplete(WorkitemRefused):
    """A workitem lacks what one needs that is COMPLETED."""

    code = "workitem-incomplete"
    dimse_status = UPS_INCOMPLETE


class SubscriberUnknown(WorkitemRefused):
    """The node has no address of the AE title that is to be told of workitems."""

    code = "subscriber-unknown"
    dimse_status = UPS_AET_UNKNOWN
    http_status = 400


class NotCreatedScheduled(WorkitemRefused):
    """A workitem must be SCHEDULED when it is created."""

    code = "not-created-scheduled"
    dimse_status = UPS_NOT_CREATED_SCHEDULED
    http_status = 400


class WorkitemNotStarted(WorkitemRefused):
    """A workitem is not IN PROGRESS yet."""

    code = "workitem-not-started"
    dimse_status = UPS_NOT_IN_PROGRESS


class WorkitemCompleted(WorkitemRefused):
    """A workitem is to be canceled that is COMPLETED."""

    code = "workitem-completed"
    dimse_status = UPS_COMPLETED


class PerformerUnreachable(WorkitemRefused):
    """Nobody has subscribed to a workitem who could be asked to cancel it."""

    code = "performer-unreachable"
    dimse_status = UPS_PERFORMER_UNREACHABLE


class ActionUnfit(WorkitemRefused):
    """The action is not for this Instance."""

    code = "action-unfit"
    dimse_status = UPS_ACTION_UNFIT
    http_status = 400


class ActionUnknown(WorkitemRefused):
    """There is no such action."""

    code = "action-unknown"
    dimse_status = NO_SUCH_ACTION
    http_status = 400


class RequestMalformed(Rejected):
    """An HTTP request cannot be understood: its boundary, a header, or its end."""

    code = "request-malformed"


class QueryRefused(Rejected):
    """A query for Studies of a peer has an unknown key, a value that is none, or no value at all."""

    code = "query-refused"


class MessageRefused(Rejected):
    """An HL7 message, or a field of it, cannot be understood.

    Attributes
    ----------
    place
        Segment, its number among those of its name, and field, with ``^`` between them; empty where it is not known.
    condition
        HL7 error condition, table 0357.
    """

    code = "message-refused"

    def __init__(self, text: str = "", place: str = "", condition: int = 102) -> None:
        super().__init__(text)
        self.place = place
        self.condition = condition


class MessageUnsupported(MessageRefused):
    """An HL7 message is of a kind, version or purpose that the node does not take."""

    code = "message-unsupported"


class MessageFraming(MessageRefused):
    """What came is not between the signs that begin and end an HL7 message (MLLP), too long, or too slow."""

    code = "message-framing"


class ResourceRefused(Rejected):
    """A FHIR resource, or an element of it, is not what it must be.

    Attributes
    ----------
    expression
        FHIRPath of the element; empty where it is the whole.
    kind
        FHIR issue type: ``structure``, ``required``, ``value``, ``not-supported``.
    """

    code = "resource-refused"
    http_status = 422

    def __init__(self, text: str = "", expression: str = "", kind: str = "value") -> None:
        super().__init__(text)
        self.expression = expression
        self.kind = kind


class NotAuthorized(Rejected):
    """Whoever asks may not do what was asked for."""

    code = "not-authorized"
    dimse_status = NOT_AUTHORIZED
    http_status = 403


class ForgedRequest(NotAuthorized):
    """A request that changes something came with a session, but from none of the node's own pages."""

    code = "forged-request"
    dimse_status = NOT_AUTHORIZED


class LoginRefused(NotAuthorized):
    """Name or password is not right, or whoever it is may not come in."""

    code = "login-refused"
    dimse_status = NOT_AUTHORIZED


class NotAuthenticated(Rejected):
    """A request shows neither a session nor a token that counts."""

    code = "not-authenticated"
    dimse_status = NOT_AUTHORIZED
    http_status = 401


class PasswordUnfit(Rejected):
    """A password is too short, too long, or one of the first that somebody would try."""

    code = "password-unfit"
    http_status = 422


class NotAcceptable(Rejected):
    """The node has nothing in any of the media types that a request accepts."""

    code = "not-acceptable"
    http_status = 406


class PreconditionFailed(Rejected):
    """The thing is not any more what If-Match of an HTTP request says that it is."""

    code = "precondition-failed"
    http_status = 412


class NotThisHost(Rejected):
    """An HTTP request is for another host than this node."""

    code = "not-this-host"
    http_status = 421


class MediaTypeNotSupported(Rejected):
    """The node does not read content of this media type or encoding."""

    code = "media-type-not-supported"
    http_status = 415


class NotEligible(Rejected):
    """A Pipeline must not read this Series; a wrong answer would be worse than none."""

    code = "not-eligible"
    http_status = 422


class GeometryRefused(NotEligible):
    """The slices do not form a volume that can be measured."""

    code = "geometry-refused"


class SliceMissing(GeometryRefused):
    """There is a gap between slices."""

    code = "slice-missing"


class SliceDoubled(GeometryRefused):
    """Two slices lie at one position."""

    code = "slice-doubled"


class MixedGeometry(GeometryRefused):
    """Matrix, pixel spacing or orientation changes within the Series, or the stack is sheared."""

    code = "mixed-geometry"


class NoFrameOfReference(GeometryRefused):
    """Frame of Reference UID (0020,0052) is absent: a SEG could not be placed."""

    code = "no-frame-of-reference"


class WrongBodyPart(NotEligible):
    """The Series shows another part of the body than the model was made for."""

    code = "wrong-body-part"


class WrongView(NotEligible):
    """The radiograph was taken in a view that the model was not made for."""

    code = "wrong-view"


class WrongModality(NotEligible):
    """The Series is of another Modality than the Pipeline reads."""

    code = "wrong-modality"


class TooFewSlices(NotEligible):
    """The Series has fewer slices than the Pipeline needs."""

    code = "too-few-slices"


class WrongAge(NotEligible):
    """The patient is younger or older than those whom the model was made for."""

    code = "wrong-age"


class WrongContrast(NotEligible):
    """The Series was taken with a contrast agent where the model reads none, or without where it needs one."""

    code = "wrong-contrast"


class WrongFieldOfView(NotEligible):
    """The Series covers less, or more, than the model was made for."""

    code = "wrong-field-of-view"


class WrongSpacing(NotEligible):
    """Pixels or slices lie closer, or farther apart, than the model was made for."""

    code = "wrong-spacing"


class PhantomOrTest(NotEligible):
    """The Series shows a phantom, or is a test of the machine; a Result would be one on nobody."""

    code = "phantom-or-test"


class UnlikeTraining(NotEligible):
    """The input autoencoder of the model finds that the input is unlike all that it has learned from."""

    code = "unlike-training"


class InputMissing(NotEligible):
    """A Series that the Pipeline needs is absent from the Study or from the store."""

    code = "input-missing"


class PixelsUndecodable(Rejected):
    """Pixel Data (7FE0,0010) cannot be decoded, or is shorter than its header says."""

    code = "pixels-undecodable"
    http_status = 422


class DecoderDied(Rejected):
    """The process that read an Instance died of it, or did not come to an end."""

    code = "decoder-died"
    http_status = 500


class ModelOutputInvalid(Rejected):
    """A network answered with NaN or with a mask that no anatomy has."""

    code = "model-output-invalid"
    http_status = 422


class ResultCheckFailed(Rejected):
    """A Result contradicts its source or itself; it does not leave the node."""

    code = "result-check-failed"
    http_status = 422


class ReportRefused(Rejected):
    """A RIS or HIS refuses the message that tells it of an answer (AE, AR, 4xx); nothing stands in for it."""

    code = "report-refused"
    http_status = 502


class DestinationRefused(Rejected):
    """A Destination refuses this Result for good (SOP Class, Cxxx, 4xx)."""

    code = "destination-refused"
    http_status = 502


class SopClassNotSupported(DestinationRefused):
    """A Destination does not take this kind of object, or not in its Transfer Syntax."""

    code = "sop-class-not-supported"
    dimse_status = SOP_CLASS_NOT_SUPPORTED


class Misconfigured(NodeError):
    """A person must change something before this can work."""

    code = "misconfigured"


class SettingsInvalid(Misconfigured):
    """A settings key is unknown or its value is out of range."""

    code = "settings-invalid"


class RuleInvalid(Misconfigured):
    """A rule cannot be evaluated; the node does not start with it."""

    code = "rule-invalid"


class PipelineUnknown(Misconfigured):
    """A rule or a command names a Pipeline that is not there."""

    code = "pipeline-unknown"
    http_status = 404


class ModelInvalid(Misconfigured):
    """A model folder is incomplete, or its weights are not the ones it names."""

    code = "model-invalid"


class PackageRefused(Misconfigured):
    """A file is not the package of the viewer that is pinned, or cannot be unpacked."""

    code = "package-refused"


class MoveDestinationUnknown(Misconfigured):
    """A peer was asked to send Studies here by C-MOVE, and does not know our AE title (A801)."""

    code = "move-destination-unknown"
    http_status = 502


class PortInUse(Misconfigured):
    """Another process listens where the node should."""

    code = "port-in-use"


class DataDirInUse(Misconfigured):
    """Another node works in the data folder."""

    code = "data-dir-in-use"


class LedgerUnusable(Misconfigured):
    """The ledger cannot be opened, or was written by a newer radnode."""

    code = "ledger-unusable"


class LedgerDamaged(LedgerUnusable):
    """The file of the ledger is damaged; what it knew must be restored, or made anew from the store."""

    code = "ledger-damaged"


class FileUnreadable(Misconfigured):
    """A file of the store is absent, cut, or cannot be read to its end."""

    code = "file-unreadable"


class AuditUnwritable(Misconfigured):
    """A record could not be added to the audit trail."""

    code = "audit-unwritable"


class AuditBroken(Misconfigured):
    """Records of the audit trail are missing, changed or in another order."""

    code = "audit-broken"


class TruthInvalid(Misconfigured):
    """What a model is to be measured against cannot be read, or is of other Series."""

    code = "truth-invalid"


class NotFound(Misconfigured):
    """A person asked for something that the node does not know."""

    code = "not-found"
    http_status = 404


class WrongState(Misconfigured):
    """A person asked for something that is not to be done in the state in which the thing is."""

    code = "wrong-state"
    http_status = 409


class Broken(NodeError):
    """A fault of radnode itself; the traceback is in the log."""

    code = "broken"
