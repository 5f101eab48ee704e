"""The `.lapilli` file: a safetensors container whose metadata holds the graph as JSON.

The format is specified in docs/format.md. Reading order: `writer`, `values` (JSON that nobody
vouches for), `reader`, `recipe` (how the network was made), `version1` (older files).
"""

from lapilli.export.native.reader import load_network as load_network
from lapilli.export.native.writer import save_network as save_network
