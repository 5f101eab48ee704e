"""The command line: a module for each group of commands, and what they share.

Reading order: `app` (the program), `frame` (how a command ends), `files`, `exchange` and
`conformance` (more commands), `flow` and `modules` (from a checkpoint, or a class of the user's, to
integers), `images`, `pictures` and `archives` (what they are given), `inspection`, `latency`,
`report`, `progress`, `doctor`, `demo`.
"""
