"""Every coded concept that radnode writes, as one table of plain data that says where each is defined (PS3.3 8).

One line a code: name, Code Value, Coding Scheme Designator, Code Meaning, provenance. A test proves each line against
pydicom's dictionary of PS3.16.
"""

from dataclasses import dataclass, field

LOCAL_SCHEME = "99RADNODE"


@dataclass(frozen=True, slots=True)
class Code:
    """One coded concept.

    Attributes
    ----------
    value
        Code Value (0008,0100), at most 16 characters.
    scheme
        Coding Scheme Designator (0008,0102), e.g. ``SCT``.
    meaning
        Code Meaning (0008,0104), at most 64 characters.
    provenance
        Where the code is defined; empty for one that came from elsewhere. No part of its identity.
        ``CID n``, ``TID n``, ``Annex D``: a context group, a template, the definitions of PS3.16, and in pydicom's
        dictionary unless it says ``not in pydicom``. ``two secondary sources``: in no table of DICOM, the same in two
        public tables. ``local``: ours, because no code could be verified.
    """

    value: str
    scheme: str
    meaning: str
    provenance: str = field(default="", compare=False, repr=False)

    def as_json(self) -> list[str]:
        """Return ``[value, scheme, meaning]``, the form of report.json."""
        return [self.value, self.scheme, self.meaning]


# What kind of thing a Finding is.
MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure", "CID 7150")
ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure", "CID 7150")
TISSUE = Code("85756007", "SCT", "Tissue", "CID 7150")
PHYSICAL_OBJECT = Code("260787004", "SCT", "Physical object", "CID 7150")
SPATIAL_CONCEPT = Code("309825002", "SCT", "Spatial and Relational Concept", "CID 7150")

# Findings of any organ, and the parts of a brain tumor.
NODULE = Code("27925004", "SCT", "Nodule", "CID 7151")
MASS = Code("4147007", "SCT", "Mass", "CID 7151")
LESION = Code("52988006", "SCT", "Lesion", "CID 7151")
NEOPLASM = Code("108369006", "SCT", "Neoplasm", "CID 7151")
NECROSIS = Code("6574001", "SCT", "Necrosis", "CID 7151")
EDEMA = Code("79654002", "SCT", "Edema", "CID 7151")
ENHANCING_LESION = Code("C113842", "NCIt", "Enhancing Lesion", "CID 7151")
NON_ENHANCING_LESION = Code("C81175", "NCIt", "Non-Enhancing Lesion", "CID 7151")

# What a heat map of a classifier is.
CLASS_ACTIVATION = Code("130402", "DCM", "Class activation", "CID 217")

# What a LABELMAP holds beside its Segments.
BACKGROUND = Code("125040", "DCM", "Background", "CID 7151")

# Labels of chest X-ray classifiers, beside nodule, mass and lesion. Public tables contradict each other (one maps rib
# fracture to a leg): what could not be verified is local.
PNEUMOTHORAX = Code("36118008", "SCT", "Pneumothorax", "CID 6102")
PLEURAL_EFFUSION = Code("60046008", "SCT", "Pleural effusion", "CID 8134")
PULMONARY_EDEMA = Code("19242006", "SCT", "Pulmonary edema", "CID 3700")
ATELECTASIS = Code("46621007", "SCT", "Atelectasis", "two secondary sources")
CARDIOMEGALY = Code("8186001", "SCT", "Cardiomegaly", "two secondary sources")
CONSOLIDATION = Code("95436008", "SCT", "Lung consolidation", "two secondary sources")
PNEUMONIA = Code("233604007", "SCT", "Pneumonia", "two secondary sources")
EMPHYSEMA = Code("87433001", "SCT", "Pulmonary emphysema", "two secondary sources")
FIBROSIS = Code("51615001", "SCT", "Fibrosis of lung", "two secondary sources")
HERNIA = Code("39839004", "SCT", "Diaphragmatic hernia", "two secondary sources")
INFILTRATE = Code("409609008", "SCT", "Radiologic infiltrate of lung", "two secondary sources")
RIB_FRACTURE = Code("33737001", "SCT", "Fracture of rib", "two secondary sources")
PLEURAL_THICKENING = Code("pleural-thick", LOCAL_SCHEME, "Pleural thickening", "local")
LUNG_OPACITY = Code("lung-opacity", LOCAL_SCHEME, "Lung opacity", "local")
LUNG_LESION = Code("lung-lesion", LOCAL_SCHEME, "Lung lesion", "local")
ENLARGED_CARDIOMEDIASTINUM = Code("wide-mediastinum", LOCAL_SCHEME, "Enlarged cardiomediastinum", "local")

# Where in the body.
LUNG = Code("39607008", "SCT", "Lung", "CID 7151")
BRAIN = Code("12738006", "SCT", "Brain", "CID 7151")
THORAX = Code("816094009", "SCT", "Thorax", "CID 4")
LEFT = Code("7771000", "SCT", "Left", "CID 244")
RIGHT = Code("24028007", "SCT", "Right", "CID 244")

# What is measured, how, and in which unit.
LONG_AXIS = Code("103339001", "SCT", "Long axis", "CID 7470")
SHORT_AXIS = Code("103340004", "SCT", "Short axis", "CID 7470")
VOLUME = Code("118565006", "SCT", "Volume", "CID 7469")
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient", "CID 7469")
CERTAINTY = Code("111012", "DCM", "Certainty of Finding", "CID 6048")
DERIVATION = Code("121401", "DCM", "Derivation", "TID 300")
MEAN = Code("373098007", "SCT", "Mean", "CID 7464")
MILLIMETER = Code("mm", "UCUM", "mm", "CID 7460")
CUBIC_MILLIMETER = Code("mm3", "UCUM", "cubic millimeter", "CID 7462")
HOUNSFIELD = Code("[hnsf'U]", "UCUM", "Hounsfield unit", "CID 7181")
PERCENT = Code("%", "UCUM", "Percent", "CID 7181")
PIXELS = Code("{pixels}", "UCUM", "Pixels", "TID 1602, not in pydicom")
COSINE = Code("{-1:1}", "UCUM", "{-1:1}", "TID 1604, not in pydicom")

# What a report concludes.
SUMMARY = Code("111017", "DCM", "CAD Processing and Findings Summary", "Annex D")
WITH_FINDINGS = Code("111242", "DCM", "All algorithms succeeded; with findings", "CID 6047")
WITHOUT_FINDINGS = Code("111241", "DCM", "All algorithms succeeded; without findings", "CID 6047")
PARTLY_WITHOUT_FINDINGS = Code("111243", "DCM", "Not all algorithms succeeded; without findings", "CID 6047")
PARTLY_WITH_FINDINGS = Code("111244", "DCM", "Not all algorithms succeeded; with findings", "CID 6047")
NO_ANSWER = Code("111245", "DCM", "No algorithms succeeded; without findings", "CID 6047")
PRESENCE = Code("121052", "DCM", "Presence of property", "Annex D")
PRESENT = Code("121053", "DCM", "Present", "Annex D")
ABSENT = Code("121054", "DCM", "Absent", "Annex D")
UNDETERMINED = Code("121059", "DCM", "Presence Undetermined", "Annex D")
COMMENT = Code("121106", "DCM", "Comment", "CID 12101")

# The frame of a report (TID 1500), who observed (TID 1002, 1004), which procedure.
IMAGING_MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report", "CID 7021")
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements", "TID 1500")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations", "TID 1500, not in pydicom")
LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants", "TID 1204")
ENGLISH = Code("en-US", "RFC5646", "English (United States)", "RFC 5646, not in pydicom")
OBSERVER_TYPE = Code("121005", "DCM", "Observer Type", "TID 1002")
DEVICE = Code("121007", "DCM", "Device", "CID 270")
DEVICE_UID = Code("121012", "DCM", "Device Observer UID", "TID 1004")
DEVICE_NAME = Code("121013", "DCM", "Device Observer Name", "TID 1004")
DEVICE_MANUFACTURER = Code("121014", "DCM", "Device Observer Manufacturer", "TID 1004")
DEVICE_MODEL_NAME = Code("121015", "DCM", "Device Observer Model Name", "TID 1004")
DEVICE_SERIAL_NUMBER = Code("121016", "DCM", "Device Observer Serial Number", "TID 1004")
PROCEDURE_REPORTED = Code("121058", "DCM", "Procedure reported", "TID 1500")
CT_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region", "CID 100")
MR_PROCEDURE = Code("25056-3", "LN", "MRI unspecified body region", "CID 100")
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure", "CID 100")

# The images of a report (TID 1600, 1602, 1603, 1604).
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library", "TID 1600")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group", "TID 1600")
MODALITY = Code("121139", "DCM", "Modality", "TID 1602")
COMPUTED_TOMOGRAPHY = Code("CT", "DCM", "Computed Tomography", "CID 29")
MAGNETIC_RESONANCE = Code("MR", "DCM", "Magnetic Resonance", "CID 29")
POSITRON_EMISSION = Code("PT", "DCM", "Positron emission tomography", "CID 29")
COMPUTED_RADIOGRAPHY = Code("CR", "DCM", "Computed Radiography", "CID 29")
DIGITAL_RADIOGRAPHY = Code("DX", "DCM", "Digital Radiography", "CID 29")
ROWS = Code("110910", "DCM", "Pixel Data Rows", "TID 1602")
COLUMNS = Code("110911", "DCM", "Pixel Data Columns", "TID 1602")
HORIZONTAL_SPACING = Code("111026", "DCM", "Horizontal Pixel Spacing", "TID 1602")
VERTICAL_SPACING = Code("111066", "DCM", "Vertical Pixel Spacing", "TID 1602")
PATIENT_ORIENTATION_ROW = Code("111044", "DCM", "Patient Orientation Row", "TID 1603")
PATIENT_ORIENTATION_COLUMN = Code("111043", "DCM", "Patient Orientation Column", "TID 1603")
SLICE_THICKNESS = Code("112225", "DCM", "Slice Thickness", "TID 1604")
SPACING_BETWEEN_SLICES = Code("112226", "DCM", "Spacing between slices", "TID 1604")
FRAME_OF_REFERENCE = Code("112227", "DCM", "Frame of Reference UID", "TID 1604")
IMAGE_POSITION_X = Code("110901", "DCM", "Image Position (Patient) X", "TID 1604")
IMAGE_POSITION_Y = Code("110902", "DCM", "Image Position (Patient) Y", "TID 1604")
IMAGE_POSITION_Z = Code("110903", "DCM", "Image Position (Patient) Z", "TID 1604")
IMAGE_ORIENTATION_ROW_X = Code("110904", "DCM", "Image Orientation (Patient) Row X", "TID 1604")
IMAGE_ORIENTATION_ROW_Y = Code("110905", "DCM", "Image Orientation (Patient) Row Y", "TID 1604")
IMAGE_ORIENTATION_ROW_Z = Code("110906", "DCM", "Image Orientation (Patient) Row Z", "TID 1604")
IMAGE_ORIENTATION_COLUMN_X = Code("110907", "DCM", "Image Orientation (Patient) Column X", "TID 1604")
IMAGE_ORIENTATION_COLUMN_Y = Code("110908", "DCM", "Image Orientation (Patient) Column Y", "TID 1604")
IMAGE_ORIENTATION_COLUMN_Z = Code("110909", "DCM", "Image Orientation (Patient) Column Z", "TID 1604")

# One Measurement Group (TID 1410, 1411, 1501) and the algorithm behind it (TID 4019).
MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group", "TID 1410")
TRACKING_IDENTIFIER = Code("112039", "DCM", "Tracking Identifier", "TID 1410")
TRACKING_UNIQUE_IDENTIFIER = Code("112040", "DCM", "Tracking Unique Identifier", "TID 1410")
FINDING = Code("121071", "DCM", "Finding", "CID 7002")
FINDING_CATEGORY = Code("276214006", "SCT", "Finding category", "TID 1410 (pydicom: Findings category type)")
FINDING_SITE = Code("363698007", "SCT", "Finding Site", "TID 1410")
LATERALITY = Code("272741003", "SCT", "Laterality", "TID 1410")
IMAGE_REGION = Code("111030", "DCM", "Image Region", "TID 1410")
SOURCE = Code("260753009", "SCT", "Source", "TID 1410")
REFERENCED_SEGMENT = Code("121191", "DCM", "Referenced Segment", "TID 1411")
SOURCE_SERIES = Code("121232", "DCM", "Source series for segmentation", "TID 1411")
SOURCE_OF_MEASUREMENT = Code("121112", "DCM", "Source of Measurement", "TID 1501")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence", "CID 7162")
ALGORITHM_FAMILY = Code("111000", "DCM", "Algorithm Family", "TID 4019")
ALGORITHM_NAME = Code("111001", "DCM", "Algorithm Name", "TID 4019")
ALGORITHM_VERSION = Code("111003", "DCM", "Algorithm Version", "TID 4019")
ALGORITHM_PARAMETERS = Code("111002", "DCM", "Algorithm Parameters", "TID 4019")
ALGORITHM_MANUFACTURER = Code("122405", "DCM", "Algorithm Manufacturer", "TID 4019")

# Titles of Key Object Selection Documents (TID 2010), of the summary as a document, and of what a message concludes.
OF_INTEREST = Code("113000", "DCM", "Of Interest", "CID 7010")
REJECTED_FOR_QUALITY = Code("113001", "DCM", "Rejected for Quality Reasons", "CID 7010")
REJECTED_FOR_SAFETY = Code("113037", "DCM", "Rejected for Patient Safety Reasons", "CID 7010")
WRONG_WORKLIST_ENTRY = Code("113038", "DCM", "Incorrect Modality Worklist Entry", "CID 7010")
KEY_OBJECT_DESCRIPTION = Code("113012", "DCM", "Key Object Description", "TID 2010")
IMPRESSIONS = Code("19005-8", "LN", "Impressions", "CID 7001")
DIAGNOSTIC_IMAGING_REPORT = Code("18748-4", "LN", "Diagnostic Imaging Report", "CID 7000")

# Why an object names another one, and which equipment had a part in it.
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation", "CID 7202")
SEGMENTATION = Code("113076", "DCM", "Segmentation", "CID 7203")
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment", "CID 7005")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment", "CID 7005")

# What the audit trail tells: events, their types, roles of those who had a part (PS3.15 A.5.3).
APPLICATION_ACTIVITY = Code("110100", "DCM", "Application Activity", "CID 400")
AUDIT_LOG_USED = Code("110101", "DCM", "Audit Log Used", "CID 400")
BEGIN_TRANSFERRING = Code("110102", "DCM", "Begin Transferring DICOM Instances", "CID 400")
INSTANCES_ACCESSED = Code("110103", "DCM", "DICOM Instances Accessed", "CID 400")
INSTANCES_TRANSFERRED = Code("110104", "DCM", "DICOM Instances Transferred", "CID 400")
EXPORT = Code("110106", "DCM", "Export", "CID 400")
QUERY = Code("110112", "DCM", "Query", "CID 400")
SECURITY_ALERT = Code("110113", "DCM", "Security Alert", "CID 400")
USER_AUTHENTICATION = Code("110114", "DCM", "User Authentication", "CID 400")
APPLICATION_START = Code("110120", "DCM", "Application Start", "CID 401")
APPLICATION_STOP = Code("110121", "DCM", "Application Stop", "CID 401")
LOGIN = Code("110122", "DCM", "Login", "CID 401")
LOGOUT = Code("110123", "DCM", "Logout", "CID 401")
NODE_AUTHENTICATION = Code("110126", "DCM", "Node Authentication", "CID 401")
SOFTWARE_CONFIGURATION = Code("110131", "DCM", "Software Configuration", "CID 401")
USE_OF_RESTRICTED_FUNCTION = Code("110132", "DCM", "Use of Restricted Function", "CID 401")
AUDIT_RECORDING_STOPPED = Code("110133", "DCM", "Audit Recording Stopped", "CID 401")
USER_SECURITY_ATTRIBUTES_CHANGED = Code("110137", "DCM", "User Security Attributes Changed", "CID 401")
APPLICATION = Code("110150", "DCM", "Application", "CID 402")
APPLICATION_LAUNCHER = Code("110151", "DCM", "Application Launcher", "CID 402")
DESTINATION_ROLE = Code("110152", "DCM", "Destination Role ID", "CID 402")
SOURCE_ROLE = Code("110153", "DCM", "Source Role ID", "CID 402")
DESTINATION_MEDIA = Code("110154", "DCM", "Destination Media", "CID 402")
STUDY_INSTANCE_UID = Code("110180", "DCM", "Study Instance UID", "CID 404")
SOP_CLASS_UID = Code("110181", "DCM", "SOP Class UID", "CID 404")
NODE_ID = Code("110182", "DCM", "Node ID", "CID 404")
URI_MEDIA = Code("110037", "DCM", "URI", "CID 405")
PATIENT_NUMBER = Code("2", "RFC-3881", "Patient Number", "RFC 3881, not in pydicom")
URI = Code("12", "RFC-3881", "URI", "RFC 3881, not in pydicom")
