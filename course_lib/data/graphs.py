"""Small social networks that networkx ships: who knows, meets or marries whom."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.data.dataset import Dataset, Meta, Split, dataset, require, split_rows

__all__ = ["GraphDataset"]
__numerics__ = 1


@dataclass(frozen=True, eq=False, repr=False)
class GraphDataset(Dataset):
    """One graph; the rows of the splits are its nodes or its pairs of nodes.

    Attributes:
        adjacency: symmetric, with the weights of the edges and zeros on the diagonal.
        nodes: the names of the nodes, in the order of the rows of ``adjacency``.

    >>> from course_lib.data import load
    >>> karate = load("karate")
    >>> karate.adjacency.shape, int((karate.adjacency > 0).sum()) // 2
    (torch.Size([34, 34]), 78)
    """

    adjacency: Float[Tensor, "n n"]
    nodes: tuple[str, ...]

    def standardised(self, *, targets: bool = False) -> Dataset:
        """Not for graphs: raises ``ValueError``."""
        raise ValueError(
            f"the rows of {self.name!r} are numbers of nodes: there are no columns to standardise"
        )

    @property
    def train_adjacency(self) -> Float[Tensor, "n n"]:
        """The adjacency without the edges of validation and test; whole where the splits are of nodes."""
        known = self.adjacency.clone()
        for split in (self.validation, self.test):
            if split.x.ndim == 2:
                known[split.x[:, 0], split.x[:, 1]] = known[split.x[:, 1], split.x[:, 0]] = 0
        return known


@dataset(
    "karate",
    task="classification of nodes",
    x="(n,) int64: numbers of the nodes; see .adjacency for the graph, whose weights count shared activities",
    y="(n,) int64: the club that the member joined after the split",
    licence="distributed with networkx (BSD 3-clause)",
    source="Zachary 1977, 'An information flow model for conflict and fission in small groups': 34 people, "
    "78 ties",
    extra="book",
)
def _karate(meta: Meta) -> GraphDataset:
    graph = require("networkx", meta.name).karate_club_graph()
    clubs = [graph.nodes[node]["club"] for node in graph]
    classes = tuple(sorted(set(clubs)))
    y = np.array([classes.index(club) for club in clubs])
    x = np.arange(len(y))
    parts = [Split(rows, torch.tensor(y)[rows]) for rows in split_rows(x, y, sizes=(0.4, 0.2, 0.4))]
    return GraphDataset(*parts, replace(meta, classes=classes), _adjacency(graph), tuple(map(str, graph)))


def _pairs(maker: str, meta: Meta) -> GraphDataset:
    graph = getattr(require("networkx", meta.name), maker)()
    adjacency = _adjacency(graph)
    pairs = np.array(list(combinations(range(len(adjacency)), 2)))
    weights = adjacency[pairs[:, 0], pairs[:, 1]]
    x = torch.tensor(pairs)
    parts = [Split(x[rows], weights[rows]) for rows in split_rows(pairs, (weights > 0).numpy().astype(int))]
    return GraphDataset(*parts, meta, adjacency, tuple(map(str, graph)))


_PAIRS = {
    "x": "(n, 2) int64: numbers of two nodes, every pair once",
    "extra": "book",
    "task": "prediction of edges",
}

dataset(
    "les_miserables",
    y="(n,) float32: in how many chapters the two appear together; 0 for no edge",
    licence="distributed with networkx (BSD 3-clause)",
    source="Knuth 1993, 'The Stanford GraphBase': 77 characters of Hugo's novel, 254 edges",
    **_PAIRS,
)(partial(_pairs, "les_miserables_graph"))

dataset(
    "florentine_families",
    y="(n,) float32: 1 where the families are joined by marriage, else 0",
    licence="distributed with networkx (BSD 3-clause)",
    source="Breiger and Pattison 1986, after Padgett: 15 families, 20 marriages, in 15th-century Florence",
    **_PAIRS,
)(partial(_pairs, "florentine_families_graph"))


def _adjacency(graph: Any) -> Float[Tensor, "n n"]:
    place = {node: i for i, node in enumerate(graph)}
    adjacency = torch.zeros(len(place), len(place))
    for a, b, weight in graph.edges(data="weight", default=1):
        adjacency[place[a], place[b]] = adjacency[place[b], place[a]] = float(weight)
    return adjacency
