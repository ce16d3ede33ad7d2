"""Runs every framework against the float64 reference: equal up to rounding, or not.

In: a file, a model or a live object, and names of frameworks. Out: a `Report`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xlstm.counting.count import count
from xlstm.counting.ledger import Ledger
from xlstm.errors import MissingFrameworkError, UsageError
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.random_state import unmoved
from xlstm.ir.graph import Model
from xlstm.ir.precision import HALF
from xlstm.ir.types import Array
from xlstm.reading.load import load
from xlstm.reading.ports import read_folder
from xlstm.reference import Coverage
from xlstm.reference import run as run_reference
from xlstm.verification import inputs as generated
from xlstm.verification.bounds import (
    DIFFERENT,
    EPS,
    FAILED,
    UNDECIDED,
    Verdict,
    bounds_of_each,
    worst_of,
)
from xlstm.verification.gradients import Slopes, add_sgd_step, slopes_of
from xlstm.verification.gradients import gradients as gradients_of
from xlstm.verification.hidden_states import Revealed, expose_hidden_states
from xlstm.verification.input_shapes import shapes_of, sizes_of
from xlstm.verification.inputs import (
    MEMORY,
    Limits,
    check_cost,
    check_memory,
    fitted,
    recipe_of,
    why_not,
)
from xlstm.verification.progress import NumberedSteps, Tell, silent
from xlstm.verification.report import FrameworkReport, Report
from xlstm.verification.run import DTYPES, Allowed, Maker, Trial, maker, port_maker, run, trial
from xlstm.verification.user_inputs import arrays_for, out_of_range_id

LOG = logging.getLogger("xlstm")


@unmoved
def reconcile(
    source: Any,
    frameworks: str | Iterable[str] | None = None,
    inputs: Any = None,
    *,
    states: bool = False,
    gradients: bool = False,
    thorough: bool = False,
    step: bool = False,
    half: bool = False,
    memory: float = MEMORY,
    makers: Mapping[str, Maker] | None = None,
    progress: Tell = silent,
) -> Report:
    """Compares frameworks with the reference: outputs in float32 and float64, weights, and counts.

    Args:
        source: anything that `load` takes. The column of the framework that `source` comes from
            runs the original if possible: a Keras 3 file that Keras opens, a live Keras model, a
            live torch module. Every other column runs our port, and its title says so.
        frameworks: names, or one name; None for all that are installed. `xlstm.diagnose(source,
            model)` compares a model of your own, and finds the first difference and its cause.
        inputs: arrays, batch first, as `xlstm.verification.user_inputs.arrays_for` takes them:
            files, a mapping by input name, a list, or one array; None generates them.
        states: also compares the outputs of every recurrent layer at every step, and its last
            states, in our port of the model.
        gradients: also compares, in our port, the gradients of every weight and of the inputs with
            slopes of the reference (`xlstm.verification.gradients`).
        step: also compares, in our port, the change of every weight in one step of plain SGD on the
            loss of `gradients` (`xlstm.verification.gradients`).
        thorough: also compares inputs of other lengths, batch sizes, scales and seeds, with every
            kind of mask in every length.
        half: also compares outputs, and hidden states with `states`, in bfloat16 and float16, with
            their own bounds (`xlstm.verification.bounds`).
        memory: limit in bytes for the runs, beside weights and frameworks; 1 GB by default. The
            cost is computed before any run starts (`xlstm.verification.inputs`), and generated
            inputs become smaller if that is enough. Time is limited too.
        makers: framework -> a function that builds the object to run, for one of your own.
        progress: is called with a line of text for each activity.

    Returns:
        A report; `.ok` is True if all are equal, `.check()` raises if not. A framework that is
        named and not installed, or that crashes, is `failed` in it.

    Raises:
        MissingFrameworkError: none of the named frameworks is installed.
        UsageError: an unknown framework, inputs that do not fit the model, or a comparison that
            would need more than `memory`. A model too large for the slopes of the reference has
            `undecided` gradients.
        XlstmError: as `load` raises.
    """
    model, limits = load(source), Limits(check_memory(memory))
    dtypes = (*DTYPES, *HALF) if half else DTYPES
    adapters = _adapters([frameworks] if isinstance(frameworks, str) else frameworks)
    progress("running the float64 reference")
    try:
        trials, left, recipe, made = _trials(model, inputs, thorough, dtypes, limits)
        shown = expose_hidden_states(model) if states else None
        inner, hidden = _inner(shown, trials[0], limits)
        arrays = None if inputs is None else trials[0].arrays
        if gradients or step:
            progress("gradients of the float64 reference")
        slopes, too_large = _slopes(model, arrays, limits) if gradients or step else (None, "")
    except MemoryError:
        want, do = "inputs that fit in memory", "pass fewer samples or shorter ones as inputs"
        raise UsageError(model.name, want, "out of memory", do) from None
    ledger = count(model, adapters)
    found = {}
    runs = len(dtypes) * (2 if inner else 1) + len(DTYPES) * bool(slopes) * (gradients + step)
    tell = NumberedSteps(progress, runs * sum(adapter.installed for adapter in adapters.values()))
    for name, adapter in adapters.items():
        make = (makers or {}).get(name) or maker(source, model, adapter)
        start = time.perf_counter()
        found[name] = _framework(make, adapter, trials, inner, slopes if gradients else None, tell)
        LOG.info(
            "ran %s %s: %.1f s", adapter.title, found[name].version, time.perf_counter() - start
        )
    if step and slopes:
        found = {
            n: add_sgd_step(part, model, adapters[n], slopes, tell) for n, part in found.items()
        }
    if too_large:
        found = {n: _without(part, gradients, step) for n, part in found.items()}
        left.append(too_large)
    left += [*hidden, *(shown.left if shown else ()), *(slopes.notes() if slopes else ())]
    kept = recipe_of(model, [one.arrays for one in trials], made)
    return Report(model, ledger, found, tuple(left), recipe, _counts_agree(ledger, found), kept)


def of_folder(
    folder: Path, adapter: Adapter, memory: float = MEMORY, progress: Tell = silent
) -> dict[str, Any] | str:
    """The comparison of a new port, as its report stores it, or the reason why there is none.

    Args:
        folder: of the port; it is read from disk, as `verify` will read it.
        adapter: its target.
        memory: as in `reconcile`.
        progress: as in `reconcile`.
    """
    model = read_folder(folder)
    if reason := not_verified(model, memory):
        return reason
    return reconcile(model, [adapter.name], memory=memory, progress=progress).to_json()


def not_verified(model: Model, memory: float) -> str:
    """The reason why a comparison on generated inputs is too large, "" where it is not."""
    reason = why_not(model, Limits(check_memory(memory)))
    do = "allow more (memory=), or verify with smaller inputs"
    return f"not verified: that {reason}; {do}" if reason else ""


def unequal_verdict(verification: Mapping[str, Any], adapter: Adapter) -> str:
    """The worst verdict in the data of a comparison of a port that is not equal.

    A port whose outputs are equal, and whose weights or counts are not, is different.

    Args:
        verification: what `Report.to_json` returns.
        adapter: the target of the port.
    """
    found = verification["frameworks"][adapter.name]
    words = {found[dtype]["verdict"] for dtype in DTYPES}
    return next((word for word in (FAILED, DIFFERENT, UNDECIDED) if word in words), DIFFERENT)


def _slopes(
    model: Model, inputs: Sequence[Array] | None, limits: Limits
) -> tuple[Slopes | None, str]:
    """The slopes of the reference, or the reason why there are none; outputs are still compared."""
    try:
        return slopes_of(model, inputs, limits), ""
    except UsageError as error:
        return None, str(error)


def _without(part: FrameworkReport, gradients: bool, step: bool) -> FrameworkReport:
    """A framework's part for a call with gradients or steps that cannot be compared."""
    if part.missing:
        return part
    undecided = Verdict(UNDECIDED, detail="not compared, the model is too large: see below")
    unknown = {dtype: {"all": undecided} for dtype in DTYPES}
    return replace(part, gradients=unknown if gradients else {}, steps=unknown if step else {})


def _adapters(frameworks: Iterable[str] | None) -> dict[str, Adapter]:
    """The frameworks to compare, by name; some of the named ones may be missing, but not all."""
    if frameworks is None:
        every = {name: registry.adapter(name) for name in registry.frameworks()}
        return {name: adapter for name, adapter in every.items() if adapter.installed}
    names = [*frameworks] if isinstance(frameworks, Iterable) else [frameworks]
    found = {name: registry.adapter(name) for name in registry.canonicals(names)}
    for adapter in found.values():
        if not adapter.tables:
            where, got = f"framework {adapter.name}", "the reference itself"
            raise UsageError(where, "a framework to compare", got, "remove it from the list")
    if not found:
        raise UsageError("frameworks", "at least one name", "none", "name some, or drop it")
    if not any(adapter.installed for adapter in found.values()):
        next(iter(found.values())).check_installed()
    return found


def _trials(
    model: Model, inputs: Any, thorough: bool, dtypes: Sequence[str], limits: Limits
) -> tuple[list[Trial], list[str], str, generated.Recipe | None]:
    """Inputs with their bounds, pieces that they do not reach, a description, and the recipe."""
    made, allowed = None, None
    if inputs is None:
        start = fitted(model, generated.Recipe(), limits)
        (arrays, left, made), allowed = decidable_inputs(model, start, dtypes, limits.room)
        recipe = _recipe_line(made, start, limits)
    else:
        arrays = arrays_for(model, inputs)
        check_cost(model, arrays, limits)
        left, recipe = _left(model, [arrays]), "given"
    label = _label(arrays, "" if inputs is None else "given")
    unfit = out_of_range_id(model, arrays)
    trials = [trial(model, arrays, label, (), unfit, dtypes, allowed, limits.room)]
    if thorough:
        more, refused = shapes_of(model, dtypes, limits)
        trials += more
        left = _left(model, [one.arrays for one in trials], every=True) + refused
        recipe += f"; and {len(more)} more shapes"
    return trials, left, recipe, made


def _recipe_line(made: generated.Recipe, start: generated.Recipe, limits: Limits) -> str:
    """The description of generated inputs."""
    line = f"made from the model, seed {made.seed}"
    return line + (f", smaller to fit {limits}" if start != generated.Recipe() else "")


def _label(arrays: Sequence[Array], source: str = "") -> str:
    """The name of a trial: the shapes of its inputs, and their source."""
    return f"{sizes_of(arrays)} {source or f'seed {generated.SEED}'}"


def _left(model: Model, trials: Iterable[Sequence[Array]], *, every: bool = False) -> list[str]:
    """Pieces of activations that no inputs reach."""
    coverage = Coverage()
    for arrays in trials:
        run_reference(model, arrays, coverage=coverage)
    return coverage.unexercised(every)


def decidable_inputs(
    model: Model, start: generated.Recipe, dtypes: Sequence[str], room: int
) -> tuple[tuple[list[Array], list[str], generated.Recipe], Allowed]:
    """Inputs with as many steps as possible of which some can be decided, and their bounds."""
    return decidable_inputs_of_each([model], start, dtypes, room)[0]


def decidable_inputs_of_each(
    models: Sequence[Model], start: generated.Recipe, dtypes: Sequence[str], room: int
) -> list[tuple[generated.Made, Allowed]]:
    """As `decidable_inputs` for each of several models of one graph, whose runs are stacked."""
    units = {dtype: EPS[dtype] for dtype in dtypes}
    found: dict[int, tuple[generated.Made, Allowed]] = {}
    lengths = generated.shorter(start.steps) if generated.has_free_axis(models[0]) else ()
    for steps in (start.steps, *lengths):
        left = [n for n in range(len(models)) if n not in found or not _decided(found[n][1])]
        if not left:
            break
        some = [models[n] for n in left]
        made = generated.best_of_each(some, start._replace(steps=steps), room=room)
        allowed = bounds_of_each(some, [arrays for arrays, _, _ in made], units, room)
        found |= dict(zip(left, zip(made, allowed, strict=True), strict=True))
    return [found[n] for n in range(len(models))]


def _decided(allowed: Allowed) -> bool:
    """True if a step of every output can be decided."""
    return all(bound.sharp.any() for bound in allowed["float64"])


def reconcile_each(
    models: Sequence[Model],
    adapter: Adapter,
    make: Callable[[int], Maker],
    counted: Callable[[int], Ledger],
    memory: float = MEMORY,
) -> Iterator[Report]:
    """Yields what `reconcile(model, [adapter.name], memory=memory)` returns for each model.

    The runs of the reference are stacked. One framework's run fails alone.

    Args:
        models: one graph with different weights of equal shapes; its names may differ.
        adapter: the framework to compare.
        make: number of a model -> the function that builds its port.
        counted: number of a model -> its ledger for that framework.
        memory: as in `reconcile`.

    Raises:
        UsageError: a comparison would need more than `memory`.
    """
    limits = Limits(check_memory(memory))
    start = fitted(models[0], generated.Recipe(), limits)
    found = decidable_inputs_of_each(models, start, DTYPES, limits.room)
    for number, model in enumerate(models):
        (arrays, left, made), allowed = found[number]
        line = _recipe_line(made, start, limits)
        unfit = out_of_range_id(model, arrays)
        trials = [trial(model, arrays, _label(arrays), (), unfit, DTYPES, allowed, limits.room)]
        part = {adapter.name: _framework(make(number), adapter, trials, None, None, silent)}
        ledger, kept = counted(number), recipe_of(model, [arrays], made)
        agree = _counts_agree(ledger, part)
        yield Report(model, ledger, part, tuple(left), line, agree, kept)


def _inner(shown: Revealed | None, first: Trial, limits: Limits) -> tuple[Trial | None, list[str]]:
    """The first inputs for the model that returns its hidden states; or the reason why not."""
    if shown is None:
        return None, []
    try:
        check_cost(shown.model, first.arrays, limits)
    except UsageError as error:
        return None, [f"hidden states: not compared, {error.got}"]
    dtypes = list(first.allowed)
    own = trial(shown.model, first.arrays, "", shown.names, first.unfit, dtypes, room=limits.room)
    return own, []


def _framework(
    make: Maker,
    adapter: Adapter,
    trials: Sequence[Trial],
    inner: Trial | None,
    slopes: Slopes | None,
    tell: Tell,
) -> FrameworkReport:
    """One framework's verdicts; an error in it becomes its line, and the others still run."""
    if not adapter.installed:
        return _missing(adapter, trials[0].allowed)
    found = run(adapter, trials, make, tell)
    by_shape = {
        label: {dtype: worst_of(every) for dtype, every in verdicts.items()}
        for label, verdicts in found.verdicts.items()
    }
    verdicts = {
        d: worst_of([by_shape[t.label][d] for t in trials if d in t.allowed])
        for d in trials[0].allowed
    }
    layers: dict[str, dict[str, Verdict]] = {}
    if inner is not None:
        hidden = run(adapter, [inner], port_maker(inner.model, adapter), tell, ", hidden states")
        own = len(trials[0].model.outputs)
        layers = {
            dtype: {v.output or "all": v for v in every[own:] or every}
            for dtype, every in hidden.verdicts[inner.label].items()
        }
    return FrameworkReport(
        adapter.name,
        adapter.title,
        adapter.version,
        found.what if found.made else "",
        verdicts,
        found.parameters,
        found.weights,
        shapes=by_shape if len(trials) > 1 else {},
        layers=layers,
        gradients=gradients_of(trials[0].model, adapter, slopes, tell) if slopes else {},
    )


def _missing(adapter: Adapter, dtypes: Iterable[str]) -> FrameworkReport:
    """The report of a framework that the user asks for and that is not installed."""
    try:
        adapter.check_installed()
        message = ""
    except MissingFrameworkError as error:
        message = str(error)
    verdicts = {dtype: Verdict(FAILED, detail=message) for dtype in dtypes}
    return FrameworkReport(adapter.name, adapter.title, "", "", verdicts, None, missing=message)


def _counts_agree(ledger: Ledger, found: dict[str, FrameworkReport]) -> bool:
    return all(
        report.parameters is None or report.parameters == ledger.total(name)
        for name, report in found.items()
        # the original of a framework that refuses ports has parameters, and no total to compare
        if name in ledger.frameworks and ledger.total(name) is not None
    )
