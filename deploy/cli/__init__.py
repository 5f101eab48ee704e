"""The command line: a module for each group of commands, and what they share.

Reading order: `app` (the program), `files` and `exchange` (more of its commands), `flow` and
`modules` (from a checkpoint, or a class of the user's, to integers), `images`, `inspection`,
`latency`, `report`, `progress`, `doctor`, `demo`.
"""
