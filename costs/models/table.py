"""Every model."""

from __future__ import annotations

from lapilli.costs.models.event_hardware import EVENT_HARDWARE
from lapilli.costs.models.lemaire import LEMAIRE
from lapilli.costs.models.papers import PAPERS
from lapilli.costs.models.spikingjelly import SPIKINGJELLY

MODELS = (PAPERS, SPIKINGJELLY, LEMAIRE, EVENT_HARDWARE)
KEYS = {model.name: model.keys for model in MODELS}
