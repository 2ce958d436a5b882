//! The table of keys, in the order of a run file.

use super::{
    Key,
    Shown::{self, Always, Never},
    ValueType::{self, Bool, Number, Numbers, Other, Texts, Whole, Wholes, Word},
};
use crate::RunKind::{self, Lm, Vit};

/// Shown for images alone.
const IMAGES: Shown = Shown::Of(Vit);

/// A key of all kinds.
const fn both(path: &'static str, value: ValueType, shown: Shown, about: &'static str) -> Key {
    Key { path, kind: None, value, example: None, about, shown }
}

/// A key of one kind.
const fn of(
    kind: RunKind,
    path: &'static str,
    value: ValueType,
    shown: Shown,
    about: &'static str,
) -> Key {
    Key { path, kind: Some(kind), value, example: None, about, shown }
}

impl Key {
    /// The same key, with a value to show.
    const fn like(self, example: &'static str) -> Self {
        Self { example: Some(example), ..self }
    }
}

const GRANULARITIES: &str = "widths of S, M, L and XL; default: d_ff/8, /4, /2, /1";
const PATHS: &str = "a list, such as [\"my.jsonl\", \"texts\"]";

/// All keys of run files.
pub const KEYS: &[Key] = &[
    of(
        Lm,
        "model.preset",
        ValueType::Text,
        Always,
        "model preset: demo, small, 78m, …; see `matformer info --preset NAME`",
    )
    .like("\"demo\""),
    of(
        Vit,
        "model.preset",
        ValueType::Text,
        Always,
        "model preset: small28, small64, ti16, …; see `matformer info --preset NAME`",
    )
    .like("\"small28\""),
    of(Lm, "model.lm.vocab_size", Whole, Never, "size of the vocabulary; a run takes the tokenizer's"),
    of(Lm, "model.lm.d_model", Whole, Always, "size of the hidden state"),
    of(Lm, "model.lm.n_layers", Whole, Always, "number of layers"),
    of(Lm, "model.lm.n_heads", Whole, Always, "attention heads; divides d_model"),
    of(Lm, "model.lm.n_kv_heads", Whole, Always, "heads of keys and values; divides n_heads"),
    of(Lm, "model.lm.head_dim", Whole, Never, "size of a head; default: d_model / n_heads").like("32"),
    of(Lm, "model.lm.d_ff", Whole, Always, "widest feed-forward width: that of XL"),
    of(Lm, "model.lm.granularities", Wholes, Always, GRANULARITIES).like("[64, 128, 256, 512]"),
    of(Lm, "model.lm.width_multiple", Whole, Never, "every width is a multiple of it"),
    of(Lm, "model.lm.context", Whole, Always, "context length in tokens"),
    of(Lm, "model.lm.tied_embeddings", Bool, Never, "whether embedding and output head are tied"),
    of(
        Lm,
        "model.lm.activation",
        Word(&["swi_glu", "ge_glu", "gelu"]),
        Never,
        "activation of the feed-forward block; gelu: two matrices, as in the paper",
    ),
    of(Lm, "model.lm.rope_theta", Number, Never, "base of the rotary embedding"),
    of(
        Lm,
        "model.lm.rope_scaling",
        Other("a table"),
        Never,
        "type `linear`, or `llama3` with low_freq_factor, high_freq_factor and original_context",
    )
    .like("{ type = \"linear\", factor = 4.0 }"),
    of(Lm, "model.lm.nope_layers", Wholes, Never, "layers without rotary embedding").like("[3]"),
    of(
        Lm,
        "model.lm.window",
        Other("a table"),
        Never,
        "sliding-window attention; layers: all by default; rope_theta: by default the base and scaling of other \
         layers",
    )
    .like("{ size = 512, layers = [0, 1], rope_theta = 1e4 }"),
    of(Lm, "model.lm.qkv_bias", Bool, Never, "biases of queries, keys and values").like("true"),
    of(Lm, "model.lm.o_bias", Bool, Never, "bias of the attention's output").like("true"),
    of(Lm, "model.lm.qk_norm", Bool, Never, "norms of query and key heads").like("true"),
    of(
        Lm,
        "model.lm.query_pre_attn_scalar",
        Whole,
        Never,
        "attention scores are divided by its square root; default: head_dim",
    )
    .like("32"),
    of(Lm, "model.lm.post_norms", Bool, Never, "also normalise the outputs of attention and feed-forward block")
        .like("true"),
    of(Lm, "model.lm.norm_plus_one", Bool, Never, "norms multiply by 1 + weight").like("true"),
    of(Lm, "model.lm.scale_embeddings", Bool, Never, "embeddings times the root of d_model").like("true"),
    of(Lm, "model.lm.norm_eps", Number, Never, "added to the variance in norms"),
    of(Lm, "model.lm.layer_d_ff", Wholes, Never, "feed-forward width of each layer, of a slice")
        .like("[256, 512]"),
    of(
        Vit,
        "model.vit.image_size",
        Whole,
        Always,
        "height and width that images are resized to; a multiple of patch_size",
    ),
    of(Vit, "model.vit.channels", Whole, Always, "1: grey, 3: colors"),
    of(
        Vit,
        "model.vit.patch_size",
        Whole,
        Always,
        "height and width of a patch: halving it makes four times as many tokens",
    ),
    of(Vit, "model.vit.classes", Whole, Never, "number of classes; a run takes the data's"),
    of(Vit, "model.vit.d_model", Whole, Always, "size of the hidden state"),
    of(Vit, "model.vit.n_layers", Whole, Always, "number of layers"),
    of(Vit, "model.vit.n_heads", Whole, Always, "attention heads; divides d_model"),
    of(Vit, "model.vit.d_ff", Whole, Always, "widest feed-forward width: that of XL"),
    of(Vit, "model.vit.granularities", Wholes, Always, GRANULARITIES).like("[48, 96, 192, 384]"),
    of(Vit, "model.vit.width_multiple", Whole, Never, "every width is a multiple of it"),
    of(Vit, "model.vit.pooling", Word(&["class_token", "mean"]), Never, "what the head reads"),
    of(Vit, "model.vit.distillation_token", Bool, Never, "a second token and head, as DeiT has"),
    of(
        Vit,
        "model.vit.drop_path",
        Number,
        Always,
        "stochastic depth (drop-path) rate of the last layer",
    ),
    of(Vit, "model.vit.norm_eps", Number, Never, "added to the variance in norms"),
    of(Vit, "model.vit.layer_d_ff", Wholes, Never, "feed-forward width of each layer, of a slice")
        .like("[192, 384]"),
    of(
        Lm,
        "data.paths",
        Other(PATHS),
        Always,
        "files, folders, hf:owner/name, fetch:NAME; relative to this file",
    )
    .like("[\"texts\", \"rows.jsonl\"]"),
    of(
        Lm,
        "data.field",
        ValueType::Text,
        Always,
        "field of a .jsonl row, or column of a .csv, .parquet or .arrow file, that holds the text",
    ),
    of(
        Lm,
        "data.chat",
        Bool,
        Always,
        "whether rows are conversations (messages, or prompt and completion); only answers are trained on",
    ),
    of(
        Lm,
        "data.sources",
        Other("a list of tables with paths and a weight"),
        Never,
        "several weighted datasets instead of paths; weights are shares of the training rows",
    )
    .like("[{ paths = [\"code\"], weight = 0.7 }, { paths = [\"rows.jsonl\"], weight = 0.3, field = \"body\" }]"),
    of(
        Vit,
        "data.path",
        ValueType::Text,
        Always,
        "folder with one subfolder per class, or with .parquet, MNIST or CIFAR files; hf:owner/name or fetch:NAME",
    )
    .like("\"pictures\""),
    of(Vit, "data.also", Other(PATHS), Always, "more folders with the same classes").like("[\"more\"]"),
    of(
        Lm,
        "data.held_out",
        Number,
        Always,
        "fraction of the documents in the held-out split",
    ),
    of(Lm, "data.validation", Other(PATHS), Always, "held-out files of your own instead")
        .like("[\"test.jsonl\"]"),
    of(
        Vit,
        "data.held_out",
        Number,
        Always,
        "fraction of each class in the held-out split, if there is no val or test folder",
    ),
    of(
        Lm,
        "data.vocab_size",
        Whole,
        Always,
        "vocabulary size of the tokenizer trained on this text",
    ),
    of(
        Lm,
        "data.tokenizer",
        ValueType::Text,
        Always,
        "use this existing tokenizer instead",
    )
    .like("\"hf:owner/model\""),
    of(
        Lm,
        "data.max_file_bytes",
        Whole,
        Never,
        "larger documents are dropped; default: no limit",
    )
    .like("262144"),
    of(Lm, "data.max_bad_rows", Number, Never, "share of rows and files that may be bad; they are skipped"),
    of(
        Lm,
        "data.max_lost_bytes",
        Number,
        Never,
        "share of bytes that data.tokenizer may fail to reproduce, normalisation aside",
    ),
    of(Lm, "data.deduplicate", Bool, Never, "whether duplicates of a document are dropped"),
    of(
        Lm,
        "data.cluster_folders",
        Bool,
        Never,
        "whether the documents of a folder, directly below an entry, are not independent: standard errors count folders",
    ),
    of(Vit, "data.max_bad_images", Number, Never, "share of the images that may be bad; they are skipped"),
    both("data.strict", Bool, Never, "whether nothing may be bad or lost"),
    of(Lm, "data.seed", Whole, Never, "random seed of the split and of the tokenizer's sample"),
    of(
        Vit,
        "data.augment.crop_ratio",
        Numbers,
        Never,
        "least and largest ratio of width to height of a crop",
    ),
    of(Vit, "data.augment.pad", Whole, Always, "maximum random shift of training images, in pixels"),
    of(
        Vit,
        "data.augment.crop_scale",
        Numbers,
        Always,
        "area of a random crop, as a fraction of the image (minimum, maximum)",
    )
    .like("[0.5, 1.0]"),
    of(
        Vit,
        "data.augment.flip",
        Number,
        Always,
        "probability of a horizontal flip, such as 0.5; do not use for letters or digits",
    ),
    of(Vit, "data.augment.smoothing", Number, Always, "label smoothing"),
    of(Vit, "data.augment.mixup", Number, Always, "mixup alpha, such as 0.2; 0: off"),
    of(Vit, "data.augment.cutmix", Number, Never, "strength of CutMix, such as 1.0; 0: none"),
    of(Vit, "data.augment.erase", Number, Never, "probability that a rectangle is erased"),
    of(
        Vit,
        "data.augment.rand_augment",
        Other("a table"),
        Never,
        "RandAugment: number of operations and magnitude",
    )
    .like("{ n = 2, magnitude = 3.0 }"),
    of(Vit, "data.augment.mean", Numbers, Never, "mean of each channel, where white is 1").like("[0.5]"),
    of(Vit, "data.augment.std", Numbers, Never, "standard deviation of each channel").like("[0.5]"),
    both("train.steps", Whole, Always, "number of training steps; to improve results, increase this first"),
    of(
        Lm,
        "train.tokens_per_step",
        Whole,
        Always,
        "batch size in tokens; a multiple of seq_len",
    ),
    of(Vit, "train.images_per_step", Whole, Always, "batch size"),
    of(
        Lm,
        "train.batch_rows",
        Whole,
        Always,
        "micro-batch size in sequences: lower it to save memory; default: the whole batch",
    )
    .like("4"),
    of(
        Vit,
        "train.batch_rows",
        Whole,
        Always,
        "micro-batch size: lower it to save memory; default: the whole batch",
    )
    .like("32"),
    of(
        Lm,
        "train.seq_len",
        Whole,
        Always,
        "training sequence length in tokens; default: the context length, at most 1024",
    )
    .like("256"),
    both(
        "train.optimizer",
        Word(&["adamw", "muon"]),
        Always,
        "optimizer of the matrices of the layers: adamw or muon; all else takes adamw",
    ),
    both("train.learning_rate", Number, Always, "peak learning rate"),
    both(
        "train.schedule",
        Word(&["cosine", "wsd"]),
        Always,
        "learning rate schedule: cosine, or wsd (constant, with a decay at the end)",
    ),
    both("train.decay", Number, Never, "share of the steps in which wsd decays"),
    both("train.min_lr", Number, IMAGES, "final learning rate as a fraction of the peak"),
    both("train.warmup", Whole, Always, "warm-up steps"),
    of(Lm, "train.weight_decay", Number, Always, "weight decay (matrices and embeddings)"),
    of(Vit, "train.weight_decay", Number, Always, "decay of matrices"),
    both("train.betas", Numbers, Never, "decay rates of the moments of AdamW"),
    both("train.eps", Number, Never, "added to the root of the second moment"),
    both("train.clip", Number, Never, "largest norm of the gradient; 0: no clipping"),
    both(
        "train.layer_decay",
        Number,
        Never,
        "layer-wise learning rate decay: factor from each layer to the one below",
    ),
    both(
        "train.freeze",
        Texts,
        Never,
        "parts that are not trained, by parameter path: embed, layers.0.ffn, norm; patch, head, …",
    )
    .like("[\"embed\"]"),
    both(
        "train.draw",
        Other("a draw"),
        Always,
        "which sizes each step trains: sampled (one at random), joint (all), sandwich, per-layer, …",
    ),
    both(
        "train.outer",
        Word(&["decay", "skip"]),
        Never,
        "unsampled units: decay (zero gradient) or skip (no update)",
    ),
    both(
        "train.exchange",
        Other("\"every-step\", or a table"),
        Never,
        "what several processes exchange: gradients in every step, or weights after rounds of steps (DiLoCo): \
         { every = 500, outer_learning_rate = 0.7, outer_momentum = 0.9 }",
    ),
    of(
        Lm,
        "train.ema",
        Number,
        Always,
        "decay rate of an exponential moving average of the weights, such as 0.999; 0: off",
    ),
    of(
        Vit,
        "train.ema",
        Number,
        Always,
        "decay rate of an exponential moving average of the weights, which is evaluated and saved; 0: off",
    ),
    both("train.dtype", Word(&["f32", "bf16"]), Always, "f32, or bf16 on GPUs that support it"),
    both("train.seed", Whole, Always, "random seed for initial weights, sampling of sizes, and batches"),
    both(
        "train.init",
        ValueType::Text,
        Always,
        "start from the weights of this model folder; leave out [model]",
    )
    .like("\"runs/other\""),
    of(Lm, "train.eval_every", Whole, Always, "steps between two evaluations on held-out text"),
    of(Vit, "train.eval_every", Whole, Always, "steps between two evaluations on held-out images"),
    of(Lm, "train.eval_tokens", Whole, Always, "held-out tokens per evaluation"),
    of(Vit, "train.eval_images", Whole, Always, "held-out images per evaluation"),
    both("train.checkpoint_every", Whole, Always, "steps between two checkpoints"),
    both("train.keep", Whole, Always, "number of latest checkpoints to keep, in addition to the best one"),
    both("train.tensorboard", Bool, Always, "also write the metrics as TensorBoard event files")
        .like("true"),
    both(
        "train.spike",
        Other("a number, or a table"),
        Never,
        "skip steps with a loss this many nats above the mean; 0: never. Or { nats = 2.0, deviations = 8.0, \
         in_a_row = 5 }",
    ),
    both("train.overfit", Whole, Never, "sanity check: train only on this many first batches").like("1"),
    both("train.distill.from", ValueType::Text, Never, "teacher submodel; default: the widest")
        .like("\"XL\""),
    both("train.distill.teacher", ValueType::Text, Never, "model folder of a frozen teacher, instead of `from`")
        .like("\"base\""),
    both("train.distill.students", Texts, Never, "sizes that learn from the teacher; default: all")
        .like("[\"S\"]"),
    both("train.distill.weight", Number, Never, "weight of the divergence from the teacher")
        .like("0.5"),
    both("train.distill.cross_entropy", Number, Never, "weight of the cross-entropy").like("1.0"),
    both("train.distill.temperature", Number, Never, "temperature of both distributions").like("1.0"),
    both("train.distill.reverse", Bool, Never, "KL(student ‖ teacher), not KL(teacher ‖ student)")
        .like("false"),
];
