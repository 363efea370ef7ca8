"""Reduces RAM on microcontrollers: the first layers of a file run on a few rows at a time, with bit-identical outputs.

`layers` computes the rows that an operation needs, `rewrite` changes the file, `placement` plans its memory, and
`search` chooses the layers and where the strips end.
"""
