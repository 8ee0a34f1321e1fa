"""Naive simulator of a fleet: the same rules in plain lists, everything counted anew at every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from asymsim.core.serving.layout import EVENTS
from asymsim.serving.config import ClusterConfig, EngineConfig
from oracles.plain_classes import BLOCK, TICKS_PER_S, Classes, RequestClass
from oracles.plain_limits import limits
from oracles.plain_pace import PlainPace, at_number

WHOLE, ENCODES, PREFILLS, DECODES = range(4)


@dataclass
class Request:
    """One request, its class, and how far it has come."""

    index: int
    arrival: int
    kind: RequestClass
    image: object
    entry_bytes: list[int]
    generated: int = 0
    goal: int = 0
    shared: int = 0
    computed: int = 0
    chunk: int | None = None
    blocks_bytes: int = 0

    def bytes_at(self, generated: int, block: int = BLOCK) -> int:
        """Cache after so many generated tokens, in whole blocks a head."""
        entries = [cache.blocks(generated, block) for cache in self.kind.caches]
        return sum(number * size for number, size in zip(entries, self.entry_bytes, strict=True))

    def prompt_bytes(self, generated: int) -> int:
        """All of the prompt and so many generated tokens, nothing dropped but what a window forgets."""
        entries = [cache.whole_blocks(generated) for cache in self.kind.caches]
        return sum(number * size for number, size in zip(entries, self.entry_bytes, strict=True))


@dataclass
class Replica:
    """One engine: who waits, who runs, what is in its encoder cache."""

    index: int
    role: int
    sends_until: int = 0
    waiting: list[Request] = field(default_factory=list)
    running: list[Request] = field(default_factory=list)
    guests: list[Request] = field(default_factory=list)
    start: int = 0
    steps: int = 0
    ends: int | None = None
    other: int = 0
    in_use: dict[object, tuple[int, int]] = field(default_factory=dict)
    unused: dict[object, tuple[int, int]] = field(default_factory=dict)
    queue: list[tuple[int, object]] = field(default_factory=list)

    def used_bytes(self) -> int:
        """Cache that running requests and those on their way out hold."""
        return sum(each.blocks_bytes for each in self.running + self.guests)


class PlainFleet:
    """The simulation; `run` gives the event log as tuples."""

    def __init__(self, classes: Classes, server: EngineConfig, fleet: ClusterConfig) -> None:
        self.classes, self.limits, self.timing = classes, limits(classes, server, fleet), PlainPace(classes)
        pools = fleet.replicas, fleet.encoder_replicas, fleet.prefill_replicas, fleet.decode_replicas
        roles = [role for role, number in enumerate(pools) for _ in range(number)]
        self.replicas = [Replica(at, role) for at, role in enumerate(roles)]
        bits = classes.precision.kv_bits
        entry_bytes = [2 * group.kind.head_size * bits // 8 * group.layers for group in classes.groups]
        asked, self.requests = classes.requests, list[Request]()
        for at, arrival_s in enumerate(asked.arrival_s.tolist()):
            kind, image = classes.of(at), int(asked.image_of[at])
            content = ("own", at) if image < 0 else (image, kind.encoder_tokens)
            self.requests.append(Request(at, round(arrival_s * TICKS_PER_S), kind, content, entry_bytes))
        self.turns = [0, 0, 0, 0]
        self.moving: list[tuple[int, Request, Replica]] = []
        self.log: list[tuple[int, str, int, int, int, int]] = []
        self.in_flight = 0
        self.now = 0

    def pool(self, role: int) -> list[Replica]:
        return [each for each in self.replicas if each.role == role]

    def note(self, ticks: int, kind: str, request: int, replica: int, value: int = 0, duration: int = 0) -> None:
        self.log.append((ticks, kind, request, replica, int(value), int(duration)))

    def run(self) -> list[tuple[int, str, int, int, int, int]]:
        """Serve all requests."""
        to_come = list(self.requests)
        while True:
            free = self.limits.concurrency == 0 or self.in_flight < self.limits.concurrency
            arrival = max(to_come[0].arrival, self.now) if to_come and free else None
            moves = [(ticks, request.index, request, source) for ticks, request, source in self.moving]
            ends = [(each.ends, each.index, each) for each in self.replicas if each.ends is not None]
            soonest = min([each[0] for each in moves + ends], default=None)
            if arrival is not None and (soonest is None or arrival <= soonest):
                self.now = arrival
                self.send(to_come.pop(0))
            elif soonest is None:
                return self.log
            else:
                self.now = soonest
                due = sorted((each for each in moves if each[0] == soonest), key=lambda each: each[1])
                if due:
                    _, _, request, source = due[0]
                    self.moving = [each for each in self.moving if each[1] is not request]
                    self.receive(request, source)
                else:
                    replica = min((each for each in ends if each[0] == soonest), key=lambda each: each[1])[2]
                    if replica.steps > 0:
                        self.end(replica)
                    self.begin(replica)

    def send(self, request: Request) -> None:
        last = request.kind.output - 1
        largest = request.bytes_at(last)
        if request.kind.splits:
            largest = max(largest, request.prompt_bytes(last))
        large = largest > self.limits.kv_capacity
        if request.kind.context > self.limits.context or large:
            why = 1 if request.kind.context > self.limits.context else 2
            self.note(self.now, "reject", request.index, -1, why)
            return
        self.in_flight += 1
        request.goal = request.kind.prompt
        if self.pool(WHOLE):
            self.enqueue(request, WHOLE)
        elif self.pool(ENCODES) and request.kind.encoder_tokens > 0:
            self.enqueue(request, ENCODES)
        else:
            self.enqueue(request, PREFILLS)

    def receive(self, request: Request, source: Replica) -> None:
        if source.role == ENCODES:
            self.enqueue(request, PREFILLS)
            return
        source.guests.remove(request)
        request.blocks_bytes = 0
        if source.waiting and source.ends is None:
            source.start, source.steps, source.ends = self.now, 0, self.now
        self.enqueue(request, DECODES)

    def enqueue(self, request: Request, role: int) -> None:
        pool = self.pool(role)
        if self.limits.router == "round_robin":
            replica = pool[self.turns[role] % len(pool)]
            self.turns[role] += 1
        else:
            replica = min(pool, key=lambda each: 4 * len(each.waiting) + len(each.running))
        self.note(self.now, "arrive", request.index, replica.index, role)
        alone = not replica.waiting
        replica.waiting.append(request)
        if replica.ends is None:
            replica.start, replica.steps, replica.ends = self.now, 0, self.now
        elif alone and replica.steps > 1 and len(replica.running) < self.limits.max_seqs:
            planned = replica.ends - replica.start
            steps = max(1, -(-(self.now - replica.start) // max(1, planned // replica.steps)))
            while steps < replica.steps and replica.start + self.timing.ticks(replica.running, steps) < self.now:
                steps += 1
            if steps < replica.steps:
                self.stretch(replica, replica.start, steps)

    def begin(self, replica: Replica) -> None:
        preempted = False
        for each in replica.running:
            each.chunk = 0 if each.computed == each.goal else None
        while replica.running and self.bytes_after(replica, 1) > self.limits.kv_capacity:
            self.preempt(replica)
            preempted = True
        self.reserve(replica, 1)
        room = max(0, self.limits.max_tokens - sum(each.chunk == 0 for each in replica.running))
        encoder_left, prompts, replica.other = self.limits.encoder_budget, 0, 0
        for each in replica.running:
            if each.chunk is None and room > 0:
                each.chunk = min(each.goal - each.computed, room)
                room -= each.chunk
                prompts += 1
        encoded: list[tuple[int, ...]] = []
        while not preempted and replica.waiting and len(replica.running) < self.limits.max_seqs and room > 0:
            request = replica.waiting[0]
            prefilled = request.computed == request.goal
            sees = request.kind.encoder_tokens > 0 and not prefilled
            own_cache = sees and self.has_encoder_cache(replica)
            fresh = own_cache and request.image not in replica.in_use and request.image not in replica.unused
            fresh = fresh or (sees and replica.role == DECODES)
            tokens = request.kind.encoder_tokens
            if fresh and tokens > encoder_left and encoder_left < self.limits.encoder_budget:
                break
            held = sum(each for _, each in replica.in_use.values())
            if fresh and own_cache and held > 0 and held + tokens > self.limits.encoder_cache:
                break
            chunk = shared = need = 0
            if replica.role != ENCODES:
                if not prefilled:
                    shared = int(self.limits.prefix_share * request.goal) // BLOCK * BLOCK
                    shared = min(shared, request.goal - 1)
                    chunk = request.goal - shared
                    if chunk > room and request.kind.splits:
                        chunk = room
                    elif chunk > room and prompts > 0:
                        break
                need = request.bytes_at(request.generated)
                if not prefilled and shared + chunk < request.goal:
                    need = max(need, request.prompt_bytes(request.generated))
                if replica.used_bytes() + need > self.limits.kv_capacity:
                    break
                if not prefilled:
                    request.shared = request.computed = shared
            replica.running.append(replica.waiting.pop(0))
            request.chunk, request.blocks_bytes = chunk, need
            if own_cache:
                self.use_image(replica, request)
            if fresh:
                encoder_left = max(0, encoder_left - tokens)
                encoded.append(request.kind.images)
                row, like = self.classes.encoder(encoded[-1]), encoded.count(encoded[-1])
                ticks = at_number(row, like) - (at_number(row, like - 1) if like > 1 else 0)
                replica.other += ticks
                self.note(self.now, "encode", request.index, replica.index, tokens, ticks)
            self.note(self.now, "schedule", request.index, replica.index, chunk)
            room -= max(1, chunk)
            prompts += chunk > 0
        if not replica.running:
            replica.ends = None
            return
        steps = 1
        if prompts == 0 and replica.role != ENCODES and not (preempted and replica.waiting):
            steps = min(each.kind.output - each.generated for each in replica.running)
            while steps > 1 and self.bytes_after(replica, steps) > self.limits.kv_capacity:
                steps -= 1
        choosing = []
        for each in replica.running:
            through = each.chunk and each.computed + each.chunk == each.goal
            elsewhere = each.kind.early and replica.role != DECODES and self.pool(ENCODES)
            if (elsewhere and replica.role == ENCODES) or (through and not elsewhere and replica.role != ENCODES):
                choosing.append(each.kind)
        replica.other += sum(self.timing.share(kind, 0, len(choosing), kind.selection_ticks) for kind in choosing)
        self.stretch(replica, self.now, steps)

    def stretch(self, replica: Replica, start: int, steps: int) -> None:
        if replica.role == ENCODES:
            ticks = self.classes.host_ticks
        else:
            self.reserve(replica, steps)
            ticks = self.timing.ticks(replica.running, steps)
        replica.start, replica.steps, replica.ends = start, steps, start + replica.other + ticks

    def bytes_after(self, replica: Replica, steps: int) -> int:
        return sum(each.blocks_bytes for each in replica.guests) + sum(
            each.bytes_at(each.generated - 1 + steps) if each.chunk == 0 else each.blocks_bytes
            for each in replica.running
        )

    def reserve(self, replica: Replica, steps: int) -> None:
        for each in replica.running:
            if each.chunk == 0:
                each.blocks_bytes = each.bytes_at(each.generated - 1 + steps)

    def preempt(self, replica: Replica) -> None:
        request = replica.running.pop()
        request.blocks_bytes = 0
        if request.computed < request.goal and self.has_encoder_cache(replica) and request.kind.encoder_tokens:
            self.leave_image(replica, request)
        request.goal, request.computed = request.kind.prompt + request.generated, 0
        replica.waiting.insert(0, request)
        self.note(self.now, "preempt", request.index, replica.index, request.generated)

    def end(self, replica: Replica) -> None:
        ticks = self.now - replica.start
        self.note(replica.start, "step", -1, replica.index, replica.steps, ticks)
        for request in list(replica.running):
            images = request.kind.encoder_tokens > 0 and self.has_encoder_cache(replica)
            if replica.role == ENCODES:
                self.leave_image(replica, request)
                self.move(replica, request, request.kind.embedding_bytes)
                continue
            if request.chunk == 0:
                request.generated += replica.steps
            elif request.chunk:
                request.computed += request.chunk
                if request.computed == request.goal:
                    request.blocks_bytes = request.bytes_at(request.generated)
                    if images:
                        self.leave_image(replica, request)
                    request.generated += 1
                    if request.generated == 1:
                        self.note(self.now, "first_token", request.index, replica.index)
            if request.generated == request.kind.output:
                replica.running.remove(request)
                request.blocks_bytes = 0
                self.in_flight -= 1
                self.note(self.now, "finish", request.index, replica.index)
            elif replica.role == PREFILLS and request.computed == request.goal:
                self.move(replica, request, request.bytes_at(0, block=1))
                replica.guests.append(request)

    def move(self, replica: Replica, request: Request, moved_bytes: int) -> None:
        replica.running.remove(request)
        moving = int(moved_bytes * self.limits.ticks_per_byte)
        replica.sends_until = max(self.now, replica.sends_until) + moving
        arrival = replica.sends_until + self.limits.transfer_ticks
        self.note(self.now, "transfer", request.index, replica.index, moved_bytes, arrival - self.now)
        self.moving.append((arrival, request, replica))

    def has_encoder_cache(self, replica: Replica) -> bool:
        return replica.role in (WHOLE, ENCODES) or (replica.role == PREFILLS and not self.pool(ENCODES))

    def use_image(self, replica: Replica, request: Request) -> None:
        users, tokens = replica.in_use.get(request.image, (0, request.kind.encoder_tokens))
        replica.unused.pop(request.image, None)
        replica.in_use[request.image] = users + 1, tokens
        self.evict(replica)

    def leave_image(self, replica: Replica, request: Request) -> None:
        users, tokens = replica.in_use.pop(request.image)
        if users > 1:
            replica.in_use[request.image] = users - 1, tokens
            return
        # What one request leaves a second time, while its first entry still stands in line, keeps that place.
        replica.unused[request.image] = request.index, tokens
        if request.index not in [index for index, _ in replica.queue]:
            replica.queue.append((request.index, request.image))
        self.evict(replica)

    def evict(self, replica: Replica) -> None:
        def total() -> int:
            return sum(tokens for _, tokens in [*replica.in_use.values(), *replica.unused.values()])

        while replica.queue and total() > self.limits.encoder_cache:
            index, image = replica.queue.pop(0)
            if image in replica.unused and replica.unused[image][0] == index:
                del replica.unused[image]


def named(log: Any) -> list[tuple[int, str, int, int, int, int]]:
    """The compiled simulation's log as the naive simulator writes it."""
    names = ("ticks", "kind", "request", "replica", "value", "duration_ticks")
    rows = [tuple(int(each[name]) for name in names) for each in log]
    return [(ticks, EVENTS[kind], *rest) for ticks, kind, *rest in rows]
