"""What browsers and DICOMweb clients see."""
