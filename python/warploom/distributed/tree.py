"""Virtual shards, and the binary tree in which their gradients are added.

A batch is cut into a fixed number of shards. The leaves of the tree are the shards, its shape depends on their number alone: the
left part of a node holds the largest power of two of leaves that is smaller than all of them. Whatever worker holds a leaf, the
same additions are made in the same order, so the sums have the same bits for any number of workers.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
Node = tuple[int, int]  # leaves from, to


def cut(count: int, shards: int) -> list[Node]:
    """The samples of each shard of a batch: as even as possible, none empty."""
    n = min(count, shards)
    return [(count * k // n, count * (k + 1) // n) for k in range(n)]


def held(leaves: int, rank: int, size: int) -> range:
    """The shards that a worker computes: neighbours, so that most of the additions need no other worker."""
    return range(leaves * rank // size, leaves * (rank + 1) // size)


def middle(node: Node) -> int:
    """Where a node of more than one leaf is divided."""
    return node[0] + (1 << ((node[1] - node[0] - 1).bit_length() - 1))


def parents(leaves: int) -> dict[Node, tuple[Node, Node]]:
    """For every right child its left neighbour and the node of both."""
    found: dict[Node, tuple[Node, Node]] = {}
    waiting = [(0, leaves)]
    while waiting:
        node = waiting.pop()
        if node[1] - node[0] > 1:
            left, right = (node[0], middle(node)), (middle(node), node[1])
            found[right] = left, node
            waiting += [left, right]
    return found


def largest(leaves: int, part: range) -> list[Node]:
    """The nodes that a worker with these leaves can add up by itself, largest ones only, from the left."""

    def visit(node: Node) -> list[Node]:
        if node[0] >= part.start and node[1] <= part.stop:
            return [node]
        if node[1] <= part.start or node[0] >= part.stop:
            return []
        return visit((node[0], middle(node))) + visit((middle(node), node[1]))

    return visit((0, leaves)) if part else []


class Sum(Generic[T]):
    """Adds leaves as they come, from the left; keeps one array for every level of the tree at most."""

    def __init__(self, make: Callable[[], T], add: Callable[[T, T], None]) -> None:
        """make(): an array; add(to, more): to += more."""
        self._make, self._add = make, add
        self._free: list[T] = []
        self._parents: dict[int, dict[Node, tuple[Node, Node]]] = {}
        self.nodes: list[tuple[Node, T]] = []
        self._leaves = 0

    def begin(self, leaves: int) -> None:
        self._free += [array for _, array in self.nodes]
        self.nodes, self._leaves = [], leaves
        if leaves not in self._parents:
            self._parents[leaves] = parents(leaves)

    def place(self, leaf: int) -> tuple[T, list[tuple[T, T]]]:
        """Where to write the leaf's numbers, and the additions (to, more) that are then to be made, in this order."""
        first = array = self._free.pop() if self._free else self._make()
        additions = []
        node: Node = (leaf, leaf + 1)
        known = self._parents[self._leaves]
        while node in known and self.nodes and self.nodes[-1][0] == known[node][0]:
            left = self.nodes.pop()[1]
            additions.append((left, array))
            self._free.append(array)
            node, array = known[node][1], left
        self.nodes.append((node, array))
        return first, additions

    def add(self, leaf: int, fill: Callable[[T], None]) -> None:
        """fill() writes the leaf's numbers."""
        array, additions = self.place(leaf)
        fill(array)
        for to, more in additions:
            self._add(to, more)


def total(leaves: int, parts: dict[Node, T], add: Callable[[T, T], None]) -> T:
    """The whole sum from parts that make up the tree; writes over them."""

    def visit(node: Node) -> T:
        if node in parts:
            return parts[node]
        left, right = visit((node[0], middle(node))), visit((middle(node), node[1]))
        add(left, right)
        return left

    return visit((0, leaves))
