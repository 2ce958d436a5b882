//! Training on whichever device `MATFORMER_DEVICE` names (default: the best there is).

mod optimizer;
mod runs;
mod support;
