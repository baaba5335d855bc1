"""Training steps as allocations: what PyTorch holds at each moment, played through its allocator.

What layers hold is told by activations.py, what the optimizer and ZeRO hold follows DeepSpeed's stages.
benchmarks/memory/ holds the runs that this was checked against.
All sizes are bytes; a letter `t` is the tokens of one micro-batch.
"""

from __future__ import annotations

import msgspec

from doctor.estimate.activations import NORMS, Layer, Sized
from doctor.estimate.allocator import Allocator, Block
from doctor.estimate.settings import Settings, World
from doctor.estimate.shape import Shape

_MIB = 1 << 20
WORKSPACE = 66 * _MIB  # cuBLAS workspaces
QUANTIZED = {4: 0.52, 8: 1.02}  # bytes of a weight with its scales (bitsandbytes, double quantization for 4 bits)
STEPS = 2  # the second one runs with the optimizer's states; a third is like it
# optimizer -> bytes of state for each trained element that is kept in 32 bits
_STATES = {"adam_mini": 4.0, "muon": 4.0, "adafactor": 0.02, "sgd": 0.0, "lion": 4.0, "8bit": 2.0, "paged": 2.0}
ADAM = 8.0
LOSS = "logits_and_loss"


class Peaks(msgspec.Struct, frozen=True):
    """Peaks of one played run in bytes, and whether it fitted into the capacity it was played with."""

    allocated: int
    reserved: int
    fits: bool
    held: dict[str, int]  # of `allocated`, by what it is


def optimizer_bytes(name: str) -> float:
    """Bytes of optimizer state for each trained element, for 32-bit elements."""
    return next((size for part, size in _STATES.items() if part in name), ADAM)


def trained(shape: Shape, use: Settings) -> float:
    """Elements that are trained on all ranks together."""
    if use.finetuning == "full":
        return float(shape.parameters)
    if use.finetuning == "freeze":
        return float(min(abs(use.train_layers), shape.layers) * shape.layer)
    query, key = shape.heads * shape.head, shape.groups * shape.head
    widths = 2 * (shape.hidden + query) + 2 * (shape.hidden + key)
    inner = shape.shared or (0 if shape.experts else shape.inner)
    return float(use.rank * shape.layers * (widths + 3 * (shape.hidden + inner)))


class Run:
    """One rank of a run. `play` goes through the steps and gives the peaks."""

    def __init__(self, shape: Shape, use: Settings, world: World, capacity: float = float("inf")) -> None:
        self.shape, self.use, self.world = shape, use, world
        self.memory = Allocator(capacity)
        self.ranks = world.size
        self.engine = use.deepspeed
        self.stage = use.zero.stage if use.deepspeed else 0
        self.offloaded = use.zero.optimizer in ("cpu", "nvme")
        self.full = use.finetuning == "full"
        self.amp = use.precision == "amp" and self.full
        self.wide = 4 if use.precision != "half" and self.full else 2  # bytes of the residual stream
        self.compute = 4 if use.precision == "full" and self.full else 2
        self.gradients: list[Block] = []
        self.states: list[Block] = []
        self.elements = trained(shape, use)
        self.layer = Layer(shape, use, self.wide, self.compute, self.amp)
        self.saved_sizes = self.layer.saved()

    # -- states ---------------------------------------------------------------------------------------------------------
    def load(self) -> None:
        take, shape, use = self.memory.take, self.shape, self.use
        take(WORKSPACE, "workspace")
        if shape.vision:
            split = self.ranks if self.stage == 3 or use.fsdp else 1
            take(2.0 * shape.vision / split, "weights")  # frozen, as LLaMA-Factory has it by default
        share = self.elements / self.ranks
        base = 2.0 if use.bits == 16 else QUANTIZED[use.bits]
        if self.engine:
            weights = 2.0 * shape.parameters if use.bits == 16 else self._quantized()
            if self.stage == 3:
                weights = 0 if use.zero.parameters in ("cpu", "nvme") else weights / self.ranks
            for _ in range(8):
                take(weights / 8, "weights")
            if self.offloaded and self.stage < 3:
                # for the largest gradient on its way out
                take(2 * shape.embedding if self.full else 0, "offload_buffers")
            elif not self.offloaded:
                take(4 * (share if self.stage else self.elements), "optimizer")  # the 32-bit weights
                if self.stage == 3:
                    take(2 * share, "gradients")
            if self.stage == 3 and (self.ranks > 1 or use.zero.parameters in ("cpu", "nvme")):
                take(min(2.0 * shape.parameters, 2.0 * use.live), "gathered")
            return
        if use.fsdp:
            self._load_sharded(share)
            return
        each = float(self.wide) if self.full else base
        take((self.wide if self.full else 2.0) * shape.embedding, "weights")
        for index in range(shape.layers):
            thaw = self._thaws(index)
            for weight in shape.layer_weights:
                take((4.0 if thaw and use.precision == "amp" else each) * weight, "weights")
        if not shape.tied:
            take((self.wide if self.full else 2.0) * shape.embedding, "weights")
        if not self.full and use.finetuning != "freeze":
            take(4 * self.elements, "weights")
        if self.ranks > 1:
            take(4 * self.elements, "buckets")  # DDP's buckets hold a second copy of the gradients

    def _load_sharded(self, share: float) -> None:
        """FSDP: a flat shard of each layer, 32 bits where it is trained; two layers and what lies outside them gathered."""
        shape, use = self.shape, self.use
        outside = shape.embedding * (1 if shape.tied else 2)
        if not self.offloaded:
            shard = 4.0 * share if self.full else (2.0 * shape.parameters / self.ranks + 4.0 * share)
            for _ in range(8):
                self.memory.take(shard / 8, "weights")
        gathered = 2.0 * (shape.parameters if use.fsdp == "gradients" else min(2, shape.layers) * shape.layer + outside)
        self.memory.take(gathered, "gathered")

    def _quantized(self) -> float:
        embedded = self.shape.embedding * (1 if self.shape.tied else 2)
        return 2.0 * embedded + QUANTIZED[self.use.bits] * (self.shape.parameters - embedded)

    # -- what layers hold -----------------------------------------------------------------------------------------------
    def _thaws(self, index: int) -> bool:
        """Whether freeze tuning trains that layer: the last ones, or the first ones where their number is negative."""
        count = self.use.train_layers
        return self.use.finetuning == "freeze" and (index < -count if count < 0 else index >= self.shape.layers - count)

    def _saves(self, index: int) -> bool:
        """Whether gradients pass through it."""
        return self.use.finetuning != "freeze" or self.use.train_layers < 0 or self._thaws(index)

    def _takes(self, sizes: list[float], kind: str) -> list[Block]:
        return [self.memory.take(size, kind) for size in sizes]

    def _takes_each(self, sizes: list[Sized]) -> list[Block]:
        return [self.memory.take(size, kind) for size, kind in sizes]

    def _gives(self, blocks: list[Block]) -> None:
        for block in reversed(blocks):
            self.memory.give(block)
        blocks.clear()

    # -- one micro-batch ------------------------------------------------------------------------------------------------
    def micro(self, first: bool) -> None:
        memory, shape, use, t = self.memory, self.shape, self.use, self.use.tokens
        outside = self._takes([float(self.wide * t * shape.hidden)], NORMS)
        if use.mask_bytes:
            outside.append(memory.take(use.mask_bytes * use.batch * use.length**2, "attention_mask"))
        casts: list[Block] = []
        kept: list[list[Block]] = []
        for index in range(shape.layers):
            cast = [2.0 * weight for weight in shape.layer_weights] if self.amp else []
            if not self._saves(index):
                for part in self.layer.passing():
                    self._gives(self._takes_each(part))
                kept.append([])
            elif use.checkpointing:
                for part in self.layer.passing():
                    passing = self._takes_each(part)
                    casts += self._takes(cast, "casts")
                    cast = []
                    self._gives(passing)
                kept.append(self._takes_each(self.saved_sizes[-1:]))
                if use.inputs_on_host:
                    self._gives(kept[-1])
            else:
                kept.append([*self._takes(cast, "casts"), *self._takes_each(self.saved_sizes)])
        head = self._takes([2.0 * shape.embedding], "casts") if self.amp else []
        hidden = float(t * shape.hidden)
        tail = self._takes([4 * hidden, 4 * hidden if self.amp else 2 * hidden, 2 * hidden], NORMS)
        loss = self._loss(casts)
        self._loss_backward(loss, first)
        self._gives(head)
        self._gives(tail)
        for index in reversed(range(shape.layers)):
            if self._saves(index):
                self._layer_backward(kept[index], first, self._thaws(index))
        if self.full:
            size = (4.0 if self.wide == 4 else 2.0) * shape.embedding
            if shape.tied or self.stage == 3 or self.offloaded or use.fsdp or not first:
                self._gives(self._takes([size] * (2 if self.engine and self.stage < 3 else 1), "gradients"))
            else:
                self.gradients.append(memory.take(self._held(size), "gradients"))
        self._gives(outside)

    def _loss(self, casts: list[Block]) -> list[Block]:
        """Logits and loss; gives what is held until the backward pass."""
        memory, shape, use, t = self.memory, self.shape, self.use, self.use.tokens
        logits = float(t * shape.vocabulary)
        if use.liger:
            held = self._takes([4.0 * shape.embedding, 2.0 * shape.embedding] if self.full else [], "gradients")
            parts = -(-shape.vocabulary // shape.hidden)
            rows = 1 << max(0, (-(-t // parts) - 1).bit_length())
            self._gives(self._takes([2.0 * rows * shape.vocabulary, 4.0 * rows * shape.vocabulary] * 2, LOSS))
            self._gives(casts)
            return [*held, memory.take(self.compute * t * shape.hidden, LOSS)]
        if self.compute == 4:
            first, result = memory.take(4 * logits, LOSS), memory.take(4 * logits, LOSS)
            self._gives(casts)
            memory.give(first)
            return [result]
        narrow, wide = memory.take(2 * logits, LOSS), memory.take(4 * logits, LOSS)
        result = memory.take(4 * logits, LOSS)
        memory.give(wide)
        self._gives(casts)
        if self.engine or use.precision == "full" or (use.precision == "half" and self.full and not use.fsdp):
            memory.give(narrow)
        else:  # accelerate hands out 32-bit copies of what autocast computed
            copy = memory.take(4 * logits, LOSS)
            memory.give(narrow)
            memory.give(copy)
        return [result]

    def _loss_backward(self, loss: list[Block], first: bool) -> None:
        memory, shape, use = self.memory, self.shape, self.use
        logits = float(use.tokens * shape.vocabulary)
        if not use.liger:
            chosen, wide = memory.take(4 * logits, LOSS), memory.take(4 * logits, LOSS)
            memory.give(chosen)
            self._gives(loss)
            if self.compute == 2:
                narrow = memory.take(2 * logits, LOSS)
                memory.give(wide)
                wide = narrow
            self._weight_gradient(shape.embedding if self.full else 0, first)
            self._gives(self._takes([float(self.compute * use.tokens * shape.hidden)], NORMS))
            memory.give(wide)
        else:
            self._weight_gradient(shape.embedding if self.full else 0, first)
            self._gives(loss)

    def _layer_backward(self, kept: list[Block], first: bool, thawed: bool) -> None:
        use = self.use
        again: list[Block] = []
        if use.checkpointing:
            cast = [2.0 * weight for weight in self.shape.layer_weights] if self.amp else []
            again = [*self._takes(cast, "casts"), *self._takes_each(self.saved_sizes)]
        self._gives(self._takes_each(self.layer.transient()))
        if self.full or thawed:
            for weight in reversed(self.shape.layer_weights):
                self._weight_gradient(weight, first)
        self._gives(again)
        self._gives(kept)

    def _held(self, size: float) -> float:
        """Of a weight's gradient, what stays until the optimizer's step."""
        if self.stage == 2 or self.use.fsdp:
            return size / self.ranks
        return size

    def _weight_gradient(self, elements: int, first: bool) -> None:
        if not elements:
            return
        fresh = self.memory.take(2.0 * elements, "gradients")
        if self.stage == 3 or self.offloaded:
            self.memory.give(fresh)  # goes into the partition, on the card or on the host
        elif self.use.fsdp:
            if first:
                self.gradients.append(self.memory.take(self._held(4.0 * elements), "gradients"))
            self.memory.give(fresh)
        elif self.wide == 4 and not self.engine:
            wide = self.memory.take(4.0 * elements, "gradients")
            self.memory.give(fresh)
            if first:
                self.gradients.append(wide)
            else:
                self.memory.give(wide)
        elif first and self.stage != 2:
            self.gradients.append(fresh)
        else:
            if first:
                self.gradients.append(self.memory.take(self._held(2.0 * elements), "gradients"))
            self.memory.give(fresh)

    # -- one step ---------------------------------------------------------------------------------------------------------
    def step(self) -> None:
        bucket = [2.0 * min(self.use.bucket, self.elements)] if self.stage in (1, 2) and self.full else []
        self._gives(
            self._takes(bucket, "buckets")
        )  # it is reserved before the first micro-batch and kept by the allocator
        for number in range(min(self.use.accumulation, 2)):
            self.micro(number == 0)
        share = self.elements / (self.ranks if self.stage or self.use.fsdp else 1)
        lacking = not self.states and not self.offloaded
        if lacking and self.stage == 3:  # ZeRO-3 makes them before it widens the gradients, the other stages after
            self._first_states(share)
        temporary: list[Block] = []
        if self.engine and not self.offloaded:
            part = min(share, self.use.sub_group) if self.stage == 3 else share
            temporary = self._takes([2.0 * part, 4.0 * part], "step")
        if lacking and self.stage != 3:
            self._first_states(share)
        if not self.engine and self.use.optimizer == "adamw_torch" and self.full and not self.use.fsdp:
            all_of_them = [4.0 * w for _ in range(self.shape.layers) for w in self.shape.layer_weights]
            temporary += self._takes(all_of_them, "step")
        self._gives(temporary)
        self._gives(self.gradients)

    def _first_states(self, share: float) -> None:
        narrow = self.use.precision == "half" and not self.engine and not self.use.fsdp
        each = optimizer_bytes(self.use.optimizer) * (0.5 if narrow else 1.0)
        if not self.full:
            each = ADAM
        if self.engine or self.use.fsdp or not self.full:
            self.states = self._takes([each / 2 * share] * 2, "optimizer")
            return
        dense = ADAM if "8bit" in self.use.optimizer else each  # bitsandbytes keeps those of embeddings in 32 bits
        states = [dense * self.shape.embedding]
        states += [each * weight for _ in range(self.shape.layers) for weight in self.shape.layer_weights]
        states += [] if self.shape.tied else [dense * self.shape.embedding]
        for size in states:
            self.states += self._takes([size / 2] * 2, "optimizer")

    def play(self, steps: int = STEPS) -> Peaks:
        self.load()
        for _ in range(steps):
            self.step()
        memory = self.memory
        return Peaks(memory.peak, memory.peak_reserved, not memory.failed, memory.at_peak)
