//! What text is called.

use super::*;

impl Words for Lm {
    const ROWS: &'static str = "rows";

    const DOCUMENT: &'static str = "document";

    const ROW: &'static str = "row of the whole context";

    const SMALLER: &'static str = ", or the vocabulary";

    const TARGET: &'static str = "token";

    const TARGETS: &'static str = "tokens";
}
