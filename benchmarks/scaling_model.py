"""The model of a step on N GPUs: the step of one GPU, and then its all-reduces, one after the other.

    step(N) = max(images * per_image, host) + sum of all_reduce(bytes, N) over the step's messages

where per_image is the step of one GPU over its images, and host the time that Python needs to launch the step's
operations, below which no few images bring it; several processes have no CUDA graph, which would replay them.

An all-reduce of S bytes among n members over links of B bytes/s and latency a takes the shorter of

    ring   2 (n - 1) (a + S / (n B))        every member sends 2 (n - 1) parts of S / n
    tree   2 ceil(log2 n) a + 2 S / B       up and down in a pipeline

which NCCL chooses between as well. Nodes of g GPUs add up over their inner links (a ring's reduce-scatter), then the
GPUs of equal place in the m = N / g nodes all-reduce their share S / g over the outer links, one network card per GPU,
and each node gathers the shares. Every all-reduce costs `start` once more.

Left out: overlap with backward (which hides part of the plain network's all-reduce, and none of the fast one's, whose
gradient is one vector), waiting for the slowest process and its images, checkpoints, and the all-reduces of --sync_bn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

START_S = 20e-6
"""Of an all-reduce: it is launched, and gradients are laid side by side and divided."""
GOAL = 0.95


@dataclass(frozen=True)
class Link:
    """How GPUs are joined: bytes/s that one of them sends while it receives as many, and seconds per message."""

    bandwidth: float
    latency_s: float


@dataclass(frozen=True)
class Fabric:
    """GPUs in nodes of `per_node`, whose outer link counts per GPU."""

    inner: Link
    outer: Link
    per_node: int

    def all_reduce_s(self, num_bytes: float, gpus: int) -> float:
        """Return the seconds of one all-reduce of `num_bytes` on each of `gpus`, which fill their nodes."""
        if gpus == 1:
            return 0.0
        inside, nodes = min(gpus, self.per_node), math.ceil(gpus / self.per_node)
        if nodes == 1:
            return START_S + all_reduce_s(num_bytes, inside, self.inner)
        share = num_bytes / inside
        scatter_and_gather = 2 * (inside - 1) * (self.inner.latency_s + share / self.inner.bandwidth)
        return START_S + scatter_and_gather + all_reduce_s(share, nodes, self.outer)


@dataclass(frozen=True)
class Step:
    """A step as measured on one GPU, and the bytes of each of its all-reduces."""

    seconds: float
    images: int
    messages: Sequence[int]
    host_s: float = 0.0
    """Seconds in which the host launches it, on several GPUs."""

    @property
    def per_image_s(self) -> float:
        return self.seconds / self.images

    def communication_s(self, fabric: Fabric, gpus: int) -> float:
        """Return the seconds of the step's all-reduces."""
        return sum(fabric.all_reduce_s(message, gpus) for message in self.messages)

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


def all_reduce_s(num_bytes: float, members: int, link: Link) -> float:
    """Return the seconds of an all-reduce over links of one kind: a ring's or a tree's, whichever is shorter."""
    if members == 1:
        return 0.0
    ring = 2 * (members - 1) * (link.latency_s + num_bytes / members / link.bandwidth)
    tree = 2 * math.ceil(math.log2(members)) * link.latency_s + 2 * num_bytes / link.bandwidth
    return min(ring, tree)


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
