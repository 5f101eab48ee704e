"""Planted faults: one edit each, and the tests that must not stay green.

An edit is text that stands exactly once in its file, so that the table fails, instead of passing
by, when the code has moved on.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """An edit of one file, and what has to notice it."""

    file: str
    old: str
    new: str
    tests: str  # arguments of pytest, with blanks between

    @property
    def name(self) -> str:
        """The file, and how the edit begins."""
        return f"{self.file}: {' '.join(self.old.split())[:60]}"


_IR, _CONFORMANCE = "tests/ir", "tests/conformance/test_simulators.py"
_TYPES, _PASSES = "tests/ir/test_types.py tests/ir/test_graph.py", "tests/ir/test_passes.py"
_CERTIFICATE = "tests/ir/test_certificate.py tests/ir/test_loihi.py"
_BINARY = (
    "tests/ir/test_binary_neurons.py tests/ir/test_binary_gates.py tests/ir/test_binary_shifts.py"
)
_COMPARE = "tests/deploy/test_vacuity.py tests/deploy/test_batches.py tests/end_to_end/test_planted_faults.py"
_EVENTS = f"{_CONFORMANCE} tests/simulators/test_event_driven.py"
_C = f"tests/export/test_c.py tests/simulators/test_c.py {_CONFORMANCE}"
_ONNX = "tests/simulators/test_onnx_runtime.py tests/export/test_onnx.py"
_FILE = (
    "tests/export/test_file.py tests/export/test_file_damage.py tests/export/test_file_versions.py"
)
_QUANTIZE = "tests/quantize/test_neurons.py tests/quantize/test_thresholds.py tests/quantize/test_quantize.py"
_REPLAY, _HEALTH = "tests/quantize/test_replay.py", "tests/quantize/test_health.py"
_LAVA = "tests/simulators/test_lava.py"
_NENGO = "tests/simulators/test_nengo_loihi.py"
_FINETUNING = "tests/quantize/test_finetuning.py"
_VALIDATE = "tests/deploy/test_validate.py"
_FAST = "tests/simulators/test_fast.py"
_NIR = "tests/export/test_nir_ops.py tests/export/test_nir.py"
_MERGED = "tests/quantize/test_operators.py -k author_wrote"
_ENLARGED = "tests/quantize/test_operators.py -k transposed"
_CAPTURE = "tests/model/test_capture.py tests/model/test_axes.py"
_COUNTS = "tests/costs/test_counts.py"
_COSTS = "tests/costs/test_models.py"
_CORES = "tests/costs/test_cores.py"
_AROUND, _PAGE = "tests/deploy/test_surroundings.py", "tests/deploy/test_network_report.py"
_PICTURES = "tests/pictures"
_SHOWN = "tests/deploy/test_show_plot.py"
_SMALL = "tests/costs/test_small_chips.py"
_PLACED = "tests/costs/test_placement.py"

MUTANTS = (
    # ---- ir: what each op computes ----
    Mutant("ir/semantics.py", "spikes = (v >= op.threshold.array)", "spikes = (v > op.threshold.array)", _CONFORMANCE),
    Mutant("ir/semantics.py", "spikes -= v <= -op.threshold.array", "spikes -= v < -op.threshold.array", _CONFORMANCE),
    Mutant("ir/semantics.py", "return np.asarray(np.sign(a) * size, np.int64)", "return np.asarray(a * kept >> ops.DECAY_BITS, np.int64)", _CONFORMANCE),
    Mutant("ir/semantics.py", "return np.where(spikes != 0, 0, v)", "return np.where(spikes > 0, 0, v)", _CONFORMANCE),
    Mutant("ir/semantics.py", "return v - spikes * op.reset_by", "return v - np.abs(spikes) * op.reset_by", _CONFORMANCE),
    Mutant("ir/semantics.py", "v = decay(state.v, op.dv) + u + op.bias.array", "v = decay(state.v, op.dv) + u", _CONFORMANCE),
    Mutant("ir/semantics.py", "return fired.state.v if op.after_reset else fired.membrane", "return fired.membrane", _CONFORMANCE),
    Mutant("ir/semantics.py", "return np.asarray(np.sign(total) * (np.abs(total) >> reach), np.int64)", "return np.asarray(total >> reach, np.int64)", f"{_CONFORMANCE} tests/ir/test_shift_sum.py"),
    Mutant("ir/semantics.py", "reached = [inputs[0] >= threshold", "reached = [inputs[0] > threshold", _CONFORMANCE),
    Mutant("ir/semantics.py", "return view[:, :, ::sh, ::sw]", "return view[:, :, ::sw, ::sh]", _CONFORMANCE),
    Mutant("ir/semantics.py", "(ph, pw), (sh, sw) = padding, stride", "(pw, ph), (sh, sw) = padding, stride", _CONFORMANCE),
    Mutant("ir/semantics.py", "v = np.maximum(v, op.floor)", "v = np.maximum(v, 0)", _CONFORMANCE),
    Mutant("ir/semantics.py", "left = v - spikes * at_step(op.reset_by, t)", "left = v - np.sign(spikes) * at_step(op.reset_by, t)", _CONFORMANCE),
    Mutant("ir/semantics.py", "each[t if len(each) > 1 else 0]", "each[0]", _CONFORMANCE),
    Mutant("ir/semantics.py", "seen[: op.taps.shape[1] - 1], t + 1", "(), t + 1", _CONFORMANCE),
    # ---- ir: what is proved ----
    Mutant("ir/bounds.py", "IntRange(-levels * by.hi, -by.lo)", "IntRange(-by.hi, -by.lo)", "tests/ir/test_general_neuron.py"),
    Mutant("ir/bounds.py", "h = IntRange(max(op.floor, h.lo), max(op.floor, h.hi))", "pass", "tests/ir/test_general_neuron.py"),
    Mutant("ir/infer.py", "return TensorType(shape, _product(a, b).times(a.shape[-1]), _summed(a, b))", "return TensorType(shape, _product(a, b), _summed(a, b))", _TYPES),
    Mutant("ir/infer.py", "return TensorType(a.shape, a.range + b.range, _summed(a, b))", "return TensorType(a.shape, a.range | b.range, _summed(a, b))", _TYPES),
    Mutant("ir/infer.py", "return TensorType(x.shape, IntRange(0, levels), kind)", "return TensorType(x.shape, IntRange(0, 1), kind)", _TYPES),
    Mutant("ir/infer.py", "return TensorType(shape, a.range | b.range, Kind.SPIKES if spikes else _summed(a, b))", "return TensorType(shape, a.range, Kind.SPIKES if spikes else _summed(a, b))", _TYPES),
    Mutant("ir/infer.py", "few = x.kind is Kind.COUNTS and x.range.hi <= ops.MOST_EVENTS", "few = x.kind is Kind.COUNTS", _TYPES),
    Mutant("ir/bounds.py", "v = _after_reset(op, h)", "v = h", _CERTIFICATE),
    Mutant("ir/bounds.py", "h = _decayed(v, op.dv) + u + op.bias.range", "h = _decayed(v, op.dv) + u", _CERTIFICATE),
    Mutant("ir/bounds.py", "loss = max(fraction_loss(op.du), fraction_loss(op.dv)) * (T - 1)", "loss = max(fraction_loss(op.du), fraction_loss(op.dv))", _CERTIFICATE),
    Mutant("ir/certificate.py", "Register.STATE: bounds.u | bounds.v | bounds.after,", "Register.STATE: bounds.v | bounds.after,", f"{_CERTIFICATE} tests/quantize/test_registers.py"),
    Mutant("ir/semantics.py", "_ONE_PRODUCT = 1 << (63 - ops.DECAY_BITS)", "_ONE_PRODUCT = 1 << (64 - ops.DECAY_BITS)", "tests/ir/test_wide_states.py"),
    Mutant("ir/bounds.py", "return kept if a >= 0 else -kept", "return kept", _CERTIFICATE),
    Mutant("ir/certificate.py", "Register.INPUT: input_range(op, bounds.current),", "Register.INPUT: bounds.current,", "tests/ir/test_targets.py"),
    Mutant("ir/certificate.py", "or need.bits > most:", "or need.bits > most + 1:", "tests/ir/test_targets.py"),
    Mutant("ir/network.py", "check_promised(self.graph, self.recipe.target, self.recipe.certificate)", "pass", "tests/quantize/test_targets.py"),
    Mutant("ir/targets/loihi1.py", "bits=21,", "bits=22,", "tests/ir/test_targets.py"),
    Mutant("ir/loihi.py", "if np.any(tied <= reached - unit):", "if np.any(tied < reached - unit):", _CERTIFICATE),
    Mutant("ir/targets/target.py", "return values.magnitude <= self.largest", "return values.magnitude <= self.largest + 1", f"{_CERTIFICATE} tests/simulators/test_lava_stock_registers.py"),
    # ---- ir: graphs and passes ----
    Mutant("ir/graph.py", "if node.name in found and not stop(node):", "if node.name in found:", f"{_IR} tests/simulators/test_lava_stock.py"),
    Mutant("ir/graph.py", 'raise GraphError(node.name, "name is used twice")', "pass", "tests/ir/test_graph.py"),
    Mutant("ir/canonical.py", "if f.default is MISSING or held != f.default:", "if f.default is MISSING:", f"tests/ir/test_graph.py {_FILE}"),
    Mutant("ir/passes/delays.py", "if isinstance(op, ops.Synaptic):\n        return 1", "if isinstance(op, ops.Synaptic):\n        return int(not isinstance(op, ops.Sum))", f"{_PASSES} tests/ir/test_new_op.py"),
    Mutant("ir/passes/delays.py", "if late := latency[node.name] - cost(node.op) - latency[source]:", "if late := latency[node.name] - latency[source] - 1:", _PASSES),
    Mutant("ir/passes/wiring.py", "axes = tuple(before.op.axes[a] for a in node.op.axes)", "axes = tuple(node.op.axes[a] for a in before.op.axes)", _PASSES),
    Mutant("ir/passes/binary/thresholds.py", "shift = max(0, 1 - lowest)", "shift = max(0, -lowest)", _BINARY),
    Mutant("ir/passes/binary/thresholds.py", "for bit in reversed(range(lowest, most.bit_length())):", "for bit in reversed(range(lowest, most.bit_length() - 1)):", _BINARY),
    Mutant("ir/network.py", "scale = Fraction(2) ** self.exponent / self.std[channel]", "scale = Fraction(2) ** self.exponent / self.std[0]", "tests/ir/test_network.py"),
    Mutant("ir/network.py", "min(max(q, self.lo), self.hi)", "max(q, self.lo)", "tests/ir/test_network.py"),
    Mutant("ir/network.py", "parts = [head, scale, repr(self.classes), ", "parts = [head, scale, ", _FILE),
    # ---- comparison ----
    Mutant("deploy/comparison/compare.py", "if rate in (0.0, 1.0)", "if rate in (0.0,)", _COMPARE),
    Mutant("deploy/comparison/compare.py", "if rate in (0.0, 1.0)", "if rate in (1.0,)", _COMPARE),
    Mutant("deploy/comparison/compare.py", ", *self.still)", ")", _COMPARE),
    Mutant("deploy/comparison/compare.py", "return self.compared > 0 and agrees and not self.vacuous", "return agrees and not self.vacuous", _COMPARE),
    Mutant("deploy/comparison/compare.py", "agrees = not self.mismatches and not self.renamed", "agrees = not self.mismatches", "tests/deploy/test_vacuity.py tests/deploy/test_modules.py"),
    Mutant("deploy/comparison/compare.py", "differ = int(np.count_nonzero(fact.expected != fact.got))", "differ = int(np.count_nonzero(fact.expected > fact.got))", _COMPARE),
    Mutant("deploy/comparison/divergence.py", "if best is None or t < best[0]:", "if best is None or t <= best[0]:", _COMPARE),
    Mutant("deploy/comparison/divergence.py", "t = graph.T - len(fact.expected) + at[0]", "t = at[0]", _COMPARE),
    Mutant("deploy/comparison/check_golden.py", "np.argwhere(want != got)[:1]", "np.argwhere(want > got)[:1]", "tests/docs/test_golden.py"),
    Mutant("deploy/comparison/check_golden.py", 'return f"of another network: digest', 'pass; f"of another network: digest', "tests/docs/test_golden.py tests/deploy/test_exchange.py"),
    Mutant("deploy/comparison/golden.py", 'arrays[key] = _narrow(values[-1])', 'arrays[key] = _narrow(values[0])', "tests/docs/test_golden.py tests/deploy/test_exchange.py"),
    # ---- simulators ----
    Mutant("simulators/reference.py", "self._check_range(node, value)\n", "", "tests/conformance tests/simulators tests/ir/test_types.py"),
    Mutant("simulators/event_driven.py", "(-1, gate <= -events)", "(-1, gate < -events)", _EVENTS),
    Mutant("simulators/event_driven.py", "out[...] = own.v if op.after_reset else before", "out[...] = before", _EVENTS),
    Mutant("simulators/event_driven.py", "return int(np.abs(gate).sum())", "return int(np.count_nonzero(gate))", _EVENTS),
    Mutant("simulators/conformance/checking.py", 'for attempt in ("first", "second"):', 'for attempt in ("first",):', _CONFORMANCE),
    Mutant("simulators/conformance/checking.py", "if not compared:", "if False:", _CONFORMANCE),
    # ---- simulators: the fast one, whose arithmetic is narrow ----
    Mutant("simulators/fast/sizes.py", "MOST_UNWIDENED = 256", "MOST_UNWIDENED = 300", _FAST),
    Mutant("simulators/fast/choice.py", "if found.sums <= 1 << 24:", "if found.sums <= 1 << 25:", _FAST),
    Mutant("simulators/fast/choice.py", "if found.sums <= 1 << 53 else", "if found.sums <= 1 << 54 else", _FAST),
    Mutant("simulators/fast/choice.py", " and activation.hi + found.zero in BYTE", "", _FAST),
    Mutant("simulators/fast/choice.py", " and features >= VNNI:", ":", _FAST),
    Mutant("simulators/fast/choice.py", "and rows < 1 << 16", "and rows < 1 << 17", _FAST),
    Mutant("simulators/fast/matrices.py", "if reach <= 1 << 24:", "if reach <= 1 << 25:", _FAST),
    Mutant("simulators/fast/matrices.py", "a.range.hi + zero in BYTE and ", "", _FAST),
    Mutant("simulators/fast/matrices.py", "x.astype(dtype_of(t.range), copy=False)", "x", _FAST),
    Mutant("simulators/fast/remade.py", "return made if alike else None", "return made", "tests/simulators/test_fast_memory.py"),
    Mutant("simulators/fast/tables.py", "op.bias.array - zero_point(x.range) * matrix.sum(axis=0)", "op.bias.array", _FAST),
    Mutant("simulators/fast/memory.py", "_references(self._buffers, i) == _UNUSED", "True", _FAST),
    Mutant("simulators/fast/kernels/firing.py", 'icmp_signed(">=", v,', 'icmp_signed(">", v,', _FAST),
    Mutant("simulators/fast/kernels/firing.py", "builder.select(negative, rounding, zero)", "zero", _FAST),
    Mutant("simulators/fast/kernels/adding.py", "builder.zext(low, sums)", "builder.sext(low, sums)", _FAST),
    Mutant("export/c/memory.py", "self.stage <= other.last and other.stage <= self.last", "self.stage == other.stage", _C),
    Mutant("export/c/rows.py", "if (t == 0 || a_step != 0)", "if (t == 0)", _C),
    Mutant("export/c/answers.py", "after = shown is not None and shown.after_reset", "after = False", _C),
    Mutant("export/c/constants.py", "bits = (_range(values) | IntRange(-1, 0)).bits", "bits = _range(values).bits", _C),
    Mutant("export/c/synapses.py", "x, exponent = row.given[0].range | _ZERO, op.weight.exponent", "x, exponent = row.given[0].range | _ZERO, 0", _C),
    Mutant("export/c/functions.py", '"        return 1;",', '"        steps_done = 0;",', _C),
    Mutant("export/c/views.py", "if outer != n * inner:", "if False:", _C),
    Mutant("export/c/writer.py", "layout.bytes > limit", "layout.bytes > 2 * limit", _C),
    Mutant("simulators/onnx.py", 'if facts["digest"] != graph.digest:', "if False:", _ONNX),
    Mutant("export/onnx/products.py", "SATURATES = 128", "SATURATES = 255", _ONNX),
    Mutant("export/onnx/products.py", "activation.lo >= 0 and ", "", _ONNX),
    Mutant("export/onnx/products.py", "return _meets_signed(activation) and byte and", "return byte and", _ONNX),
    Mutant("export/onnx/products.py", "if not (_meets_signed(first) and fits(second, I8)):", "if not fits(second, I8):", _ONNX),
    Mutant("export/onnx/products.py", "transpose(2, 3, 1, 0)", "transpose(3, 2, 1, 0)", _ONNX),
    Mutant("export/onnx/windows.py", "constant_values=inside.size", "constant_values=0", _ONNX),
    Mutant("export/onnx/windows.py", "[::sh, ::sw]", "[::sw, ::sh]", _ONNX),
    Mutant("export/onnx/windows.py", "op.kernel, limits(carrier).lo)", "op.kernel, 0)", _ONNX),
    Mutant("export/onnx/windows.py", "CHANNELS, TERMS = 32, 256", "CHANNELS, TERMS = 32, 255", _ONNX),
    Mutant("export/onnx/windows.py", "op.groups == 1 and ", "", _ONNX),
    Mutant("export/onnx/function.py", "self.number((1 << bits) - 1)", "self.number(1 << bits)", _ONNX),
    Mutant("export/onnx/function.py", "<= limits(carrier).hi", "<= 2 * limits(carrier).hi", _ONNX),
    Mutant("export/onnx/function.py", 'self.add("Abs", state)', "state", _ONNX),
    Mutant("export/onnx/function.py", 'self.add("Cast", kept, to=self.carrier), self.add("Sign", state)', 'self.add("Cast", kept, to=self.carrier), self.number(1)', _ONNX),
    Mutant("export/onnx/neuron.py", "(op.dv, bounds.after.magnitude)", "(op.dv, 0)", _ONNX),
    Mutant("export/onnx/neuron.py", "(op.du, bounds.u.magnitude)", "(op.du, 0)", _ONNX),
    Mutant("export/onnx/neuron.py", ", 1 << abs(op.fraction_bits))", ")", _ONNX),
    Mutant("export/onnx/neuron.py", 'step.add("Not", fired)', "fired", _ONNX),
    Mutant("simulators/lava/shared/traces.py", "return current << self.shift", "return current", _LAVA),
    Mutant("simulators/lava/host/adapter.py", "rounds = -(-samples // lanes)", "rounds = samples // lanes", _LAVA),
    # ---- net in ----
    Mutant("export/net/saturation.py", "floor=-STATE.largest", "floor=-2 * STATE.largest", "tests/export/test_net_saturation.py"),
    # ---- nir out: delays; nir in ----
    Mutant("export/nir/write/extras.py", "np.where(taps.any(axis=0), taps.argmax(axis=0), T)", "taps.argmax(axis=0)", "tests/export/test_nir_delays.py -k comes_back"),
    Mutant("export/nir/write/extras.py", "silent = neuron.reset is ops.Reset.NONE or", "silent = True or", "tests/export/test_nir_delays.py"),
    Mutant("export/nir/read/metadata.py", '_fraction(self.facts.get("logit_scale", "1")) * unit', '_fraction(self.facts.get("logit_scale", str(unit)))', "tests/export/test_nir_delays.py"),
    Mutant("export/nir/write/neurons.py", "late[x.positions] = wanted", "late[...] = wanted.max()", "tests/export/test_nir_delays.py -k comes_back"),
    Mutant("export/nir/read/delays.py", "places == late", "places == late.max()", "tests/export/test_nir_delays.py"),
    Mutant("export/nir/read/delays.py", "late_taps(late, T) << op.fraction_bits", "late_taps(late, T)", "tests/export/test_nir_delays.py"),
    Mutant("export/nir/read/delays.py", "np.arange(1, events.hi + 1)", "np.arange(1, 2)", "tests/export/test_nir_delays.py"),
    Mutant("export/nir/read/neurons.py", "late + x.late", "late", "tests/export/test_nir_delays.py"),
    Mutant("export/nir/read/states.py", "unit * rule.gain / (1 << bits)", "unit / (1 << bits)", "tests/export/test_nir_delays.py"),
    Mutant("export/nir/read/layers.py", "replace(value, shown=True) if x.shown else value", "value", "tests/export/test_nir_delays.py"),
    Mutant("deploy/cli/nir_model.py", "wired.later(rule, late_taps(late, self.T))", "rule", "tests/deploy/test_nir_model.py -k what_they_say"),
    Mutant("model/loading/wired.py", "i *= current_keeps", "i *= keeps", "tests/deploy/test_nir_model.py -k what_they_say"),
    # ---- files ----
    Mutant("export/native/reader.py", 'if found != metadata["digest"]:', "if False:", _FILE),
    Mutant("export/native/reader.py", "if unused:\n", "if False:\n", _FILE),
    Mutant("export/native/writer.py", 'return hashlib.sha256(f"{network_digest}\\n{recipe}".encode()).hexdigest()', 'return hashlib.sha256(f"{network_digest}".encode()).hexdigest()', _FILE),
    Mutant("export/native/version1.py", "if f.name in told:", "if True:", _FILE),
    Mutant("export/native/values.py", 'if len(written) > 200 or "e" in written.lower():', "if len(written) > 200:", _FILE),
    Mutant("export/atomic.py", "if source := next((s for s in inputs if _is_same(output, s)), None):", "if source := None:", "tests/export/test_atomic.py tests/deploy/test_outputs.py"),
    # ---- model/capture and merging: what segmentation and STEP's models are written in ----
    Mutant("model/capture/rules/enlarging.py", "divmod(place + self.padding - tap * self.dilation, self.stride)", "divmod(place + self.padding - tap, self.stride)", _ENLARGED),
    Mutant("model/capture/rules/enlarging.py", "order = [n for i in range(space) for n in (2 + space + i, 2 + i)]", "order = [n for i in range(space) for n in (2 + i, 2 + space + i)]", _ENLARGED),
    Mutant("model/capture/rules/enlarging.py", "np.repeat(t.constant(bias).numpy(), math.prod(stride))", "np.tile(t.constant(bias).numpy(), math.prod(stride))", _ENLARGED),
    Mutant("model/capture/rules/enlarging.py", "            apart += [n, 1]\n            times += [n, m // n]", "            apart += [1, n]\n            times += [m // n, n]", "tests/quantize/test_operators.py -k nearest"),
    Mutant("model/capture/rules/enlarging.py", "before if beyond < 0 else after", "after if beyond < 0 else before", "tests/quantize/test_operators.py -k bilinear"),
    Mutant("model/capture/rules/enlarging.py", "[part(t, x, axis, 1, n - 1), ends[1]]", "[part(t, x, axis, 1, n - 1), ends[0]]", "tests/quantize/test_operators.py -k bilinear"),
    Mutant("model/capture/rules/pooling.py", "parts.append(taken(t, total, common // size))", "parts.append(total)", "tests/quantize/test_operators.py -k adaptive"),
    Mutant("model/capture/rules/einsum.py", "for c in (*shared, *fresh, *over)", "for c in (*shared, *over, *fresh)", "tests/quantize/test_operators.py -k einsum"),
    Mutant("model/capture/rules/linear.py", "np.tile(value, (blocks, *[1] * (value.ndim - 1)))", "np.repeat(value, blocks, 0)", "tests/quantize/test_operators.py -k windows"),
    Mutant("model/capture/rules/elementwise.py", "if t.reader.per_sample and ", "if ", "tests/quantize/test_layouts.py tests/model/test_unsupported.py"),
    Mutant("model/capture/rules/elementwise.py", "adapter.keeps_state and not t.argument(2)", "False", "tests/families/test_pyramids.py"),
    Mutant("model/capture/rolling.py", "if heard and all(step < t for _, step in heard):", "if False:", "tests/model/test_rolling.py"),
    Mutant("model/capture/built.py", "if _alike(vars(one)[name], vars(two)[name]):", "if False:", "tests/model/test_module_variants.py -k compiled"),
    Mutant("model/neurons/copies.py", "setattr(module, name, value.double())", "pass", "tests/model/test_module_variants.py -k compiled"),
    Mutant("quantize/merging/rows.py", "np.tile(weight[..., None], (groups, 1, 1))", "np.repeat(weight[..., None], groups, 0)", _MERGED),
    Mutant("quantize/merging/thresholds.py", "made = np.asarray(theta / exact, object)", "made = np.asarray(theta * exact, object)", "tests/quantize/test_head_factors.py"),
    Mutant("quantize/merging/thresholds.py", "if not (factor > 0).all():", "if False:", "tests/quantize/test_head_factors.py"),
    Mutant("quantize/lower.py", "if fire.rescaled and neuron.exact:", "if False:", "tests/quantize/test_head_factors.py"),
    Mutant("quantize/merging/values.py", "if mine.form.groups > 1 or len(kept) == len(mine.form.bias):", "if True:", "tests/quantize/test_head_factors.py"),
    Mutant("quantize/merging/values.py", "weight=mine.form.weight[kept], bias=mine.form.bias[kept]", "weight=mine.form.weight[kept], bias=mine.form.bias[: len(kept)]", _MERGED),
    Mutant("quantize/merging/merge.py", "            and over_its_channels(call, inner)\n", "", "tests/quantize/test_operators.py -k with-norm"),
    # ---- quantize ----
    Mutant("quantize/neurons.py", "math.floor(t) if rule.strict else math.ceil(t) - 1", "math.ceil(t) - 1", _QUANTIZE),
    Mutant("quantize/staircase.py", "if level % 2 and not rule.half_up", "if level % 2", f"{_QUANTIZE} tests/model/test_integer_spikes.py"),
    Mutant("quantize/finetuning/straight_through.py", "grad = grad * ctx.passes", "pass", _FINETUNING),
    Mutant("quantize/finetuning/fake_quantized.py", "* float(image_scale(self._source))", "* (1.0 + float(image_scale(self._source)))", _FINETUNING),
    Mutant("quantize/finetuning/tuning.py", "        fake.requantize()\n", "", _FINETUNING),
    Mutant("quantize/finetuning/chains.py", "return straight_through(real, self._map(x, self.weight, self.bias))", "return real", _FINETUNING),
    Mutant("quantize/finetuning/neurons.py", "return straight_through(real, spikes.to(x.dtype))", "return real", _FINETUNING),
    Mutant("quantize/weights.py", "bias = np.rint(shifts / float(output_scale))", "bias = np.floor(shifts / float(output_scale))", f"{_QUANTIZE} tests/quantize/test_folding.py"),
    Mutant("ir/tensor.py", "return (together & -together).bit_length() - 1 if together else 0", "return 0", "tests/quantize/test_fit.py"),
    Mutant("quantize/weights.py", "scales[group] = min(scales.get(group", "scales[group] = max(scales.get(group", "tests/quantize/test_fit.py"),
    Mutant("quantize/weights.py", "return nearest.clip(-most, most) if bits else nearest", "return nearest", "tests/quantize/test_bits.py"),
    Mutant("quantize/weights.py", "return largest / (1 << errors.index(min(errors)))", "return largest", "tests/quantize/test_bits.py"),
    Mutant("quantize/weights.py", "weight = IntTensor(mantissa << exponent)", "weight = IntTensor(mantissa)", "tests/quantize/test_folding.py"),
    Mutant("quantize/recipe.py", "exponent=units[name].exponent,", "exponent=0,", _REPLAY),
    Mutant("quantize/recipe.py", "bits=units[name].bits,", "bits=0,", "tests/quantize/test_bits.py"),
    Mutant("quantize/channels.py", "return None if axis in axes else axis - gone", "return axis - gone", "tests/quantize/test_channels.py"),
    Mutant("quantize/channels.py", "if size == before[axis] and math.prod(after[:new]) == in_front:", "if size == before[axis]:", "tests/quantize/test_channels.py"),
    Mutant("quantize/channels.py", "return axis if cut != axis else None", "return axis", "tests/quantize/test_channels.py"),
    Mutant("quantize/channels.py", "rule.reset is not ops.Reset.BY_SUBTRACTION and not rule.v_rest", "True", "tests/quantize/test_channels.py"),
    Mutant("quantize/channel_scales.py", "largest = largest.clip(largest.max() - _STEPS * _SPAN)", "pass", "tests/quantize/test_channels.py"),
    Mutant("quantize/neurons.py", "if form and form.loihi_threshold and not why and len(rule.thetas) != 1:", "if False:", "tests/quantize/test_thresholds.py"),
    Mutant("quantize/pytorch/integer_neuron.py", "taken[...] = on_grid(name, given, scale * factor)", "taken[...] = on_grid(name, given, scale)", "tests/quantize/test_channels.py"),
    Mutant("quantize/fit.py", "np.array_equal(unit.real_weight, folded[name].weight)", "np.array_equal(unit.weight.array * float(unit.weight_scale), folded[name].weight)", "tests/quantize/test_trials.py"),
    Mutant("quantize/trials.py", "if loss < least:", "if True:", "tests/quantize/test_trials.py"),
    Mutant("quantize/neurons.py", "if form and not why and form.fraction_bits < lost:", "if False:", _QUANTIZE),
    Mutant("quantize/neurons.py", "*([] if stock else [small])", "small", _QUANTIZE),
    Mutant("quantize/fit.py", "if long and not groups & unsettled", "if False and not groups & unsettled", "tests/quantize/test_fit.py"),
    Mutant("quantize/fit.py", "if scaling.target.stock and not fitting.given_up and", "if False and", "tests/quantize/test_fit.py"),
    Mutant("quantize/options.py", "if odd := sorted(set(single) - ", "if odd := sorted(set() - ", "tests/quantize/test_bits.py"),
    Mutant("simulators/fast/weighted.py", "wide = currents.astype(np.int64) << self.exponent", "wide = currents.astype(np.int64)", "tests/simulators/test_fast.py"),
    Mutant("export/onnx/products.py", "stripped.range, 1 << exponent, []", "stripped.range, 1, []", "tests/conformance tests/simulators/test_onnx_runtime.py"),
    Mutant("quantize/replay.py", "if not other_parameters and parameter_digest(model) != made.parameters:", "if False:", _REPLAY),
    Mutant("quantize/replay.py", "if worst > float(bound):", "if False:", _REPLAY),
    Mutant("quantize/replay.py", "if not other_parameters and rule_text(fire.rule) != record.rule:", "if False:", _REPLAY),
    Mutant("quantize/calibration.py", "if not (by_channel != by_channel[:, :1]).any():", "if not calibration.any():", "tests/quantize/test_refusals.py"),
    Mutant("quantize/calibration.py", "low < -_OVERSHOOT or high > 1 + _OVERSHOOT", "low < -_OVERSHOOT", "tests/quantize/test_bad_calibration.py"),
    Mutant("quantize/image_statistics.py", "1 / _SPREAD <= spread <= _SPREAD", "spread <= _SPREAD", "tests/quantize/test_bad_calibration.py"),
    Mutant("quantize/pytorch/exact_map.py", "magnitude * self.most <= LARGEST", "magnitude * self.most <= 2 * LARGEST", "tests/quantize/test_exact_map.py"),
    Mutant("quantize/pytorch/exact_map.py", "row = int(heard.argmax())", "row = 0", "tests/quantize/test_exact_map.py"),
    Mutant("quantize/pytorch/agreement.py", "same = equal(one, other) if host is None", "same = True if host is None", "tests/quantize/test_merge.py"),
    Mutant("deploy/report/measure.py", "np.count_nonzero(values != real)", "np.count_nonzero(values > real)", "tests/deploy/test_quantization_report.py"),
    Mutant("deploy/report/measure.py", "layer.mismatches += int(", "layer.mismatches = int(", "tests/deploy/test_quantization_report.py"),
    Mutant("deploy/report/histogram.py", "return Histogram(shift, low >> shift,", "return Histogram(shift, low,", "tests/deploy/test_quantization_report.py"),
    Mutant("quantize/health.py", "if rate.in_float > 0 and rate.in_integers == 0:", "if False:", _HEALTH),
    Mutant("quantize/health.py", "elif zeroed[node] >= NEARLY_ALL:", "elif zeroed[node] > 1:", _HEALTH),
    Mutant("quantize/pytorch/integer_neuron.py", "exact = np.array_equal(quotient, nearest)", "exact = True", "tests/quantize/test_reference.py tests/quantize/test_quantize.py"),
    Mutant("quantize/pytorch/integer_neuron.py", "return exact and bool(np.abs(nearest).max() <= 2.0**53)", "return exact", "tests/quantize/test_reference.py tests/quantize/test_quantize.py"),
    Mutant("quantize/pytorch/integer_neuron.py", "return np.array_equal(np.multiply(integers, unit, out=quotient), values)", "return True", "tests/quantize/test_reference.py tests/quantize/test_quantize.py"),
    # ---- model ----
    Mutant("model/capture/windows.py", "self._times(part, common // len(taps)) if windows.average", "part if windows.average", "tests/quantize/test_pools.py"),
    Mutant("simulators/event_delivery.py", "out[...] = np.iinfo(np.int64).min", "out[...] = 0", "tests/quantize/test_pools.py"),
    Mutant("model/capture/repeatability.py", "if record != first.setdefault(showing.images, record):", "if False:", "tests/model/test_repeatability.py"),
    Mutant("model/neurons/simulate.py", "h > theta if rule.strict else h >= theta", "h >= theta", "tests/model/test_adapters.py tests/model/test_described.py"),
    Mutant("quantize/general_neuron.py", "math.floor(theta) + 1 if strict", "math.ceil(theta) if strict", "tests/model/test_adapters.py"),
    Mutant("quantize/general_neuron.py", "max(0, -left)", "0", "tests/quantize/test_general_neurons.py"),
    Mutant("model/neurons/general_rule.py", "h.clamp(min=0) if rule.floored else h", "h", "tests/model/test_adapters.py"),
    # ---- inputs and answers of any shape ----
    Mutant("model/capture/signature.py", "return tuple(given[axis] for axis in self._order())", "return tuple(given)", "tests/quantize/test_any_input.py"),
    Mutant("model/capture/output.py", "    if pooled:", "    if False:", "tests/quantize/test_any_answer.py"),
    Mutant("model/capture/host.py", "return found if near else None", "return found", "tests/quantize/test_host_maps.py"),
    Mutant("model/capture/host.py", "_SIZES = (1.0, 2.0**10, 2.0**20)", "_SIZES = (1.0,)", "tests/quantize/test_host_maps.py"),
    Mutant("model/capture/rules/linear.py", "if sizes(x)[-1] != len(table):", "if False:", "tests/quantize/test_token_ids.py"),
    Mutant("ir/answers.py", "flat = np.moveaxis(values, 1, 0)", "flat = values", "tests/quantize/test_host_maps.py"),
    Mutant("ir/parts.py", "np.ldexp(flat.astype(np.float64), -part.exponent)", "np.ldexp(flat.astype(np.float64), part.exponent)", "tests/quantize/test_several_inputs.py"),
    Mutant("ir/encoding.py", "np.uint64(255)", "np.uint64(256)", "tests/quantize/test_encodings.py"),
    Mutant("ir/encoding.py", "t = math.floor(steps * (1 - response))", "t = math.ceil(steps * (1 - response))", "tests/quantize/test_encodings.py"),
    Mutant("deploy/comparison/overlap.py", "known = label != IGNORED", "known = label >= 0", "tests/deploy/test_any_shape_commands.py"),
    Mutant("deploy/comparison/divergence.py", "isinstance(node.op, ops.Readout) else -steps", "True else -steps", "tests/quantize/test_any_answer.py"),
    Mutant("deploy/data/folders.py", 'return np.argsort(np.concatenate(places), kind="stable").astype(np.int64)', "return np.arange(sum(counts))", "tests/deploy/test_data.py"),
    Mutant("deploy/cli/image_set.py", "return replace(self, labels=places[self.labels], classes=tuple(classes))", "return replace(self, classes=tuple(classes))", "tests/deploy/test_class_names.py"),
    Mutant("deploy/cli/class_order.py", "if not told_apart or others < 2 * max(1, right):", "if not told_apart:", "tests/deploy/test_class_names.py -k fit"),
    Mutant("deploy/cli/training.py", "halves(images.numbered_as(made.preprocessing.classes), hold_out)", "halves(images, hold_out)", "tests/deploy/test_class_names.py"),
    Mutant("export/nir/write/writer.py", "return 64 + len(value.encode() if isinstance(value, str) else value)", "return 64", "tests/export/test_nir.py"),
    # ---- deploy/validation ----
    Mutant("deploy/validation/plan.py", "return int((sample + 1) * self.share) > int(sample * self.share)", "return True", _VALIDATE),
    Mutant("deploy/validation/store.py", "yield False", "yield True", f"{_VALIDATE} tests/deploy/test_validate_killed.py"),
    Mutant("deploy/validation/store.py", "if not path.exists():", "if True:", _VALIDATE),
    Mutant("deploy/validation/store.py", 'return self._path("samples", shard).exists() and', "return", _VALIDATE),
    Mutant("deploy/validation/store.py", "part.unlink(missing_ok=True)", "pass", "tests/deploy/test_validate_command.py"),
    Mutant("deploy/validation/batch.py", "differs = _by_sample(spikes, got.values[node])", "differs = _by_sample(spikes, spikes)", _VALIDATE),
    Mutant("deploy/validation/batch.py", 'rows[i]["mismatches"] += found', 'rows[i]["mismatches"] += 0', _VALIDATE),
    Mutant("deploy/validation/images.py", "self.require_fit(read.pixels)", "pass", _VALIDATE),
    Mutant("deploy/validation/images.py", '"pixels of 16 images": pixels', '"pixels of 16 images": ""', "tests/deploy/test_validate_command.py"),
    Mutant("deploy/validation/summary.py", "if mismatches or about.renamed:", "if mismatches:", _VALIDATE),
    Mutant("deploy/validation/cluster.py", "if isinstance(error, KilledWorker):", "if False:", "tests/deploy/test_validate_cluster.py"),
    Mutant("deploy/cli/validation_worker.py", "if odd:", "if False:", "tests/deploy/test_validate_cluster.py"),
    Mutant("deploy/cli/validation_job.py", '"model": identity,', '"model": None,', "tests/deploy/test_validate_command.py"),
    Mutant("deploy/cli/remaining.py", "* (self.total - self.done)", "* self.total", _VALIDATE),
    # ---- nengo-loihi ----
    Mutant("simulators/nengo_loihi/compartments.py", "+ TIE + 1", "+ TIE", _NENGO),
    Mutant("simulators/nengo_loihi/compartments.py", "both % TIE, both // TIE", "0, both // TIE", _NENGO),
    Mutant("simulators/nengo_loihi/compartments.py", "decay_u, decay_v, vmin = op.du - 1, op.dv, -STATE.largest", "decay_u, decay_v, vmin = op.du, op.dv, -STATE.largest", _NENGO),
    Mutant("simulators/nengo_loihi/mapping.py", "-factors[-1]] if values.lo < 0", "factors[-1]] if values.lo < 0", _NENGO),
    Mutant("simulators/nengo_loihi/mapping.py", "levels[at] < levels[name] - 1:", "levels[at] < levels[name] - 2:", _NENGO),
    Mutant("simulators/nengo_loihi/mapping.py", "if not INPUT.holds(added):", "if False:", _NENGO),
    Mutant("simulators/nengo_loihi/mapping.py", "added |= IntRange(int(rest.min()), int(rest.max()))", "pass", _NENGO),
    Mutant("simulators/nengo_loihi/files.py", "t + 1 + each.late", "t + 1", _NENGO),
    Mutant("simulators/nengo_loihi/blocks.py", "used > LIMITS[\"output axons\"]", "used > 10 * LIMITS[\"output axons\"]", _NENGO),
    Mutant("simulators/nengo_loihi/worker.py", "strict = True", "strict = False", _NENGO),
    Mutant("simulators/nengo_loihi/worker.py", "refract_delay[:] = 1", "refract_delay[:] = 2", _NENGO),
    Mutant("simulators/nengo_loihi/worker.py", 'int(arrays["vmin"][start])', "-MOST_POTENTIAL", _NENGO),
    Mutant("simulators/nengo_loihi/worker.py", "    validate_model(model)\n", "", _NENGO),
    Mutant("simulators/nengo_loihi/worker.py", "outside = (step - 1 < first)", "outside = (step - 1 < 0)", _NENGO),
    Mutant("simulators/nengo_loihi/simulator.py", "if found != VERSIONS:", "if False:", _NENGO),
    Mutant("simulators/nengo_loihi/simulator.py", "                    worker.kill()\n", "", _NENGO),
    # ---- costs ----
    Mutant("costs/counting.py", "(outputs // op.groups)", "outputs", _COUNTS),
    Mutant("costs/counting.py", "heights = (x != 0).astype(np.int64) if op.graded else np.abs(x)", "heights = (x != 0).astype(np.int64)", _COUNTS),
    Mutant("costs/counting.py", "compares=size * (1 + op.ternary)", "compares=size", _COUNTS),
    Mutant("costs/counting.py", "gamma + below <= op.reach", "gamma + below < op.reach", _COUNTS),
    Mutant("costs/shapes.py", "starts = np.arange(outputs) * stride - padding", "starts = np.arange(outputs) * stride", _COUNTS),
    Mutant("costs/bounds.py", "_constant(kind.range.magnitude, graph.T, kind.shape)", "_constant(kind.range.hi, graph.T, kind.shape)", _COUNTS),
    Mutant("costs/counting.py", "compares=T * size * (levels + op.floored)", "compares=T * size * levels", _COUNTS),
    Mutant("costs/counting.py", "there = (taps != 0) & (behind >= 0)", "there = (taps != 0) | (behind >= 0)", _COUNTS),
    Mutant("simulators/event_delivery.py", "terms += tap != 0", "terms += 1", _COUNTS),
    Mutant("export/c/general.py", 'terms = [f"(now + t) * {each}"]', 'terms = [f"t * {each}"]', "tests/simulators/test_c.py -k constants"),
    Mutant("export/c/general.py", '[f"v = v > {low} ? v : {low};"] if op.floored', '[f"v = v < {low} ? v : {low};"] if op.floored', "tests/simulators/test_c.py -k constants"),
    Mutant("costs/traffic.py", "return Traffic(states=2 * steps * width.state)", "return Traffic(states=steps * width.state)", _COSTS),
    Mutant("costs/traffic.py", "membrane = _signed(bounds.after)", "membrane = _signed(bounds.v)", _COSTS),
    Mutant("costs/estimate.py", "if n not in dark}", "}", _COSTS),
    Mutant("costs/estimate.py", "left[home[term.node]] -= _cost(term, table)", "pass", _COSTS),
    Mutant("costs/models/papers.py", "return operations * min(first, second)", "return operations * first * second", "tests/costs/test_published.py"),
    Mutant("costs/models/lemaire.py", "yield below[1], words * (1 - upper)", "yield below[1], words * upper", _COSTS),
    Mutant("costs/models/spikingjelly.py", "yield Term(node.name, MOVED, Fraction(moved.states, BYTE), driven=False)", "pass", _COSTS),
    Mutant("costs/prices.py", "if (value is None) != (grade is Grade.UNKNOWN):", "if False:", "tests/costs/test_prices.py"),
    Mutant("costs/report.py", "if graph.firing and not any(", "if False and not any(", _COSTS),
    Mutant("simulators/event_delivery.py", "* bool(met[oy, oz])", "* True", _COUNTS),
    Mutant("simulators/event_delivery.py", 'tally["accumulates"] += events * row.size', 'tally["accumulates"] += row.size', _COUNTS),
    Mutant("costs/populations.py", "latest = own - math.gcd(block.features, own)", "latest = 0", _CORES),
    Mutant("costs/populations.py", "(block.rows - 1) * self.stride[0] + self.kernel[0]", "block.rows * self.stride[0]", _CORES),
    Mutant("costs/cores.py", "Resource.AXONS_OUT: math.ceil(leaving * block.neurons)", "Resource.AXONS_OUT: block.neurons", _CORES),
    Mutant("costs/chips.py", "if high < value:", "if False:", _CORES),
    # ---- pictures, and the report of a network ----
    Mutant("deploy/comparison/compare.py", "kinds = added(kinds, {fact.kind: (fact.got.size, differ)})", "kinds = {**kinds, fact.kind: (fact.got.size, differ)}", _AROUND),
    Mutant("deploy/comparison/surroundings.py", "row=flat - first,", "row=min(flat, _NEURONS // 2),", _AROUND),
    Mutant("deploy/comparison/surroundings.py", "column=t - begin,", "column=t,", _AROUND),
    Mutant("deploy/validation/layers.py", ".reshape(len(values), -1).sum(axis=1)", ".reshape(-1, len(values)).sum(axis=0)", _VALIDATE),
    Mutant("deploy/validation/summary.py", '"step_events": summed(one["step_events"], other["step_events"]),', '"step_events": one["step_events"],', _VALIDATE),
    Mutant("pictures/charts.py", "0.75 if value else 0.0", "0.75 if value else 9.0", _PICTURES),
    Mutant("pictures/charts.py", "y = top + group * k", "y = top + _BAR * k", _PICTURES),
    Mutant("pictures/heat.py", "part = min(1.0, abs(value) / largest)", "part = min(1.0, abs(value))", _PICTURES),
    Mutant("pictures/spikes.py", "theirs = mine if other is None else", "theirs = mine if mine else", _PICTURES),
    Mutant("pictures/layering.py", "layer = 1 + max(", "layer = 2 - 1 + 0 * max(", _PICTURES),
    Mutant("pictures/canvas.py", 'f"{title.rstrip(\'.\')}. {told}".strip()', "title", _PICTURES),
    Mutant("deploy/network_report/html.py", "autoescape=True", "autoescape=False", _PAGE),
    Mutant("deploy/network_report/reading.py", "if digest != own:", "if not digest:", _PAGE),
    Mutant("deploy/network_report/sections/equality.py", 'return "bad" if cell[1] else "good"', 'return "good"', _PAGE),
    Mutant("deploy/network_report/sections/costing.py", '"lowest": r.low,', '"lowest": r.high,', _PAGE),
    Mutant("deploy/cli/report_making.py", "if path.exists() and not overwrite:", "if False:", _PAGE),
    Mutant("deploy/cli/report_making.py", "twin.unlink()", "pass", _PAGE),
    Mutant("costs/wires.py", "place[axes.index(axis)]", "place[axes[axis]]", _PLACED),
    Mutant("costs/wires.py", "p if n > 1 else p * 0", "p", _PLACED),
    Mutant("costs/wires.py", "p + start * (a == axis)", "p", _PLACED),
    Mutant("costs/wires.py", "        start += shape[axis]\n", "", _PLACED),
    Mutant("costs/links.py", "line = out * stride - padding", "line = out * stride", _PLACED),
    Mutant("costs/links.py", "place = row // block.rows * parts[1] + column // block.columns", "place = row // block.rows + column // block.columns * parts[0]", _PLACED),
    Mutant("costs/links.py", "np.repeat(counts * wires.stands_for, heard.copies)", "np.repeat(counts, heard.copies)", _PLACED),
    Mutant("costs/placement.py", "shared.size - (room - 1)", "shared.size - room", _PLACED),
    Mutant("costs/placement.py", "pull[full >= room] = -1.0", "pass", _PLACED),
    Mutant("costs/placement.py", "apart = chip[linked.speakers] != chip[linked.hearers]", "apart = chip[linked.speakers] == chip[linked.hearers]", _PLACED),
    Mutant("costs/speck.py", "if core not in taken or placed(taken[core], tried):", "if core not in taken:", _SMALL),
    Mutant("costs/speck.py", "return max(0, count - 1).bit_length()", "return count.bit_length() - 1", _SMALL),
    Mutant("costs/speck.py", "if isinstance(n.op, ops.Wiring | ops.Add)", "if isinstance(n.op, ops.Wiring)", _SMALL),
    Mutant("costs/small_chips.py", "return max(1, bounds.state_bits - unit)", "return max(1, bounds.state_bits)", _SMALL),
    Mutant("costs/small_chips.py", "(decay & (decay - 1)) == 0", "True", _SMALL),
    Mutant("deploy/cli/layer_plot.py", 'return {"threshold": level, "below": -level}', 'return {"threshold": level, "below": level}', _SHOWN),
    Mutant("deploy/cli/layer_plot.py", "np.lexsort((-sent, -changes))", "np.lexsort((-changes, -sent))", _SHOWN),
    Mutant("deploy/cli/bitmap.py", "if number % 2 == 0:", "if True:", _SHOWN),
    Mutant("pictures/stack.py", "        top += height + _GAP\n", "", _SHOWN),
    Mutant("deploy/cli/chip_needs.py", "if need.holds is False", "if need.holds is None", "tests/deploy/test_chip_needs.py"),
    Mutant("costs/xylo.py", "return int(there.sum(axis=0).max())", "return int(there.sum(axis=1).max())", _SMALL),
    Mutant("costs/cores.py", "chips.low >= fewest", "chips.low > fewest", _CORES),
)  # fmt: skip
