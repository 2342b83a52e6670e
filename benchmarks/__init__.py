"""Measurements of a whole Leeway on the machine at hand; each one's last line is one JSON document."""
