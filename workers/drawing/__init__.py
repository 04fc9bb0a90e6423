"""The page that people read: words, letters, panels; pixels in, pixels out."""
