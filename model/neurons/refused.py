"""Neuron classes that lapilli has heard of and cannot run, each for a reason of its own.

A reason is what no graph of accumulates can do, not what nobody has written yet; where it is the
latter, it says so.
"""

from __future__ import annotations

from collections.abc import Mapping

_CLIF = (
    "its second state decays by a sigmoid of the membrane, and its reset takes a sigmoid of that"
)
_ANSWERS_MEMBRANE = (
    "answers its membrane in place of spikes; let the answer read the membrane of a spiking neuron"
)
_RANDOM = "draws random numbers at every step; a network must answer by its images alone"
_FEEDS_BACK = "its spikes go through weights back into its own next input: it is recurrent"
_WORTH = "its spikes are worth its trained threshold, and no rule of ours has such a spike yet"
_LSTM = "its gates are sigmoids, and multiply its states"
_TABLE = (
    "adds up its input over all steps before it fires, and its events are worth another amount each"
)

# STEP, cls/models/utils/node.py, commit c0b3193; those that derive from its BaseNode_Torch.
STEPS: Mapping[str, str] = {
    "EIFNode": "its membrane grows by the exponential of itself",
}
_STEPS_OWN: Mapping[str, str] = {
    "HDLIFNode": "weighs membranes of four neurons by a softmax of its input; one of them is an "
    "EIF, whose membrane grows by the exponential of itself",
    "ComplementaryLIFNeuron": _CLIF,
}
# SpikingJelly 2.0.0, by the file of a class.
_SPIKINGJELLY: Mapping[str, str] = {
    "lif_variants.ComplementaryLIFNode": _CLIF,
    "lif_variants.GatedLIFNode": "its gates are soft: a spike leaves a share of the membrane",
    "integrate_and_fire.HalfThresholdIFNode": "starts from half its threshold, and not from rest",
    "integrate_and_fire.ActivationAwareIFNode": "its thresholds lie along an axis "
    "that its input decides; no rule of ours says so yet",
    "dsr.DSRIFNode": _WORTH,
    "dsr.DSRLIFNode": _WORTH,
    "mpbn.MPBNLIFNode": "normalises its membrane; fold that into its threshold first "
    "(re_parameterize_v_threshold), and describe what is left: quantize(neurons=...) (--neuron)",
    "lif_variants.LIAFNode": "answers an activation of its membrane in place of spikes",
    "nonlinear_if.EIFNode": STEPS["EIFNode"],
    "nonlinear_if.QIFNode": "its membrane grows by the square of itself",
    "adapt.IzhikevichNode": "its membrane grows by the square of itself",
    "resonate.RAFNode": "its two states drive each other; the graph's membrane drives no current",
    "integrate_and_fire.NonSpikingIFNode": _ANSWERS_MEMBRANE,
    "lif.NonSpikingLIFNode": _ANSWERS_MEMBRANE,
    "few_spike.FewSpikeNode": _TABLE,
    "few_spike.OutlierAwareThresholdNode": _TABLE,
    "few_spike.HGNode": _TABLE,
    "flexsn.FlexSN": "its step is a function of yours; "
    "describe it: quantize(neurons=...) (--neuron)",
    "inter_layer_connection.ILCIFNode": _FEEDS_BACK,
    "inter_layer_connection.ILCLIFNode": _FEEDS_BACK,
    "inter_layer_connection.ILCCUBALIFNode": _FEEDS_BACK,
    "noisy.NoisyCUBALIFNode": _RANDOM,
    "noisy.NoisyILCCUBALIFNode": _RANDOM,
    "noisy.NoisyNonSpikingIFNode": _RANDOM,
    "spikezip.STBIFNode": "remembers what it has sent, and takes events back: a state that its "
    "spikes add to",
}

# snnTorch 1.0.0, by the file of a class.
_SNNTORCH: Mapping[str, str] = {
    "synaptic.Synaptic": "keeps a synaptic current beside its membrane; of snnTorch, Leaky and "
    "Lapicque are read, and of SpikingJelly CUBALIFNode keeps such a current",
    "alpha.Alpha": "its membrane is the difference of two currents; a rule has one",
    "rleaky.RLeaky": _FEEDS_BACK,
    "rsynaptic.RSynaptic": _FEEDS_BACK,
    "slstm.SLSTM": _LSTM,
    "sconv2dlstm.SConv2dLSTM": _LSTM,
}

_SJ = "spikingjelly.activation_based.neuron"

# By qualified name.
REFUSED: Mapping[str, str] = {
    **{f"models.utils.node.{kind}": why for kind, why in {**STEPS, **_STEPS_OWN}.items()},
    **{f"utils.node.{kind}": why for kind, why in {**STEPS, **_STEPS_OWN}.items()},
    **{f"{_SJ}.{name}": why for name, why in _SPIKINGJELLY.items()},
    **{f"snntorch._neurons.{name}": why for name, why in _SNNTORCH.items()},
    # 0.0.0.0.14, where `neuron` is one file.
    **{f"{_SJ}.{name.partition('.')[2]}": why for name, why in _SPIKINGJELLY.items()},
}
