"""The only door to highdicom: findings become DICOM objects."""
