//! MatLM on whichever device `MATFORMER_DEVICE` names (default: the best there is).

mod equalities;
mod folders;
mod golden;
mod support;
