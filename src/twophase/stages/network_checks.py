"""What a network must do for its measurements to be true, tried on a few images.

The stages would not notice these faults, or not know the layer. Each trial raises `RunError` with
the layer and the remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from twophase.entk import KernelError, entk
from twophase.errors import RunError
from twophase.stages.network_starts import check_apart, check_gradients_dense, check_switches
from twophase.study.run import Run
from twophase.training import loop, switches
from twophase.training.attention import plain_attention
from twophase.training.batches import Data
from twophase.training.layer_calls import Call, described, layer_called, origin, recorded
from twophase.training.loop import State, advance, initial_state
from twophase.training.tasks import CLASSIFICATION
from twophase.training.tensors import bits, others, trained

ROUNDING = 1e-3  # of the largest entry: more is no rounding


def two_steps(run: Run, data: Data, images: torch.Tensor) -> State:
    """The state after two steps.

    Raises `RunError` if logits or gradients cannot be used, or if a network that reads a state does
    not go on as the one that came to it by itself, bit for bit.
    """
    before = switches.read()
    _check_tensors(run, data)
    one, other = (initial_state(run.model, data, run.seed) for _ in range(2))
    if different := _different(one, other):
        raise RunError(
            f"{different}: starts from other values in each network of the same seed; draw them "
            "from torch's generator"
        )
    # Twice in training: what counts calls, or draws from a generator of its own, is then ahead of
    # the other network.
    for mode in (False, True, True):
        _check_logits(other.model, images, data, mode)
        check_switches(before, other.model)
    first, still = _copies(one), _copies(other)
    with recorded(one.model) as calls:
        try:
            advance(one, run, data, 1)
        except RuntimeError:
            check_gradients_dense(other.model, images)
            raise
    check_apart(other, still)
    check_switches(before, one.model)
    _check_finite(one.model, calls)
    _check_gradients(one.model)
    _check_moved(one.model, first)
    _check_random(one.model, calls, training=True)
    kept = _copies(one)
    with recorded(one.model) as calls:
        advance(one, run, data, 2)
    _read(other, kept, 1)
    with recorded(other.model) as again:
        advance(other, run, data, 2)
    _check_same(one, other, calls, again)

    _, calls = _evaluate(one.model, images)
    _check_random(one.model, calls, training=False)
    _evaluate(other.model, images)
    _read(other, kept, 1)
    _evaluate(other.model, images)
    _read(other, _copies(one), 2)
    _, again = _evaluate(other.model, images)
    _check_same(one, other, calls, again)
    return one


def _check_tensors(run: Run, data: Data) -> None:
    """Raise `RunError` if parameters or buffers are such as no state can hold or train."""
    model = loop.build(run.model.network, data.channels, data.classes)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        layer, _, role = name.rpartition(".")
        if is_lazy(tensor):
            what = "has no size yet; give the layer its sizes, or let the builder run it once"
        elif tensor.layout != torch.strided or tensor.is_quantized:
            what = "is sparse or quantized; keep it dense (to_dense, dequantize)"
        elif tensor.dtype.is_floating_point and tensor.dtype.itemsize < 2:
            what = f"is {tensor.dtype}, which cannot be averaged; keep it in 16 bits or more"
        elif tensor.is_complex() and tensor.requires_grad:
            what = (
                "is a complex parameter; keep real and imaginary parts as real parameters, and "
                "join them with torch.complex"
            )
        else:
            continue
        raise RunError(f"{described(model, layer)}: {role} {what}")
    if not trained(model):
        raise RunError(
            f"{described(model, '')}: no parameter requires gradients, so none is trained"
        )


def two_examples(
    model: nn.Module, images: torch.Tensor, kind: str, outputs: nn.Module | None = None
) -> None:
    """The kernel of two examples, of the network or of what gives the `outputs` that it is of.

    Raises `RunError` if it is not finite, or if the logits of an example depend on others.
    """
    _, calls = _evaluate(model, images)
    _, beside = _evaluate(model, torch.cat([images[:1], others(images[1:])]))

    def first_differs(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
        pairs = zip(ours, theirs, strict=False)
        return any(_far(a[0], b[0]) for a, b in pairs if a.dim() and len(a) == len(images))

    if first_differs(calls[-1].outputs, beside[-1].outputs):
        layer = origin(
            (a.layer, first_differs(a.inputs, b.inputs), first_differs(a.outputs, b.outputs))
            for a, b in zip(calls, beside, strict=False)
        )
        raise RunError(
            f"{described(model, layer)}: gives for one example what depends on the others of its "
            "batch, also in eval mode; batch norm needs running statistics "
            "(track_running_stats=True)"
        )
    try:
        kernel = entk(outputs or model, images[:2], kind=kind)
    except KernelError as error:
        raise RunError(
            f"{described(model, '')}: {error}; mend the network, or do without this stage: "
            "`kernel: false`"
        ) from None
    if not kernel.isfinite().all():
        raise RunError("the kernel of two examples is not finite; look for infinite derivatives")
    if not kernel.any():
        raise RunError(
            f"{described(model, '')}: the kernel of two examples is zero: every derivative of the "
            "logits is, as those of round and sign; mend the network, or do without this stage: "
            "`kernel: false`"
        )


def second_derivatives(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    mean_loss: Callable = CLASSIFICATION.loss,
) -> None:
    """Raise `RunError` if the loss has none. PyTorch gives wrong ones, without a word, for a
    function that is marked with `once_differentiable` (2.15, where `inputs` are given to `grad`).
    """
    model.train()
    with plain_attention():
        loss = mean_loss(model(images), labels)
    parameters = list(trained(model).values())
    gradients = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
    if _once(gradients):
        raise RunError(
            f"{described(model, underivable(model, images))}: is once_differentiable, so the loss "
            "has no curvature; write a derivative that has one, or do without this stage: "
            "`curvature: false`"
        )


def _once(gradients: Iterable[torch.Tensor]) -> bool:
    """Whether the graph behind gradients has what `once_differentiable` puts there."""
    seen, todo = {None}, [gradient.grad_fn for gradient in gradients]
    while todo:
        node = todo.pop()
        if node not in seen:
            if node.name() == "torch::autograd::Error":
                return True
            seen.add(node)
            todo += [child for child, _ in node.next_functions]
    return False


def underivable(model: nn.Module, images: torch.Tensor) -> str | None:
    """The layer whose derivative, or else second derivative, cannot be computed even alone."""
    model.train()
    with recorded(model) as calls:
        model(images)
    for order in (1, 2):
        for layer, inputs, *_ in calls:
            if len(inputs) == 1 and _fails(layer_called(model, layer), inputs[0].clone(), order):
                return layer
    return None


def _fails(layer: nn.Module, x: torch.Tensor, order: int) -> bool:
    """Whether a layer gives an output for x alone, but not its first or second derivative."""
    try:
        with plain_attention():  # as the stages that ask for second derivatives
            out = layer(x.requires_grad_().clone())  # it may change what it takes, but no leaf
    except Exception:  # more is missing
        return False
    if not (isinstance(out, torch.Tensor) and out.requires_grad):
        return False
    try:
        again = order == 2
        options = {"materialize_grads": True, "create_graph": again}
        (gradient,) = torch.autograd.grad(out.square().sum(), x, **options)
        if again and gradient.requires_grad:
            torch.autograd.grad(gradient.sum(), x, materialize_grads=True)
    except Exception:
        return True
    return again and _once([gradient])


def tangents(model: nn.Module, images: torch.Tensor, linear_logits: Callable) -> None:
    """Raise `RunError` unless J(x) v is the derivative that J(x)^T u is: <u, J v> = <J^T u, v>.

    `linear_logits(model, v, images)` gives the logits with their graph, and J(x) v.
    """
    generator = torch.Generator().manual_seed(0)

    def noise(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator).to(like)

    offset = {name: noise(p) for name, p in trained(model).items()}
    primal, tangent = linear_logits(model, offset, images)
    u = noise(primal)
    pulled = torch.autograd.grad(primal, list(trained(model).values()), u, materialize_grads=True)
    ahead = float((u * tangent).double().sum())
    back = sum(float((g * v).double().sum()) for g, v in zip(pulled, offset.values(), strict=True))
    size = float((u * tangent).double().norm()) * 10 + abs(back)
    if not abs(ahead - back) <= ROUNDING * size:
        raise RunError(
            f"{described(model, underivable(model, images))}: the derivative along a direction is "
            f"{ahead:.4g} where gradients say {back:.4g}; give functions of your own a `jvp`, or "
            "do without this stage: `linearized: false`"
        )


def _evaluate(
    model: nn.Module, images: torch.Tensor, training: bool = False
) -> tuple[object, list[Call]]:
    """What a network gives, in eval mode or else in training, and the calls of its layers."""
    model.train(training)
    with torch.no_grad(), recorded(model) as calls:
        return model(images), calls


def _check_logits(model: nn.Module, images: torch.Tensor, data: Data, training: bool) -> None:
    """Raise `RunError` unless the network gives finite logits (n, classes), or what else the task
    needs.
    """
    out, calls = _evaluate(model, images, training)
    needed, classes = data.task.shape, data.classes
    wanted = needed(len(images), classes, images.shape[1]) if needed else None
    if not isinstance(out, torch.Tensor):
        raise RunError(
            f"{described(model, '')}: gives a {type(out).__name__}{' in training' * training}; "
            f"return only the logits, a tensor{f' {wanted}' * bool(wanted)} for {len(images)} "
            "images"
        )
    if wanted and out.shape != wanted:
        # The last layer that gives it.
        layers = [call.layer for call in calls if [t.shape for t in call.outputs] == [out.shape]]
        raise RunError(
            f"{described(model, (layers or [''])[0])}: the output of {len(images)} images is "
            f"{tuple(out.shape)}, not {wanted}: give the last layer as many outputs as "
            f"the builder's argument `classes` says, {classes}"
        )
    _check_finite(model, calls)


def _check_finite(model: nn.Module, calls: list[Call]) -> None:
    """Raise `RunError` if the last call, the network's own, gives NaN or infinity."""

    def has(tensors: list[torch.Tensor], test: Callable) -> bool:
        return any(bool(test(tensor).any()) for tensor in tensors)

    def first(test: Callable) -> str | None:
        return origin((c.layer, has(c.inputs, test), has(c.outputs, test)) for c in calls)

    given = calls[-1].outputs
    if has(given, torch.isnan):
        name, layer = "NaN", first(torch.isnan)
        if any(has(call.inputs, torch.isinf) for call in calls if call.layer == layer):
            name, layer = "infinity", first(torch.isinf)
    elif has(given, torch.isinf):
        name, layer = "infinity", first(torch.isinf)
    else:
        return
    raise RunError(
        f"{described(model, layer)}: gives {name} at iteration 0; look for divisions by 0, "
        "logarithms, roots and overflow, and for parameters that are not initialised"
    )


def _check_gradients(model: nn.Module) -> None:
    """Raise `RunError` if a step has left a parameter that is not finite."""
    infinite = [name for name, p in trained(model).items() if not p.isfinite().all()]
    if infinite:
        # Gradients go backwards: the last is nearest to where it arises.
        layer, _, role = infinite[-1].rpartition(".")
        raise RunError(
            f"{described(model, layer)}: the gradient of {role} is not finite, although the loss "
            "is; look for derivatives that do not exist, such as that of a root at 0"
        )


def _check_moved(model: nn.Module, before: dict[str, torch.Tensor]) -> None:
    """Raise `RunError` if a step has changed no parameter at all."""
    if not any(_differ([p], [before[f"model.{name}"]]) for name, p in trained(model).items()):
        raise RunError(
            f"{described(model, '')}: the first step changes no parameter: no gradient reaches "
            "them (torch.utils.checkpoint with use_reentrant=True?), or training.lr is too small"
        )


def _check_random(model: nn.Module, calls: list[Call], training: bool) -> None:
    """Raise `RunError` if a layer has drawn random numbers that base run and forks do not share:
    they share those of PyTorch in training (`noise.py`).
    """
    for call in calls:
        drawn = [name for name in call.drawn if not (training and name.startswith("torch"))]
        if drawn:
            remedy = "draw them from torch's generator" if training else "draw only in training"
            raise RunError(
                f"{described(model, call.layer)}: draws random numbers ({', '.join(drawn)}) "
                f"{'in training' if training else 'in eval mode'}, and a fork without perturbation "
                f"would not equal its base run; {remedy}, as nn.Dropout does"
            )


def _check_same(one: State, other: State, calls: list[Call], again: list[Call]) -> None:
    """Raise `RunError` if two networks did other things from the same state and images."""
    layer = origin(
        (a.layer, a.layer != b.layer or _differ(a.inputs, b.inputs), _differ(a.outputs, b.outputs))
        for a, b in zip(calls, again, strict=False)
    )
    different = _different(one, other)
    if layer is None and not different:
        return
    where = different if layer is None else described(one.model, layer)
    raise RunError(
        f"{where}: gets other bits from the same state and images: something is not deterministic, "
        "or changes its images in place, or keeps values that are no parameters or buffers; keep "
        "these with register_buffer"
    )


def _differ(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    """Whether one bit differs."""
    if [(t.shape, t.dtype) for t in ours] != [(t.shape, t.dtype) for t in theirs]:
        return True
    return not all(torch.equal(bits(a), bits(b)) for a, b in zip(ours, theirs, strict=True))


def _far(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether tensors differ by more than rounding."""
    if ours.shape != theirs.shape:
        return True
    ours, theirs = (t.to(torch.complex128) for t in (ours, theirs))  # whatever they are
    return bool(((ours - theirs).abs() > ROUNDING * ours.abs().max()).any())


def _different(one: State, other: State) -> str | None:
    """The last tensor in which two states differ by a bit: gradients go backwards, so it is the
    nearest to where they part.
    """
    theirs = other.tensors()
    names = [name for name, ours in one.tensors().items() if _differ([ours], [theirs[name]])]
    return names[-1].partition(".")[2] if names else None


def _copies(state: State) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in state.tensors().items()}


@torch.no_grad()
def _read(state: State, tensors: dict[str, torch.Tensor], step: int) -> None:
    """Bring a network to a state as the stages do that read it from a file."""
    for name, tensor in state.tensors().items():
        tensor.copy_(tensors[name])
    state.step = step
