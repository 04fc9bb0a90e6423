"""The OHIF Viewer: fetched, checked, put in its place, and made ready for our URL."""
