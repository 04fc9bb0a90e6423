"""Where the bytes of Instances and Results rest."""
