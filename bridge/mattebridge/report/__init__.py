"""The page of a shot: what was recorded, its pictures, one HTML file."""
