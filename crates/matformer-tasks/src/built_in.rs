//! The built-in tasks: the 25 of the MatFormer paper's language study, with one few-shot example.

macro_rules! tasks {
    ($($name:literal),* $(,)?) => {
        /// The names of the built-in tasks.
        pub const PAPER: [&str; 25] = [$($name),*];

        /// The file of a built-in task.
        pub(crate) fn text(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some(include_str!(concat!("../built-in/", $name, ".yaml"))),)*
                _ => None,
            }
        }
    };
}

tasks![
    "triviaqa",
    "nq_open",
    "webqs",
    "lambada_standard",
    "hellaswag",
    "storycloze_2016",
    "wsc",
    "winogrande",
    "wsc273",
    "race",
    "race_middle",
    "piqa",
    "arc_challenge",
    "arc_easy",
    "openbookqa",
    "boolq",
    "copa",
    "sglue_rte",
    "wic",
    "multirc",
    "record",
    "cb",
    "anli_r1",
    "anli_r2",
    "anli_r3",
];
