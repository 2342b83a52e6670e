"""Search for the length configurations worth having, and the Pareto table made of them.  See `core.search`."""

from trainer.search.core import SearchResult, SearchSettings, search
from trainer.search.front import Evaluation, area_under_frontier, non_dominated, thin
from trainer.search.genes import Genes, GeneSpace

__all__ = [
    "Evaluation",
    "GeneSpace",
    "Genes",
    "SearchResult",
    "SearchSettings",
    "area_under_frontier",
    "non_dominated",
    "search",
    "thin",
]
