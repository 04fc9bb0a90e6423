"""FHIR R4: the answer of a Job as resources that other systems read; plain data, no network."""
