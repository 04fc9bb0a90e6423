"""Models that come and go: the site's model folder, MONAI Bundles, and models that others publish."""
