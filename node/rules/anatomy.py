"""What sites write into Body Part Examined (0018,0015), and which Defined Term of PS3.16 annex L they mean.

A word means its term as a whole only: ``TH CT CHEST WO C`` is no body part, and is left to `description`.
"""

from collections.abc import Mapping
from functools import cache

from node.rules.text import normalize

# Defined Term to further words: other terms for it, its SNOMED CT and SRT codes, and what technologists of several
# languages type. Accents, case and separators do not count.
WORDS: Mapping[str, tuple[str, ...]] = {
    "ABDOMEN": (
        "818981001", "T-D4000", "Abdominal", "Abd", "Bauch", "Oberbauch", "Ventre", "Addome", "Abdomen sup", "Vientre",
    ),
    "ABDOMENPELVIS": ("818982008", "R-FAB57", "Abdomen and pelvis", "Abdomen Becken", "Abdopelvis"),
    "ANKLE": ("70258002", "T-15750", "Sprunggelenk", "OSG", "Cheville", "Tobillo", "Caviglia"),
    "BRAIN": (
        "12738006", "T-A0100", "Gehirn", "Hirn", "Cerebrum", "Cerveau", "Encephale", "Cerebro", "Encefalo", "Cervello",
        "Neurocranium", "Neurokranium",
    ),
    "BREAST": ("76752008", "T-04000", "Mamma", "Brust", "Sein", "Mama", "Mammella", "Seno"),
    "CHEST": (
        "51185008", "43799004", "T-D3000", "Thorax", "Thoracic", "Brustkorb", "Brustraum", "Torax", "Poitrine", "Pecho",
        "Torace", "Chest PA", "Chest AP", "CXR",
    ),
    "CHESTABDOMEN": ("416550000", "R-FAB55", "Chest and abdomen", "Thorax Abdomen", "Thoracoabdominal"),
    "CHESTABDPELVIS": (
        "416775004", "R-FAB56", "Chest abdomen pelvis", "Chest, abdomen and pelvis", "Thorax Abdomen Becken", "TAP",
        "CAP",
    ),
    "CSPINE": ("122494005", "T-11501", "Cervical spine", "C-Spine", "HWS", "Halswirbelsäule", "Rachis cervical"),
    "ELBOW": ("127949000", "T-15430", "Ellenbogen", "Coude", "Codo", "Gomito"),
    "FOOT": ("56459004", "T-D9700", "Fuß", "Pied", "Pie", "Piede"),
    "HAND": ("85562004", "T-D8700", "Main", "Mano"),
    "HEAD": ("69536005", "T-D1100", "Kopf", "Schädel", "Tête", "Crâne", "Cabeza", "Cráneo", "Testa", "Cranio", "Caput"),
    "HEADNECK": ("774007", "T-D1000", "Head and neck", "Kopf Hals", "Tête et cou"),
    "HEART": ("80891009", "T-32000", "Herz", "Cardiac", "Coeur", "Cœur", "Corazón", "Cuore", "Cor"),
    "HIP": ("24136001", "T-15710", "Hüfte", "Hanche", "Cadera", "Anca"),
    "KIDNEY": ("64033007", "T-71000", "Niere", "Rein", "Riñón", "Rene"),
    "KNEE": ("72696002", "T-D9200", "Knie", "Genou", "Rodilla", "Ginocchio"),
    "LIVER": ("10200004", "T-62000", "Leber", "Foie", "Hígado", "Fegato", "Hepar"),
    "LSPINE": ("122496007", "T-11503", "Lumbar spine", "L-Spine", "LWS", "Lendenwirbelsäule", "Rachis lombaire"),
    "LUNG": ("39607008", "T-28000", "Lunge", "Lungs", "Lungen", "Poumon", "Poumons", "Pulmón", "Polmone", "Polmoni"),
    "NECK": ("45048000", "T-D1600", "Hals", "Cou", "Cuello", "Collo"),
    "PELVIS": ("816092008", "T-D6000", "Becken", "Bassin", "Pelvis bone", "Pelvi", "Bacino"),
    "PROSTATE": ("41216001", "T-92000", "Prostata"),
    "SHOULDER": ("16982005", "T-D2220", "Schulter", "Épaule", "Hombro", "Spalla"),
    "SKULL": ("89546000", "T-11100", "Schädelknochen"),
    "SPINE": ("421060004", "T-11500", "Wirbelsäule", "Rachis", "Columna", "Colonna"),
    "TSPINE": ("122495006", "T-11502", "Thoracic spine", "T-Spine", "BWS", "Brustwirbelsäule", "Rachis dorsal"),
    "WRIST": ("8205005", "T-15460", "Handgelenk", "Poignet", "Muñeca", "Polso"),
}  # fmt: skip

# Coding Scheme Designators of the codes above.
SCHEMES = frozenset({"SCT", "SRT", "SNM3"})


def body_part_of(text: str) -> str:
    """Return the Defined Term that `text` means, or `text` in its plain form where it means none that is known."""
    scheme, _, code = text.partition(":")
    plain = normalize(code if scheme.strip().upper() in SCHEMES else text)
    return _terms().get(plain, plain)


@cache
def _terms() -> Mapping[str, str]:
    return {normalize(word): term for term, words in WORDS.items() for word in (term, *words)}
