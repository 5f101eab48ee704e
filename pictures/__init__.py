"""Pictures as SVG: pure functions of numbers, without a library and without a script.

`paint` says colours in light and dark, `canvas` writes elements, `axis` chooses ticks; `spikes`
draws rasters and membranes, `charts` bars, histograms and spans, `heat` matrices, `flow` graphs,
`stack` several; `tables` are HTML for notebooks.

Each returns one `<svg role="img">` whose name is its title and a sentence that tells it in words.
Marks carry their number (`data-value`), so that a test can hold a picture to its data. Colours are
attributes, so that a picture is right wherever it is opened; `paint.style()` turns them dark.
"""
