//! What images are called.

use super::*;

impl Words for Vit {
    const ROWS: &'static str = "images";

    const DOCUMENT: &'static str = "image";

    const ROW: &'static str = "image";

    const SMALLER: &'static str = ", or smaller images";

    const TARGET: &'static str = "image";

    const TARGETS: &'static str = "images";
}
