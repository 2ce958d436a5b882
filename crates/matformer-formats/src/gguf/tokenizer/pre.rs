//! Rules by which byte-level tokenizers split a text before they merge: `tokenizer.ggml.pre` in a
//! GGUF file, `pre_tokenizer` in a `tokenizer.json`. The names and their rules are facts of
//! llama.cpp; the patterns are those of the tokenizers that the names stand for.

use serde_json::{Value, json};

/// A rule.
#[derive(Debug)]
pub(super) struct Pre {
    /// What llama.cpp calls it. A file is written with the first.
    pub(super) names: &'static [&'static str],
    /// How it splits.
    split: Split,
    /// Whether a piece that is a token is taken as it is, without merging.
    pub(super) ignore_merges: bool,
    /// Whether a text starts with the begin-of-text token unless the file says otherwise.
    pub(super) add_bos: bool,
    /// Whether the tokenizer of this name brings a text into Unicode's form C first. llama.cpp
    /// does not.
    pub(super) nfc: bool,
}

/// How a text is split.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Split {
    /// By GPT-2's pattern, which the tokenizers library has.
    Gpt2,
    /// Each digit first, the rest by GPT-2's pattern.
    Digits,
    /// By a pattern.
    Pattern(&'static str),
    /// By several patterns, one after the other.
    Patterns(&'static [&'static str]),
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// What llama.cpp does without a name.
const DEFAULT: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"];

const PLAIN: Pre =
    Pre { names: &[], split: Split::Gpt2, ignore_merges: false, add_bos: false, nfc: false };

/// The rules, those first that others would be written as.
pub(super) static ALL: [Pre; 8] = [
    Pre {
        names: &[
            "gpt-2",
            "phi-2",
            "olmo",
            "mpt",
            "jais",
            "trillion",
            "granite-docling",
            "mellum",
            "a.x-4.0",
            "gigachat",
            "exaone4",
        ],
        ..PLAIN
    },
    Pre {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        split: Split::Digits,
        ..PLAIN
    },
    Pre {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        split: Split::Pattern(LLAMA3),
        ignore_merges: true,
        add_bos: true,
        ..PLAIN
    },
    Pre { names: &["dbrx", "smaug-bpe"], split: Split::Pattern(LLAMA3), ..PLAIN },
    Pre {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
        ],
        split: Split::Pattern(QWEN2),
        nfc: true,
        ..PLAIN
    },
    Pre { names: &["qwen35"], split: Split::Pattern(QWEN35), nfc: true, ..PLAIN },
    Pre {
        names: &["tekken"],
        split: Split::Pattern(TEKKEN),
        ignore_merges: true,
        add_bos: true,
        ..PLAIN
    },
    Pre { names: &["default"], split: Split::Patterns(&DEFAULT), ..PLAIN },
];

impl Pre {
    /// The rule of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|pre| pre.names.contains(&name))
    }

    /// The names that are known, for messages.
    pub(super) fn known() -> String {
        let names: Vec<&str> = ALL.iter().flat_map(|pre| pre.names).copied().collect();
        names.join(", ")
    }

    /// The rule of a `pre_tokenizer` in a `tokenizer.json`, or what would be one.
    pub(super) fn of_json(json: &Value, ignore_merges: bool) -> Result<&'static Self, String> {
        let split = Split::of_json(json).ok_or_else(|| {
            let names: Vec<&str> = ALL.iter().map(|pre| pre.names[0]).collect();
            format!("a rule to split a text that llama.cpp has: {}", names.join(", "))
        })?;
        let mut same = ALL.iter().filter(|pre| pre.split == split);
        same.find(|pre| pre.ignore_merges == ignore_merges).ok_or_else(|| {
            format!("`model.ignore_merges` {}, as llama.cpp has it with this rule", !ignore_merges)
        })
    }

    /// The `pre_tokenizer` of a `tokenizer.json`.
    pub(super) fn json(&self) -> Value {
        let split = |pattern: &str| {
            json!({
                "type": "Split",
                "pattern": { "Regex": pattern },
                "behavior": "Isolated",
                "invert": false,
            })
        };
        let before = match self.split {
            Split::Gpt2 => return byte_level(true),
            Split::Digits => {
                let digits = json!({ "type": "Digits", "individual_digits": true });
                return sequence(vec![digits, byte_level(true)]);
            }
            Split::Pattern(pattern) => vec![split(pattern)],
            Split::Patterns(patterns) => patterns.iter().map(|pattern| split(pattern)).collect(),
        };
        sequence([before, vec![byte_level(false)]].concat())
    }
}

impl Split {
    /// The splitting rule of a `pre_tokenizer`, if it is one of those in [`ALL`].
    fn of_json(json: &Value) -> Option<Self> {
        let parts = match json["pretokenizers"].as_array() {
            Some(parts) => parts,
            None => std::slice::from_ref(json),
        };
        let (last, before) = parts.split_last()?;
        let is_bytes = last["type"] == "ByteLevel" && last["add_prefix_space"] == false;
        // The tokenizers library takes true where it is missing.
        let by_regex = last["use_regex"] != false;
        match before {
            _ if !is_bytes => None,
            [] if by_regex => Some(Self::Gpt2),
            [digits] if by_regex => {
                let each = digits["type"] == "Digits" && digits["individual_digits"] == true;
                each.then_some(Self::Digits)
            }
            _ if by_regex => None,
            [split] if pattern(split) == Some(GPT2) => Some(Self::Gpt2),
            splits => {
                let found: Vec<&str> = splits.iter().map(pattern).collect::<Option<_>>()?;
                let same = |known: &&'static Pre| match known.split {
                    Self::Pattern(known) => found == [known],
                    Self::Patterns(known) => found == known,
                    Self::Gpt2 | Self::Digits => false,
                };
                Some(ALL.iter().find(same)?.split)
            }
        }
    }
}

/// The pattern of a step that splits at each match and keeps it.
fn pattern(split: &Value) -> Option<&str> {
    let isolates = split["type"] == "Split" && split["behavior"] == "Isolated";
    split["pattern"]["Regex"].as_str().filter(|_| isolates && split["invert"] != true)
}

fn sequence(parts: Vec<Value>) -> Value {
    json!({ "type": "Sequence", "pretokenizers": parts })
}

/// The step that writes bytes as letters, and splits by GPT-2's pattern before if asked to.
pub(super) fn byte_level(use_regex: bool) -> Value {
    json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": true,
        "use_regex": use_regex,
    })
}
