//! Files that lie.

use burn::tensor::Device;

use super::{
    container::{ALIGNMENT, kind},
    output::{self, Value as Meta},
    *,
};
use crate::LmImport;

/// Numbers of a header, little-endian.
fn le32(n: u32) -> Vec<u8> {
    n.to_le_bytes().to_vec()
}

fn le64(n: u64) -> Vec<u8> {
    n.to_le_bytes().to_vec()
}

fn text(text: &[u8]) -> Vec<u8> {
    [le64(text.len() as u64), text.to_vec()].concat()
}

/// A header of so many keys and tensors, with `rest` behind it.
fn file(n_tensors: u64, n_keys: u64, rest: &[Vec<u8>]) -> Vec<u8> {
    [b"GGUF".to_vec(), le32(3), le64(n_tensors), le64(n_keys), rest.concat()].concat()
}

/// A tensor of a header.
fn tensor(name: &str, dims: &[u64], ggml: u32, offset: u64) -> Vec<u8> {
    let dims_bytes = dims.iter().flat_map(|dim| le64(*dim)).collect();
    [text(name.as_bytes()), le32(dims.len() as u32), dims_bytes, le32(ggml), le64(offset)].concat()
}

/// What is said about a file.
fn refused(bytes: &[u8]) -> String {
    let path = Path::new("lies.gguf");
    let error = match Container::parse(bytes, path) {
        Ok(container) => config::describe(&container, bytes, path).map(|_| ()).unwrap_err(),
        Err(error) => error,
    };
    error.to_string()
}

#[track_caller]
fn check(bytes: &[u8], expected: &str) {
    let found = refused(bytes);
    assert!(found.starts_with("lies.gguf: "), "{found}");
    assert!(found.contains(expected), "{found}");
}

#[test]
fn what_is_no_such_file_is_refused() {
    check(b"", "0 bytes from byte 0 to the end; expected 4 bytes for a GGUF file");
    check(b"GGML....", "no `GGUF` at its start; expected a GGUF file");
    check(&[b"GGUF".to_vec(), le32(1)].concat(), "version 1; expected version 2 or 3");
    check(&[b"GGUF".to_vec(), vec![0, 0, 0, 3]].concat(), "a big-endian file");
    check(&[b"GGUF".to_vec(), le32(4)].concat(), "version 4");
}

#[test]
fn counts_and_lengths_that_lie_are_refused_before_anything_is_allocated() {
    let huge = u64::MAX;
    check(&file(huge, 0, &[]), "0 bytes from byte 24 to the end; expected 8 bytes");
    check(&file(0, huge, &[]), "a number");
    check(&file(0, 1, &[le64(huge)]), &format!("expected {huge} bytes for a key of the metadata"));
    let key = text(b"k");
    let array = |kind, len| vec![key.clone(), le32(kind::ARRAY), le32(kind), le64(len)];
    check(&file(0, 1, &array(kind::U64, huge)), "bytes for `k`, an array of");
    check(&file(0, 1, &array(kind::F32, 1 << 60)), "bytes for `k`, an array of");
    check(&file(0, 1, &array(kind::STRING, huge)), "expected 8 bytes for a number");
    check(
        &file(0, 1, &array(kind::ARRAY, 1)),
        "`k`: an array of values of type 9; expected an array",
    );
    check(&file(0, 1, &[key.clone(), le32(13)]), "`k`: a value of type 13");
    check(&file(0, 1, &[key.clone(), le32(kind::BOOL), vec![2]]), "`k`: a bool of 2");
    check(&file(0, 1, &[text(&[0xff])]), "bytes that are not UTF-8 in a key of the metadata");
    check(&file(0, 1, &[key.clone(), le32(kind::STRING), text(&[0xc3])]), "not UTF-8 in `k`");
    let twice = [key.clone(), le32(kind::U8), vec![1], key, le32(kind::U8), vec![1]];
    check(&file(0, 2, &twice), "key `k` twice; expected each key once");
}

#[test]
fn alignments_of_no_use_are_refused() {
    for alignment in [0, 1, 4, 48, 1 << 21] {
        let rest = [text(b"general.alignment"), le32(kind::U32), le32(alignment)];
        let expected = format!("`general.alignment` is {alignment}; expected a power of two");
        check(&file(0, 1, &rest), &expected);
    }
    let rest = [text(b"general.alignment"), le32(kind::STRING), text(b"32")];
    check(&file(0, 1, &rest), "`general.alignment` is `32`");
}

#[test]
fn tensors_that_lie_are_refused_by_name() {
    let one = |dims: &[u64], ggml, offset| {
        let mut bytes = file(1, 0, &[tensor("t", dims, ggml, offset)]);
        bytes.resize(bytes.len() + 256, 0);
        refused(&bytes)
    };
    let starts = |found: String, expected: &str| {
        let expected = format!("lies.gguf: tensor `t`: {expected}");
        assert!(found.starts_with(&expected), "{found}");
    };
    starts(one(&[], 0, 0), "0 dimensions; expected 1 to 4");
    starts(one(&[1; 5], 0, 0), "5 dimensions; expected 1 to 4");
    starts(one(&[0], 0, 0), "shape [0]");
    starts(one(&[1 << 32, 1 << 32], 0, 0), "shape [4294967296, 4294967296]");
    starts(one(&[1 << 62], 0, 0), "offset 0 and shape [4611686018427387904] of f32");
    starts(one(&[1 << 63], 1, 0), "offset 0 and shape");
    starts(one(&[8], 0, u64::MAX - 31), "offset 18446744073709551584 and shape [8]");
    starts(one(&[8], 0, 16), "offset 16; expected a multiple of the alignment 32");
    starts(
        one(&[1 << 10], 0, 0),
        "offset 0 and shape [1024] of f32; expected values before the end",
    );
    starts(one(&[16], 8, 0), "rows of 16; expected rows of a multiple of 32 for q8_0");
    starts(one(&[8], 16, 0), "type iq2_xxs; expected f32, f16, bf16, q4_0");
    starts(one(&[8], 77, 0), "type number 77; expected f32");
    let two = |names: [&str; 2], offset| {
        let rest = [tensor(names[0], &[16], 0, 0), tensor(names[1], &[8], 0, offset)];
        let mut bytes = file(2, 0, &rest);
        bytes.resize(bytes.len() + 256, 0);
        refused(&bytes)
    };
    starts(two(["t", "t"], 64), "two of this name; expected one");
    starts(two(["a", "t"], 32), "bytes that `a` has as well; expected bytes of its own");
    assert!(two(["a", "t"], 64).contains("no `general.architecture`"), "apart, they are read");
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused() {
    let whole = fs::read(fixture("qwen2.gguf")).unwrap();
    for end in 0..whole.len() - ALIGNMENT {
        assert!(Container::parse(&whole[..end], Path::new("cut")).is_err(), "at {end}");
    }
}

/// A file of one layer with more or other metadata, and what is said about it.
fn with(changes: &[(&str, Option<Meta>)], extra: &[(&str, &[usize])]) -> Result<Gguf> {
    let mut metadata = vec![
        ("general.architecture".to_owned(), Meta::Text("llama".to_owned())),
        ("llama.block_count".to_owned(), Meta::Unsigned(1)),
        ("llama.context_length".to_owned(), Meta::Unsigned(64)),
        ("llama.embedding_length".to_owned(), Meta::Unsigned(8)),
        ("llama.feed_forward_length".to_owned(), Meta::Unsigned(16)),
        ("llama.attention.head_count".to_owned(), Meta::Unsigned(2)),
        ("llama.attention.layer_norm_rms_epsilon".to_owned(), Meta::Float(1e-5)),
    ];
    for (key, value) in changes {
        metadata.retain(|(known, _)| known != key);
        metadata.extend(value.clone().map(|value| ((*key).to_owned(), value)));
    }
    let parts: [(&str, &[usize]); 11] = [
        ("token_embd.weight", &[4, 8]),
        ("output_norm.weight", &[8]),
        ("blk.0.attn_norm.weight", &[8]),
        ("blk.0.attn_q.weight", &[8, 8]),
        ("blk.0.attn_k.weight", &[8, 8]),
        ("blk.0.attn_v.weight", &[8, 8]),
        ("blk.0.attn_output.weight", &[8, 8]),
        ("blk.0.ffn_norm.weight", &[8]),
        ("blk.0.ffn_gate.weight", &[16, 8]),
        ("blk.0.ffn_up.weight", &[16, 8]),
        ("blk.0.ffn_down.weight", &[8, 16]),
    ];
    let replaced = |name: &str| extra.iter().any(|(other, _)| *other == name);
    let kept = parts.iter().filter(|(name, _)| !replaced(name));
    let heads: Vec<output::Head> = kept
        .chain(extra.iter().filter(|(_, shape)| !shape.is_empty()))
        .map(|(name, shape)| output::Head {
            name: (*name).to_owned(),
            shape: shape.to_vec(),
            ggml: GgmlType::Plain(Dtype::F32),
        })
        .collect();
    let mut bytes = Vec::new();
    output::header(&metadata, &heads, &mut bytes).unwrap();
    for head in &heads {
        bytes.resize((bytes.len() + head.bytes()).next_multiple_of(ALIGNMENT), 0);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.gguf");
    fs::write_atomic(&path, &bytes).unwrap();
    Gguf::open(&path)
}

#[track_caller]
fn refuses(changes: &[(&str, Option<Meta>)], extra: &[(&str, &[usize])], expected: &str) {
    let import = |gguf: Gguf| LmImport::new(&gguf, None, &Device::flex()).map(drop);
    let found = with(changes, extra).and_then(import).unwrap_err().to_string();
    assert!(found.contains(expected), "{found}");
}

#[test]
fn metadata_that_changes_numbers_and_is_not_covered_is_refused_by_name() {
    assert!(with(&[], &[]).is_ok());
    let text = |text: &str| Some(Meta::Text(text.to_owned()));
    let number = |n| Some(Meta::Unsigned(n));
    for (key, value, expected) in [
        (
            "general.architecture",
            text("gemma3"),
            "`gemma3`; expected `llama` or `qwen2` or `qwen3`",
        ),
        ("general.architecture", number(1), "`general.architecture` is 1; expected"),
        ("general.type", text("adapter"), "`general.type` is `adapter`; expected `model`"),
        ("split.count", number(2), "`split.count` is 2; expected 1: the file whole"),
        ("llama.rope.scaling.type", text("yarn"), "`yarn`; expected `none` or `linear`"),
        (
            "llama.rope.scaling.attn_factor",
            Some(Meta::Float(2.0)),
            "attn_factor` is 2; expected no",
        ),
        ("llama.expert_count", number(8), "`llama.expert_count` is 8; expected 0: a mixture"),
        ("llama.attention.sliding_window", number(32), "sliding_window` is 32; expected none"),
        ("llama.attn_logit_softcapping", Some(Meta::Float(30.0)), "expected no such key"),
        ("llama.rope.dimension_count", number(2), "dimension_count` is 2; expected 4, the size"),
        ("llama.attention.value_length", number(8), "value_length` is 8; expected 4"),
        ("llama.attention.key_length", number(3), "key_length` is 3; expected heads of an even"),
        ("llama.attention.head_count", number(3), "a divisor of the embedding length 8"),
        ("llama.attention.head_count", number(0), "is 0; expected an integer above 0"),
        ("llama.block_count", None, "no `llama.block_count`; expected an integer above 0"),
        ("llama.block_count", text("1"), "`llama.block_count` is `1`"),
        ("llama.block_count", number(u32::MAX), "4294967295; expected at most 11, the tensors"),
        (
            "llama.context_length",
            Some(Meta::Float(64.0)),
            "`llama.context_length` is 64; expected an",
        ),
        ("llama.attention.layer_norm_rms_epsilon", None, "no `llama.attention.layer_norm_rms_eps"),
        (
            "llama.rope.freq_base",
            Some(Meta::Float(f32::NAN)),
            "freq_base` is NaN; expected a float",
        ),
        (
            "llama.feed_forward_length",
            Some(Meta::Unsigneds(vec![16, 32])),
            "`llama.feed_forward_length` is an array of 2; expected 1 equal integers",
        ),
        (
            "llama.feed_forward_length",
            Some(Meta::Integers(vec![-1])),
            "`llama.feed_forward_length` is an array of 1; expected 1 equal integers above 0",
        ),
        ("tokenizer.ggml.bos_token_id", number(4), "bos_token_id` is 4; expected a token below 4"),
        ("tokenizer.ggml.eot_token_id", number(4), "eot_token_id` is 4; expected a token below 4"),
        ("llama.vocab_size", number(5), "`llama.vocab_size` is 5; expected 4, the rows of `token"),
    ] {
        refuses(&[(key, value)], &[], expected);
    }
    assert!(with(&[("llama.attention.sliding_window", number(64))], &[]).is_ok(), "no window");
    assert!(with(&[("llama.expert_count", number(0))], &[]).is_ok());
    assert!(with(&[("llama.vocab_size", number(4))], &[]).is_ok());
    let linear = [("llama.rope.scaling.type", text("linear"))];
    let linear = [&linear[..], &[("llama.rope.scaling.factor", Some(Meta::Float(4.0)))]].concat();
    let scaled = with(&linear, &[]).unwrap();
    let expected = serde_json::json!({ "rope_type": "linear", "factor": 4.0 });
    assert_eq!(scaled.config()["rope_scaling"], expected);
}

#[test]
fn special_tokens_that_a_file_does_not_name_are_those_that_llama_cpp_takes() {
    let ids = |changes: &[(&str, Option<Meta>)]| {
        let config = with(changes, &[]).unwrap().config().clone();
        ["bos_token_id", "eos_token_id"].map(|key| config[key].as_u64())
    };
    let model = |name: &str| ("tokenizer.ggml.model", Some(Meta::Text(name.to_owned())));
    assert_eq!(ids(&[model("llama")]), [Some(1), Some(2)]);
    let none = ("tokenizer.ggml.eos_token_id", Some(Meta::Unsigned(u32::MAX)));
    assert_eq!(ids(&[model("llama"), none.clone()]), [Some(1), Some(2)]);
    assert_eq!(ids(&[model("gpt2"), none]), [None, None]);
    assert_eq!(ids(&[]), [None, None]);
}

#[test]
fn tensors_that_do_not_fit_the_configuration_are_refused_by_name() {
    for (name, shape, expected) in [
        ("token_embd.weight", &[][..], "`token_embd.weight`: no matrix of this name"),
        ("blk.0.attn_v.weight", &[], "`blk.0.attn_v.weight`: nothing; expected shape [8, 8]"),
        ("blk.0.attn_v.weight", &[8, 4], "shape [8, 4]; expected shape [8, 8]"),
        ("blk.1.attn_v.weight", &[8, 8], "`blk.1.attn_v.weight`: a tensor that the model does not"),
        ("blk.00.attn_v.weight", &[8, 8], "a tensor that is not covered"),
        (
            "blk.0.attn_q.weight",
            &[6, 8],
            "`blk.0.attn_q.weight`: shape [6, 8]; expected 2 heads of 4",
        ),
        ("blk.0.attn_q_norm.weight", &[4], "a tensor that the model does not have"),
        ("blk.0.attn_qkv.weight", &[24, 8], "a tensor that is not covered"),
        ("blk.0.attn_q.bias", &[8], "`blk.0.attn_output.bias`: biases of queries and keys"),
        ("rope_freqs.weight", &[2], "`rope_freqs.weight`: factors of no rule that is known"),
        ("rope_freqs.weight", &[4], "`rope_freqs.weight`: f32 of shape [4]"),
    ] {
        refuses(&[], &[(name, shape)], expected);
    }
}

#[test]
fn tokenizers_that_lie_are_refused_by_name() {
    let texts = |list: &[&str]| Some(Meta::Texts(list.iter().map(|t| (*t).to_owned()).collect()));
    let text = |text: &str| Some(Meta::Text(text.to_owned()));
    let base = [
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("gpt-2")),
        ("tokenizer.ggml.tokens", texts(&["a", "b", "ab", "<e>"])),
        ("tokenizer.ggml.token_type", Some(Meta::Integers(vec![1, 1, 1, 3]))),
        ("tokenizer.ggml.merges", texts(&["a b"])),
    ];
    let files = |changes: &[(&str, Option<Meta>)]| {
        let gguf = with(&[&base[..], changes].concat(), &[]).unwrap();
        gguf.files().map(<[_]>::to_vec).map_err(|e| e.to_string())
    };
    assert_eq!(files(&[]).unwrap().len(), 3);
    for (key, value, expected) in [
        ("tokenizer.ggml.model", text("t5"), "`tokenizer.ggml.model` is `t5`; expected `gpt2` or"),
        (
            "tokenizer.ggml.pre",
            text("bloom"),
            "`tokenizer.ggml.pre` is `bloom`; expected a supported",
        ),
        ("tokenizer.ggml.pre", None, "no `tokenizer.ggml.pre`; expected a supported pre-tok"),
        ("tokenizer.ggml.tokens", texts(&["a"]), "has 1 tokens; expected 4, the rows of the"),
        ("tokenizer.ggml.tokens", texts(&["a", "b", "a", "c"]), "has `a` twice; expected each"),
        ("tokenizer.ggml.tokens", text("a"), "is `a`; expected an array of texts"),
        (
            "tokenizer.ggml.token_type",
            Some(Meta::Integers(vec![1])),
            "is an array of 1; expected 4",
        ),
        ("tokenizer.ggml.token_type", Some(Meta::Floats(vec![1.0; 4])), "expected 4 integers"),
        ("tokenizer.ggml.merges", texts(&["ab"]), "has `ab`; expected two tokens whose"),
        ("tokenizer.ggml.merges", texts(&["b a"]), "has `b a`; expected two tokens whose"),
        ("tokenizer.ggml.merges", None, "no `tokenizer.ggml.merges`; expected an array of texts"),
        ("tokenizer.ggml.add_bos_token", text("yes"), "is `yes`; expected a bool"),
        ("tokenizer.chat_templates", texts(&["rag"]), "no `tokenizer.chat_template.rag`; expected"),
        ("tokenizer.ggml.model", text("llama"), "no `tokenizer.ggml.scores`; expected 4 floats"),
    ] {
        let found = files(&[(key, value)]).unwrap_err();
        assert!(found.contains(expected), "{found}");
    }
    let long = "x".repeat(5000);
    let llama = [
        ("tokenizer.ggml.model", text("llama")),
        ("tokenizer.ggml.tokens", texts(&["a", "b", "ab", &long])),
        ("tokenizer.ggml.scores", Some(Meta::Floats(vec![0.0; 4]))),
    ];
    let found = files(&llama).unwrap_err();
    assert!(found.contains("a token of 5000 bytes; expected tokens of at most 1024"), "{found}");
}

#[test]
fn values_that_are_not_finite_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nan.gguf");
    for (dtype, value) in [("f32", f32::NAN.to_le_bytes()), ("f32", f32::INFINITY.to_le_bytes())] {
        let mut bytes = fs::read(fixture("qwen2.gguf")).unwrap();
        let whole = open("qwen2");
        let norm = whole.container.tensors.iter().find(|t| t.name == "output_norm.weight").unwrap();
        assert_eq!(norm.ggml.name(), dtype);
        bytes[norm.bytes.start..norm.bytes.start + 4].copy_from_slice(&value);
        fs::write_atomic(&path, &bytes).unwrap();
        let gguf = Gguf::open(&path).unwrap();
        let error = gguf.write_tensor("model.norm.weight", &mut io::sink()).unwrap_err();
        let found = error.downcast::<Error>().unwrap().to_string();
        assert!(found.contains("tensor `output_norm.weight`: "), "{found}");
        assert!(found.ends_with("expected finite values"), "{found}");
    }
    let error = open("qwen2").write_tensor("other", &mut io::sink()).unwrap_err();
    assert!(error.to_string().contains("tensor `other`: nothing"), "{error}");
}
