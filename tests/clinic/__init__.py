"""The clinic: small models in the styles people write, one planted fault each, and healthy ones."""

from types import ModuleType

from clinic import (
    faulty_additive,
    faulty_batch,
    faulty_geometry,
    faulty_gradients,
    faulty_hidden,
    faulty_outputs,
    faulty_pairs,
    faulty_plateau,
    faulty_start,
    healthy_architectures,
    healthy_suspects,
    healthy_training,
    healthy_unusual,
)
from clinic.case import Case, Patient

__all__ = ["FAULTY", "HEALTHY", "Case", "Patient"]


def _cases(*modules: ModuleType) -> list[Case]:
    return [value for module in modules for value in vars(module).values() if isinstance(value, Case)]


FAULTY = _cases(
    *(faulty_additive, faulty_outputs, faulty_geometry, faulty_gradients, faulty_batch, faulty_pairs, faulty_hidden),
    *(faulty_plateau, faulty_start),
)
HEALTHY = _cases(healthy_architectures, healthy_training, healthy_suspects, healthy_unusual)
