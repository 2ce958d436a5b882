//! From data of one's own to a run: `init`, and `train --data` without a run file.

use serde_json::json;

use crate::{
    support::{Place, keys},
    vision::{SIZE, pixels},
};

/// Settings of a run that trains in a second, whatever its preset.
const TINY: [&str; 14] = [
    "--set",
    "model.lm.d_model=32",
    "--set",
    "model.lm.n_layers=2",
    "--set",
    "model.lm.d_ff=256",
    "--set",
    "data.vocab_size=300",
    "--set",
    "train.steps=2",
    "--set",
    "train.warmup=0",
    "--set",
    "train.eval_tokens=512",
];
/// The same of images.
const TINY_IMAGES: [&str; 10] = [
    "--set",
    "model.vit.d_model=48",
    "--set",
    "model.vit.n_layers=1",
    "--set",
    "train.steps=2",
    "--set",
    "train.warmup=0",
    "--set",
    "train.eval_images=8",
];

fn rows(n: usize) -> String {
    let row = |i| json!({ "text": format!("The owl counts {i} coats in hall {i}.\n") });
    (0..n).map(|i| row(i).to_string() + "\n").collect()
}

/// A [`Place`] with nothing but text in it.
fn place() -> Place {
    let place = Place::new();
    place.remove("run.toml");
    place
}

/// Images of two classes, below `pictures`.
fn pictures(place: &Place) {
    for i in 0..40 {
        let side = SIZE as u32;
        let image = image::GrayImage::from_raw(side, side, pixels(i)).unwrap();
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::DynamicImage::from(image).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        place.write(format!("pictures/{}/{i}.png", ["cat", "dog"][i % 2]), bytes.into_inner());
    }
}

/// The columns of tables are looked at, as the fields of rows are.
#[test]
fn tables_are_looked_into() {
    let place = Place::new();
    let table = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../matformer-tasks/tests/fixtures/colours.test.parquet"
    );
    std::fs::copy(table, place.path("colours.parquet")).unwrap();
    let said = place.matformer(&["init", "--data", "colours.parquet"]).ok();
    assert!(
        place.read("colours.toml").lines().any(|line| line.starts_with("field = \"")),
        "{said}"
    );
}

/// Conversations need a tokenizer with a chat template, which nobody but the user can name.
#[test]
fn a_run_file_for_conversations_asks_for_a_tokenizer() {
    let place = Place::new();
    let row = "{\"messages\": [{\"role\": \"assistant\", \"content\": \"Hoo!\"}]}\n";
    place.write("chat.jsonl", row.repeat(40));
    let said = place.matformer(&["init", "chat.toml", "--data", "chat.jsonl"]).ok();
    assert!(
        said.stderr.contains("conversations") || said.stdout.contains("conversations"),
        "{said}"
    );
    assert!(place.read("chat.toml").lines().any(|line| line.starts_with("chat = true ")));
    let refused = place.refused(&["train", "chat.toml"]);
    assert!(
        refused.contains("expected: a tokenizer with a chat template in `data.tokenizer`"),
        "{refused}"
    );
}

#[test]
fn a_folder_of_text_gets_a_run_file_that_trains() {
    let place = place();
    snapshot!(place.matformer(&["init", "--data", "text"]), @"
    exit code 0
    --- standard output
    text.toml: 34.2 kB of text in 60 documents, preset demo
    next: matformer train text.toml --dry-run
          matformer train text.toml
    ");
    snapshot!(place.read("text.toml"), @r#"
    # A run of matformer on 34.2 kB of text in 60 documents.
    #
    #   matformer train text.toml --dry-run    parameters, time and memory; writes nothing
    #   matformer train text.toml              trains into runs/text; Ctrl-C saves, --resume continues
    #
    # A key behind `#` shows its default, or an example.

    [model]
    preset = "demo"                   # model preset: demo, small, 78m, …; see `matformer info --preset NAME`

    [model.lm]
    # d_model = 128                   # size of the hidden state
    # n_layers = 5                    # number of layers
    # n_heads = 4                     # attention heads; divides d_model
    # n_kv_heads = 2                  # heads of keys and values; divides n_heads
    # d_ff = 512                      # widest feed-forward width: that of XL
    # granularities = [64, 128, 256, 512]  # widths of S, M, L and XL; default: d_ff/8, /4, /2, /1
    # context = 256                   # context length in tokens

    [data]
    paths = ["text"]                  # files, folders, hf:owner/name, fetch:NAME; relative to this file
    # field = "text"                  # field of a .jsonl row, or column of a .csv, .parquet or .arrow file, that holds the text
    # chat = false                    # whether rows are conversations (messages, or prompt and completion); only answers are trained on
    held_out = 0.2                    # fraction of the documents in the held-out split
    # validation = ["test.jsonl"]     # held-out files of your own instead
    vocab_size = 512                  # vocabulary size of the tokenizer trained on this text
    # tokenizer = "hf:owner/model"    # use this existing tokenizer instead

    [train]
    steps = 100                       # number of training steps; to improve results, increase this first
    tokens_per_step = 2048            # batch size in tokens; a multiple of seq_len
    # batch_rows = 4                  # micro-batch size in sequences: lower it to save memory; default: the whole batch
    # seq_len = 256                   # training sequence length in tokens; default: the context length, at most 1024
    optimizer = "muon"                # optimizer of the matrices of the layers: adamw or muon; all else takes adamw
    learning_rate = 0.01              # peak learning rate
    # schedule = "cosine"             # learning rate schedule: cosine, or wsd (constant, with a decay at the end)
    warmup = 10                       # warm-up steps
    # weight_decay = 0.1              # weight decay (matrices and embeddings)
    # draw = "sampled"                # which sizes each step trains: sampled (one at random), joint (all), sandwich, per-layer, …
    # ema = 0.0                       # decay rate of an exponential moving average of the weights, such as 0.999; 0: off
    # dtype = "f32"                   # f32, or bf16 on GPUs that support it
    # seed = 0                        # random seed for initial weights, sampling of sizes, and batches
    # init = "runs/other"             # start from the weights of this model folder; leave out [model]
    eval_every = 10                   # steps between two evaluations on held-out text
    eval_tokens = 16384               # held-out tokens per evaluation
    checkpoint_every = 10             # steps between two checkpoints
    # keep = 3                        # number of latest checkpoints to keep, in addition to the best one
    # tensorboard = true              # also write the metrics as TensorBoard event files
    "#);
    let train = [&["train", "text.toml"][..], &TINY].concat();
    let output = place.matformer(&train).ok();
    assert!(output.stderr.contains("runs/text: trained 2 steps"), "{output}");
    // From elsewhere, into a folder of its own.
    place.write("deep/rows.jsonl", rows(40));
    place.matformer(&["init", "made/here", "--kind", "text", "--data", "deep/rows.jsonl"]).ok();
    let text = place.read("made/here/rows.toml");
    assert!(text.contains("paths = [\"../../deep/rows.jsonl\"]"), "{text}");
    let json = place.matformer(&["init", "other.toml", "--data", "deep", "--json"]).ok().json();
    assert_eq!(keys(&json), ["file", "kind", "preset", "found"]);
    assert_eq!((&json["file"], &json["kind"]), (&json!("other.toml"), &json!("text")));
}

#[test]
fn a_folder_of_images_gets_a_run_file_that_trains() {
    let place = place();
    pictures(&place);
    snapshot!(place.matformer(&["init", "vit.toml", "--data", "pictures"]), @"
    exit code 0
    --- standard output
    vit.toml: 40 images of 2 classes, short side 8 pixels, in grey, preset small28
    next: matformer train vit.toml --dry-run
          matformer train vit.toml
    ");
    snapshot!(place.read("vit.toml"), @r#"
    # A run of matformer on 40 images of 2 classes, short side 8 pixels, in grey.
    #
    #   matformer train vit.toml --dry-run    parameters, time and memory; writes nothing
    #   matformer train vit.toml              trains into runs/vit; Ctrl-C saves, --resume continues
    #
    # A key behind `#` shows its default, or an example.

    [model]
    preset = "small28"                # model preset: small28, small64, ti16, …; see `matformer info --preset NAME`

    [model.vit]
    image_size = 8                    # height and width that images are resized to; a multiple of patch_size
    # channels = 1                    # 1: grey, 3: colors
    # patch_size = 4                  # height and width of a patch: halving it makes four times as many tokens
    # d_model = 96                    # size of the hidden state
    # n_layers = 6                    # number of layers
    # n_heads = 3                     # attention heads; divides d_model
    # d_ff = 384                      # widest feed-forward width: that of XL
    # granularities = [48, 96, 192, 384]  # widths of S, M, L and XL; default: d_ff/8, /4, /2, /1
    # drop_path = 0.0                 # stochastic depth (drop-path) rate of the last layer

    [data]
    path = "pictures"                 # folder with one subfolder per class, or with .parquet, MNIST or CIFAR files; hf:owner/name or fetch:NAME
    # also = ["more"]                 # more folders with the same classes
    # held_out = 0.1                  # fraction of each class in the held-out split, if there is no val or test folder

    [data.augment]
    pad = 1                           # maximum random shift of training images, in pixels
    # crop_scale = [0.5, 1.0]         # area of a random crop, as a fraction of the image (minimum, maximum)
    # flip = 0.0                      # probability of a horizontal flip, such as 0.5; do not use for letters or digits
    smoothing = 0.1                   # label smoothing
    # mixup = 0.0                     # mixup alpha, such as 0.2; 0: off

    [train]
    steps = 300                       # number of training steps; to improve results, increase this first
    images_per_step = 4               # batch size
    # batch_rows = 32                 # micro-batch size: lower it to save memory; default: the whole batch
    # optimizer = "adamw"             # optimizer of the matrices of the layers: adamw or muon; all else takes adamw
    learning_rate = 0.001             # peak learning rate
    # schedule = "cosine"             # learning rate schedule: cosine, or wsd (constant, with a decay at the end)
    min_lr = 0.01                     # final learning rate as a fraction of the peak
    warmup = 30                       # warm-up steps
    weight_decay = 0.05               # decay of matrices
    # draw = "sampled"                # which sizes each step trains: sampled (one at random), joint (all), sandwich, per-layer, …
    ema = 0.98                        # decay rate of an exponential moving average of the weights, which is evaluated and saved; 0: off
    # dtype = "f32"                   # f32, or bf16 on GPUs that support it
    # seed = 0                        # random seed for initial weights, sampling of sizes, and batches
    # init = "runs/other"             # start from the weights of this model folder; leave out [model]
    eval_every = 30                   # steps between two evaluations on held-out images
    eval_images = 2000                # held-out images per evaluation
    checkpoint_every = 30             # steps between two checkpoints
    # keep = 3                        # number of latest checkpoints to keep, in addition to the best one
    # tensorboard = true              # also write the metrics as TensorBoard event files
    "#);
    let train = [&["train", "vit.toml", "--out", "run"][..], &TINY_IMAGES].concat();
    let output = place.matformer(&train).ok();
    assert!(output.stderr.contains("36 training images of 2 classes"), "{output}");
    // Without a run file, the same.
    let train =
        [&["train", "--data", "pictures", "--preset", "small28"][..], &TINY_IMAGES].concat();
    let output = place.matformer(&train).ok();
    assert!(output.stderr.contains("runs/pictures: trained 2 steps"), "{output}");
    let kept: toml::Table = place.read("runs/pictures/run.toml").parse().unwrap();
    assert_eq!(kept["model"]["vit"]["image_size"].as_integer(), Some(28));
}

#[test]
fn a_run_file_is_not_overwritten() {
    let place = place();
    place.write("text.toml", "# mine\n");
    let said = place.refused(&["init", "--data", "text"]);
    assert_eq!(
        said,
        "error: text.toml: exists\nhint: name another file, or overwrite it with --force\n"
    );
    place.matformer(&["init", "--data", "text", "--force"]).ok();
    assert!(place.read("text.toml").contains("[train]"));
    place.write("folder.toml/x", "");
    place.matformer(&["init", "folder.toml", "--data", "text"]).ok();
    assert!(place.read("folder.toml/text.toml").contains("[train]"));
}

#[test]
fn data_alone_is_trained_and_resumed() {
    let place = place();
    place.write("my.jsonl", rows(60));
    let train = ["train", "--preset", "demo", "--data", "my.jsonl", "--out", "run"];
    let output = place.matformer(&[&train[..], &TINY].concat()).ok();
    assert!(output.stderr.contains("run: trained 2 steps"), "{output}");
    let kept: toml::Table = place.read("run/run.toml").parse().unwrap();
    assert_eq!(kept["data"]["paths"].to_string(), "[\"../my.jsonl\"]");
    assert_eq!(kept["model"]["lm"]["n_heads"].as_integer(), Some(4));
    let again = [&train[..], &TINY, &["--resume"]].concat();
    let output = place.matformer(&again).ok();
    assert!(output.stderr.contains("run: complete, nothing to do"), "{output}");
    // Several places are one run, named after the first.
    let dry = ["train", "--data", "my.jsonl", "text", "--dry-run"];
    let output = place.matformer(&[&dry[..], &TINY].concat()).ok();
    assert!(output.stdout.contains("nothing was written"), "{output}");
    assert!(!place.path("runs/my").exists());
}

#[test]
fn what_is_missing_or_too_much_is_said() {
    let place = Place::new();
    place.write("lone.jsonl", rows(9));
    place.write("photo.png", "");
    for (arguments, message, hint) in [
        (
            &["train"][..],
            "nothing to train: expected a run file, the folder of a run, or --data",
            "`matformer init --data PATH` writes a run file for data of your own",
        ),
        (
            &["train", "--preset", "small"],
            "--preset small: no data to train on",
            "name it with --data",
        ),
        (
            &["train", "run.toml", "--preset", "small"],
            "--preset small: run.toml names the model",
            "--set model.preset=small names another",
        ),
        (
            &["train", "run.toml", "--data", "text"],
            "--data text: run.toml names the data",
            "give either a run file or --data; --set changes what a run file names",
        ),
        (
            &["train", "--data", "run.toml"],
            "--data run.toml: a run file or run folder; expected text or images",
            "`matformer train` takes a run file as it is; --data names what to train on",
        ),
        (
            &["train", "--data", "text", "--init", "base"],
            "--init base: starting from a model needs a run file",
            "write one, or `matformer elastify base --data … --out …`",
        ),
        (
            &["init", "--data", "text", "--preset", "small28", "--kind", "text"],
            "unknown preset `small28`; there are: demo, small, 78m, 78m-paper, 180m, 180m-paper, 310m, \
             310m-paper, 463m, 463m-paper, 850m, 850m-paper for `model.lm`",
            "",
        ),
        (
            &["init", "--data", "text", "--kind", "images"],
            "no images in `text`",
            "images lie in a folder per class",
        ),
    ] {
        let said = place.refused(arguments);
        let hint = if hint.is_empty() { String::new() } else { format!("hint: {hint}") };
        let expected = format!("error: {message}\n{hint}");
        assert!(said.starts_with(expected.trim_end()), "{said}\n{expected}");
    }
    let said = place.refused(&["init", "--data", "nowhere"]);
    assert!(said.contains("nowhere`: No such file"), "{said}");
}

#[test]
fn a_few_hundred_bytes_train() {
    let place = place();
    place.remove("text");
    place.write("tiny/a.txt", "The owl counts coats.\n".repeat(5));
    place.write("tiny/b.txt", "The hare has a hat.\n".repeat(5));
    place.matformer(&["init", "--data", "tiny"]).ok();
    let tiny =
        TINY.map(|set| if set == "train.eval_tokens=512" { "train.eval_tokens=8" } else { set });
    let train = [&["train", "tiny.toml"][..], &tiny].concat();
    let output = place.matformer(&train).ok();
    assert!(output.stderr.contains("trained 2 steps"), "{output}");
}

#[test]
fn rows_are_looked_at_before_a_file_is_written() {
    let place = place();
    place.write("bad.jsonl", "{\"text\": \"a\"}\noops\n");
    snapshot!(place.refused(&["init", "--data", "bad.jsonl"]), @"
    error: bad.jsonl, line 2: not a JSON object; expected one in each line of the file
    hint: `data.field` in a run file names the field of the text; `data.max_bad_rows` says how many rows may be bad
    ");
    assert!(!place.path("bad.toml").exists());
    place.write("content.jsonl", rows(40).replace("\"text\"", "\"content\""));
    let said = place.matformer(&["init", "--data", "content.jsonl"]).ok();
    assert!(said.stdout.contains("in the field `content` of its rows"), "{said}");
    assert!(place.read("content.toml").contains("\nfield = \"content\""));
    let train = [&["train", "content.toml"][..], &TINY].concat();
    place.matformer(&train).ok();
}

#[test]
fn places_hold_one_kind_of_data_and_names_are_those_of_files() {
    let place = place();
    pictures(&place);
    snapshot!(place.refused(&["train", "--data", "text", "pictures"]), @"
    error: text holds text, pictures holds images; expected data of one kind
    hint: a model learns from one of them: leave out the other
    ");
    snapshot!(place.refused(&["init", "x.txt", "--data", "text"]), @"
    error: x.txt: not the name of a run file
    hint: expected a name that ends in .toml, or a folder
    ");
    assert!(!place.path("x.txt").exists());
}

#[test]
fn a_run_on_data_resumes_as_it_was_begun() {
    let place = place();
    let train = |more: &[&str]| {
        let all = [&["train", "--data", "text", "--out", "runs/a"][..], &TINY, more].concat();
        place.matformer(&all)
    };
    train(&[]).ok();
    // More text would be sized otherwise: that is no other setting of the run.
    let resume = ["train", "--data", "text", "--out", "runs/a", "--resume"];
    let output = place.matformer(&resume).ok();
    assert!(output.stderr.contains("complete, nothing to do"), "{output}");
    let other = place.matformer(&[&resume[..], &["--set", "train.seed=9"]].concat());
    assert_eq!(other.code, Some(2), "{other}");
    assert!(other.stderr.contains("`train.seed` is 0 there, 9 here"), "{other}");
}

#[test]
fn keys_are_listed() {
    let place = place();
    snapshot!(place.matformer(&["keys", "eval", "--kind", "text"]), @r"
    exit code 0
    --- standard output
    [train]
    eval_every = 200
        a whole number, 0 or more: steps between two evaluations on held-out text (text only)
    eval_tokens = 16384
        a whole number, 0 or more: held-out tokens per evaluation (text only)
    ");
    let json = place.matformer(&["keys", "--json"]).ok().json();
    let first = &json.as_array().unwrap()[0];
    assert_eq!(keys(first), ["key", "kind", "value", "default", "example", "about"]);
    snapshot!(place.refused(&["keys", "unheard"]), @"
    error: no key has `unheard` in its name
    hint: `matformer keys` lists all
    ");
}
