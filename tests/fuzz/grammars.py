"""The grammars by name: a strategy of hypothesis for each kind of input, small and plain.

`TORCHLESS` first: these run in a process that has not loaded torch, as the commands of ``shards`` do.
"""

from command_line_grammars import command_lines, torch_command_lines
from run_grammars import (
    array_folders,
    arrays,
    checkpoints,
    imports,
    jobs,
    others,
    overridden,
    predict_inputs,
    run_folders,
    weights,
)
from source_grammars import fer_csv, folders, images, list_csv, manifests, schemes, tars, votes

TORCHLESS = {
    "fer_csv": fer_csv,
    "votes": votes,
    "list_csv": list_csv,
    "folders": folders,
    "images": images,
    "manifests": manifests,
    "schemes": schemes,
    "tars": tars,
    "command_lines": command_lines,
}
WITH_TORCH = {
    "torch_command_lines": torch_command_lines,
    "jobs": jobs,
    "overridden": overridden,
    "arrays": arrays,
    "run_folders": run_folders,
    "others": others,
    "checkpoints": checkpoints,
    "weights": weights,
    "array_folders": array_folders,
    "predict_inputs": predict_inputs,
    "imports": imports,
}
