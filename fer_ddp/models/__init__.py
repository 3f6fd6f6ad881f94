"""Networks, one a file; `registry` names them, `build` prepares one for training."""
