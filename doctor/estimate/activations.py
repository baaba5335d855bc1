"""What one layer of a decoder holds while it runs, tensor by tensor. Pure.

It follows the modelling code of transformers (Qwen2, Llama and their like). Each tensor is (bytes, kind); the kinds are
attention, feed_forward, norms (with the residual stream). `wide` is the bytes of an element of the residual stream,
`compute` of a matrix product's.
"""

from __future__ import annotations

from doctor.estimate.settings import Settings
from doctor.estimate.shape import Shape

Sized = tuple[float, str]
ATTENTION, FEED_FORWARD, NORMS = "attention", "feed_forward", "norms"


class Layer:
    """One layer of one rank's micro-batch."""

    def __init__(self, shape: Shape, use: Settings, wide: int, compute: int, amp: bool) -> None:
        self.use, self.wide, self.compute, self.amp = use, wide, compute, amp
        tokens = use.tokens
        self.hidden = tokens * shape.hidden
        self.query, self.key = tokens * shape.heads * shape.head, tokens * shape.groups * shape.head
        self.scores = use.batch * shape.heads * use.length**2
        self.inner = tokens * (shape.shared if shape.experts else shape.inner)
        self.running = tokens * (shape.shared + shape.chosen * shape.expert_inner if shape.experts else shape.inner)
        routed = tokens * shape.chosen
        self.routed, self.routed_inner = routed * shape.hidden, routed * shape.expert_inner

    def saved(self) -> list[Sized]:
        """What it saves for its backward pass, and last, apart, its input, all that checkpointing keeps."""
        use, c, r = self.use, self.compute, self.wide
        norm = [] if use.liger else [4 * self.hidden] if r == 4 else [4 * self.hidden, c * self.hidden]
        copies = (3, 2) if self.amp else (1, 1)
        sizes: list[tuple[int, str]] = [(size, NORMS) for size in norm]
        sizes += [(c * self.hidden, ATTENTION)] * copies[0]
        sizes += [(c * size, ATTENTION) for size in (self.query, self.key, self.key, self.query)]
        sizes.append((r * self.hidden, NORMS))
        if use.eager:
            scores = [4 * self.scores, *([c * self.scores] if c == 2 else [])]
            sizes += [(size, ATTENTION) for size in (*scores, c * self.query, c * self.query)]
        sizes += [(size, NORMS) for size in norm]
        sizes += [(c * self.hidden, FEED_FORWARD)] * copies[1]
        if self.routed:
            sizes += [(c * self.routed, FEED_FORWARD)] * 2
            sizes += [(2 * c * self.routed_inner, FEED_FORWARD), *[(c * self.routed_inner, FEED_FORWARD)] * 2]
        if self.inner:
            sizes += [(c * self.inner, FEED_FORWARD)] * (3 if use.liger else 4)
        return [(float(size), kind) for size, kind in (*sizes, (r * self.hidden, "layer_inputs"))]

    def passing(self) -> tuple[list[Sized], list[Sized]]:
        """What it holds at once when nothing is saved: in its attention, then in its feed-forward part."""
        c, r = self.compute, self.wide
        norms: list[Sized] = [(4.0 * self.hidden, NORMS), (float(r * self.hidden), NORMS)]
        attention = [c * self.hidden, c * self.query, c * self.key, c * self.key, c * self.query]
        if self.use.eager:
            attention += [c * self.scores, 4 * self.scores, c * self.scores]
        forward = [c * self.hidden, *[c * self.running] * 3]
        return (
            [*norms, *((float(size), ATTENTION) for size in attention)],
            [*norms, *((float(size), FEED_FORWARD) for size in forward)],
        )

    def transient(self) -> list[Sized]:
        """What its backward pass holds beside what was saved."""
        c = self.compute
        sizes = [(float(c * self.running), FEED_FORWARD)] * 3
        if self.use.eager:
            most = (max(float(c * self.running), 4.0 * self.scores), ATTENTION)
            sizes = [most, most, (float(c * self.scores), ATTENTION)]
        return sizes
