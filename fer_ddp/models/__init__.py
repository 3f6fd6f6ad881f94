"""One model a file; `registry` names them, `build` prepares one for training."""
