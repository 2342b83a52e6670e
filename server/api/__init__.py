"""HTTP: translates headers and bodies to the core's words and back; decides nothing."""
