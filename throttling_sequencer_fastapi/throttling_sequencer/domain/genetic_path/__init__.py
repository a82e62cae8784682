"""The genetic path finder: constructive candidates, improved by evolution."""

from throttling_sequencer.domain.genetic_path.configuration import GeneticConfiguration
from throttling_sequencer.domain.genetic_path.path_finder import GeneticPathFinder

__all__ = ["GeneticConfiguration", "GeneticPathFinder"]
