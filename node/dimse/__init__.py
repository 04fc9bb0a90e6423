"""What DICOM peers see of the node."""
