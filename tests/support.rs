//! The binary, a tiny corpus, and a run that was trained on it.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;
use tempfile::TempDir;

/// What a process left behind.
#[derive(Debug)]
pub struct Output {
    /// Exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Reads what a finished process printed.
    pub fn of(output: std::process::Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// The same, of a process that succeeded.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// The rows of the first table on standard output that has a column of this name, by the names of
    /// its columns. A row without its first cell ends it.
    pub fn table(&self, column: &str) -> Vec<BTreeMap<String, String>> {
        let mut lines = self.stdout.lines().skip_while(|line| !starts(line).contains_key(column));
        let head = starts(lines.next().unwrap_or_else(|| panic!("no `{column}`: {self}")));
        let cells = |line: &str| -> BTreeMap<String, String> {
            let cell = |(name, (from, to)): (&String, &(usize, usize))| {
                let cell: String = line.chars().skip(*from).take(to - from).collect();
                (name.clone(), cell.trim().to_owned())
            };
            head.iter().map(cell).collect()
        };
        let first = head.iter().min_by_key(|(_, (from, _))| *from).unwrap().0;
        let rows = lines.take_while(|line| line.starts_with(' ')).map(cells);
        rows.take_while(|row| !row[first].is_empty()).collect()
    }

    /// Standard output, which is one JSON document.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self}"))
    }
}

/// Where each column begins and ends, by its name, if a line is the head of a table: names stand two
/// spaces apart.
fn starts(line: &str) -> BTreeMap<String, (usize, usize)> {
    let chars: Vec<char> = line.chars().collect();
    let begins =
        |at: usize| chars[at] != ' ' && (at < 2 || (chars[at - 1] == ' ' && chars[at - 2] == ' '));
    let mut places: Vec<usize> = (0..chars.len()).filter(|at| begins(*at)).collect();
    if places.first().is_some_and(|first| *first > 1) {
        places.insert(0, 0); // a column without a name
    }
    let ends = places.iter().skip(1).copied().chain([usize::MAX]);
    let name = |(from, to): (&usize, usize)| {
        let name: String = chars.iter().skip(*from).take(to - from).collect();
        (name.trim().to_owned(), (*from, to))
    };
    places.iter().zip(ends).map(name).collect()
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => writeln!(f, "exit code {code}")?,
            None => writeln!(f, "killed")?,
        }
        for (name, text) in [("output", &self.stdout), ("error", &self.stderr)] {
            if !text.is_empty() {
                writeln!(f, "--- standard {name}")?;
                text.lines().try_for_each(|line| writeln!(f, "{}", line.trim_end()))?;
            }
        }
        Ok(())
    }
}

/// Compares an [`Output`] with the text that follows.
macro_rules! snapshot {
    ($output:expr, @$expected:literal) => {
        insta::assert_snapshot!($output.to_string(), @$expected)
    };
}

/// The same for an output with measured numbers, which differ between machines: they, times and
/// hashes give way to a word, and columns that moved with them close up.
macro_rules! measured_snapshot {
    ($output:expr, @$expected:literal) => {
        insta::with_settings!({ filters => $crate::support::MEASURED.to_vec() }, {
            insta::assert_snapshot!($output.to_string(), @$expected)
        })
    };
}

/// The same for an output that names whole hashes.
macro_rules! hashed_snapshot {
    ($output:expr, @$expected:literal) => {
        insta::with_settings!({ filters => vec![(r"\b([0-9a-f]{16}|[0-9a-f]{64})\b", "[hash]")] }, {
            insta::assert_snapshot!($output.to_string(), @$expected)
        })
    };
}

/// Filters of `measured_snapshot!`.
pub const MEASURED: &[(&str, &str)] = &[
    (r"-?\d+\.\d{3,4}( ± \d+\.\d{4})?", "[number]"),
    (r"norm \d+\.\d\d", "norm [number]"),
    (r"\d+ tokens/s", "[rate] tokens/s"),
    (r"(\d+[hm])*\d+[ms] left", "[time] left"),
    (r"\b[0-9a-f]{16}\b", "[hash]"),
    (r"(\S)  +", "$1  "),
];

/// Keys of a JSON object, in their order.
pub fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Files below a folder, by relative path.
pub type Tree = BTreeMap<PathBuf, Vec<u8>>;

/// A folder to run the binary in: `text/`, `run.toml`, and what commands add. Removed at the end.
pub struct Place {
    dir: TempDir,
}

/// The run file of every place. It trains in less than a second.
const RUN_FILE: &str = r#"
[model.lm]
d_model = 32
n_layers = 2
n_heads = 2
n_kv_heads = 1
d_ff = 256
context = 32

[data]
paths = ["text"]
held_out = 0.2
vocab_size = 300

[train]
steps = 12
tokens_per_step = 256
learning_rate = 1e-2
warmup = 2
eval_every = 4
eval_tokens = 512
checkpoint_every = 4
"#;

/// Width of each granularity of that model.
pub const GRANULARITIES: [(&str, u64); 4] = [("S", 32), ("M", 64), ("L", 128), ("XL", 256)];

impl Place {
    /// With text and run file only.
    pub fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        place.write("run.toml", RUN_FILE);
        stories().for_each(|(name, text)| place.write(format!("text/{name}"), text));
        place
    }

    /// With the trained run in `run/`, and its data prepared.
    pub fn trained() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        trained().1.iter().for_each(|(path, bytes)| place.write(path, bytes));
        place
    }

    /// Path of something in here.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Text of a file.
    pub fn read(&self, name: impl AsRef<Path>) -> String {
        let path = self.path(name);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// A file that holds JSON.
    pub fn read_json(&self, name: impl AsRef<Path>) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// A file that holds JSON in each line.
    pub fn read_lines(&self, name: impl AsRef<Path>) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Removes a file or a folder.
    pub fn remove(&self, name: &str) {
        let path = self.path(name);
        match path.is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
    }

    /// All files that are here.
    pub fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => {
                        let name = path.strip_prefix(self.dir.path()).unwrap().to_owned();
                        tree.insert(name, std::fs::read(path).unwrap());
                    }
                }
            }
        }
        tree
    }

    /// Names of the files below a folder, one a line.
    pub fn list(&self, folder: &str) -> String {
        let tree = self.tree();
        let names = tree.keys().filter_map(|path| path.strip_prefix(folder).ok());
        names.map(|name| name.display().to_string()).collect::<Vec<_>>().join("\n")
    }

    /// Files of what was measured of a model: one a walk.
    pub fn measured(&self, folder: &str) -> Vec<String> {
        // By name alone: another process may be writing there.
        let inside = |folder: String| -> Vec<String> {
            let entries = std::fs::read_dir(self.path(&folder)).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            let mut names: Vec<_> = names.map(|name| format!("{folder}/{name}")).collect();
            names.sort();
            names
        };
        let mut files: Vec<_> =
            inside(format!("{folder}/measured")).into_iter().flat_map(inside).collect();
        files.retain(|file| file.ends_with(".safetensors"));
        files
    }

    /// The binary, not yet started, in here and deaf to the environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_matformer"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("MATFORMER_CACHE", "cache")
            .env("MATFORMER_DEVICE", "flex")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in ["MATFORMER_LOG", "COLUMNS", "CLICOLOR_FORCE", "RUST_BACKTRACE"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs the binary in here.
    pub fn matformer(&self, arguments: &[&str]) -> Output {
        Output::of(self.command(arguments).output().unwrap())
    }

    /// Runs the binary in here, checks that it refused its input with nothing on standard output
    /// and nothing written, and returns what it said.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let before = self.tree();
        let output = self.matformer(arguments);
        assert_eq!(output.code, Some(2), "{output}");
        assert_eq!(output.stdout, "", "{output}");
        assert!(self.tree() == before, "something was written: {output}");
        output.stderr
    }
}

/// The tiny run: what `train` printed, and all files after it. Made once.
pub fn trained() -> &'static (Output, Tree) {
    static TRAINED: OnceLock<(Output, Tree)> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let place = Place::new();
        let output = place.matformer(&["train", "run.toml", "--out", "run"]).ok();
        (output, place.tree())
    })
}

/// Sixty documents in which a little can be learnt, as (file name, text).
fn stories() -> impl Iterator<Item = (String, String)> {
    const WHO: [&str; 8] = ["fox", "hare", "owl", "wolf", "bear", "crow", "stag", "toad"];
    const DOES: [&str; 5] = ["finds", "hides", "carries", "counts", "paints"];
    const WHAT: [&str; 5] = ["a red stone", "the old key", "two coats", "a bell", "dry leaves"];
    const WHERE: [&str; 4] = ["by the mill", "under the bridge", "behind the wall", "at home"];
    let mut state = 1_u64;
    let mut draw = move |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 33) as usize % n
    };
    (0..60).map(move |i| {
        let mut text = format!("Story {i}\n\n");
        for _ in 0..12 + i % 5 {
            let (who, does) = (WHO[draw(8)], DOES[draw(5)]);
            let (what, place) = (WHAT[draw(5)], WHERE[draw(4)]);
            text += &format!("The {who} {does} {what} {place}.\n");
        }
        (format!("story-{i:02}.txt"), text)
    })
}
