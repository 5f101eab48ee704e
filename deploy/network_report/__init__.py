"""The report of a network: one HTML page without a network, and the same numbers as JSON.

Reading order: `sources` (what it is made from: a network, folders of `validate`, JSON of `compare`,
`cost` and `quantize --report`) and `reading` (from files), `section` (what a section holds),
`figures` and `runs` (numbers as pictures, who ran the network), `sections` (one module for each),
`report` (all of them, in order), `html` and `page.html` (how they look).
"""
