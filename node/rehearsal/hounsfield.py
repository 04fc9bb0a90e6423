"""Attenuation of the tissues that phantoms are made of, HU."""

AIR_HU = -1000.0
FAT_HU = -105.0
MEDIASTINAL_FAT_HU = -70.0
MUSCLE_HU = 52.0
BLOOD_HU = 46.0
HEART_HU = 42.0
LIVER_HU = 60.0
SPLEEN_HU = 50.0
STOMACH_HU = 30.0
LUNG_HU = -868.0
DISC_HU = 85.0
CORD_HU = 30.0
MARROW_HU = 190.0
CORTEX_HU = 680.0
CARTILAGE_HU = 110.0
CONSOLIDATION_HU = 20.0
# Dependent lung is denser: HU per mm toward the back, in a patient who lies supine.
LUNG_GRADIENT_HU_MM = 0.28
