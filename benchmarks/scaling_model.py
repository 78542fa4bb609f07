"""The model of a step on N GPUs: the step of one GPU, and then its exchanges, one after the other.

    step(N) = max(images * per_image, host) + sum of exchange(bytes, N) over the step's messages

where per_image is the step of one GPU over its images, and host the time that Python needs to launch the step's
operations, below which no few images bring it: 0 where the processes' steps are CUDA graphs.

An exchange (World.mean) averages S bytes of each of N GPUs, g in a node, m = N / g nodes, over inner and outer links of
B bytes/s and latency a; each GPU has a network card. Every GPU first adds up its N-th part, which all others send it:

    scatter  (g - 1) (a_inner + S / (N B_inner)) + (N - g) (a_outer + S / (N B_outer))

then all get all parts, once from the GPU of the same place in each other node, and on within the node:

    gather   (m - 1) (a_outer + S / (N B_outer)) + (g - 1) (a_inner + S / (g B_inner))

Messages follow one another, and nothing hides them. On one node that is a ring's time. Every exchange costs `start`.

Left out: waiting for the slowest process and its images, checkpoints, and the exchanges of --sync_bn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

START_S = 20e-6
"""Of an exchange: it is launched, and gradients are laid side by side, added up and divided."""
GOAL = 0.95


@dataclass(frozen=True)
class Link:
    """How GPUs are joined: bytes/s that one of them sends while it receives as many, and seconds per message."""

    bandwidth: float
    latency_s: float

    def seconds(self, num_bytes: float) -> float:
        """Return how long a message takes."""
        return self.latency_s + num_bytes / self.bandwidth


@dataclass(frozen=True)
class Fabric:
    """GPUs in nodes of `per_node`, whose outer link counts per GPU."""

    inner: Link
    outer: Link
    per_node: int

    def exchange_s(self, num_bytes: float, gpus: int) -> float:
        """Return the seconds of one exchange of `num_bytes` on each of `gpus`, which fill their nodes."""
        if gpus == 1:
            return 0.0
        inside, nodes, part = min(gpus, self.per_node), math.ceil(gpus / self.per_node), num_bytes / gpus
        scatter = (inside - 1) * self.inner.seconds(part) + (gpus - inside) * self.outer.seconds(part)
        gather = (nodes - 1) * self.outer.seconds(part) + (inside - 1) * self.inner.seconds(num_bytes / inside)
        return START_S + scatter + gather


@dataclass(frozen=True)
class Step:
    """A step as measured on one GPU, and the bytes of each of its exchanges."""

    seconds: float
    images: int
    messages: Sequence[int]
    host_s: float = 0.0
    """Seconds in which the host launches it, on several GPUs."""

    @property
    def per_image_s(self) -> float:
        return self.seconds / self.images

    def communication_s(self, fabric: Fabric, gpus: int) -> float:
        """Return the seconds of the step's exchanges."""
        return sum(fabric.exchange_s(message, gpus) for message in self.messages)

    def step_s(self, fabric: Fabric, gpus: int, images: float | None = None) -> float:
        """Return the seconds of a step with `images` on each GPU, or as many as were measured."""
        compute = self.seconds if images is None else images * self.per_image_s
        return compute if gpus == 1 else max(compute, self.host_s) + self.communication_s(fabric, gpus)

    def rate(self, fabric: Fabric, gpus: int, images: float | None = None) -> float:
        """Return images/s of all GPUs together."""
        return gpus * (self.images if images is None else images) / self.step_s(fabric, gpus, images)

    def efficiency(self, fabric: Fabric, gpus: int) -> float:
        """Return images/s as a share of so many times those of one GPU."""
        return self.seconds / self.step_s(fabric, gpus)

    def images_for(self, fabric: Fabric, gpus: int, goal: float = GOAL) -> int:
        """Return the least images per GPU at which `gpus` of them reach a share `goal` of so many times one GPU."""
        communication = self.communication_s(fabric, gpus)
        hidden = communication * goal / (1 - goal) <= self.host_s  # then it is the host that is waited for
        compute = goal * (self.host_s + communication) if hidden else communication * goal / (1 - goal)
        return max(1, math.ceil(round(compute / self.per_image_s, 9))) if gpus > 1 else 1


def last_above(goal: float, step: Step, fabric: Fabric, counts: Sequence[int]) -> int:
    """Return the largest of `counts` up to which the efficiency stays at `goal` or above, at the measured images."""
    largest = 1
    for gpus in counts:
        if step.efficiency(fabric, gpus) < goal:
            break
        largest = gpus
    return largest


def fastest_split(step: Step, fabric: Fabric, whole_batch: int, counts: Sequence[int]) -> int:
    """Return on how many GPUs a whole batch that is shared out among them is done soonest."""
    fitting = [gpus for gpus in counts if gpus <= whole_batch]
    return max(fitting, key=lambda gpus: step.rate(fabric, gpus, whole_batch / gpus))
