"""Less RAM on microcontrollers: the first layers of a finished file run on a few rows at a time, with the same answers.

`layers` knows which rows an operation needs, `rewrite` changes the file, `placement` plans its memory, and
`search` chooses where the strips end.
"""
