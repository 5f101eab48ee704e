"""Images, events and labels as people have them: `open_data` gives one `Data`, whatever the format.

Reading order: `samples` (what every format gives), `reading` (`How` and `Data`), `source` (which
format it is), `transforms` and `binning`, then a file for each format: `folders`, `arrays`,
`archives`, `binary`, `pickles`, `events`, `tables`, `sequences`; `pictures` reads one picture.
"""
