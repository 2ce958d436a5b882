//! Packages as files: zip (a wheel), tar (npm's), and Debian's tar in an ar archive.

use std::io::{BufReader, Read, Seek};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

use crate::Files;

/// Upper limit in bytes for the unpacked size of a package (protection against decompression bombs).
const LIMIT: u64 = 1 << 30;

/// Which files of a package are kept, and under which names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selection<'a> {
    /// A folder, wherever it lies in the package; names start below it.
    pub(crate) root: &'a str,
    /// Files and folders below the root to extract; empty: everything.
    pub(crate) only: &'a [String],
    /// Suffixes of the files, without a dot.
    pub(crate) suffixes: &'a [String],
}

impl Selection<'_> {
    /// The name of a file of a package, if it is kept.
    fn name(&self, path: &str) -> Option<String> {
        let path = format!("/{}", path.trim_start_matches("./"));
        let root = format!("/{}/", self.root);
        let (_, name) = path.split_once(&root)?;
        let (_, suffix) = name.rsplit_once('.')?;
        let inside = |wanted: &String| {
            name.strip_prefix(wanted.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let kept = self.suffixes.iter().any(|wanted| wanted == suffix)
            && (self.only.is_empty() || self.only.iter().any(inside));
        kept.then(|| name.to_owned())
    }

    /// What a package lacks of which nothing is kept.
    fn missed(&self) -> String {
        let only = match self.only {
            [] => String::new(),
            only => format!(" ({})", only.join(", ")),
        };
        format!("no file below `{}`{only} ends in {}", self.root, self.suffixes.join(", "))
    }
}

/// The selected files of a package, told by its first bytes. Nothing else of it is held in memory.
///
/// # Errors
/// The reason: bytes that are no package, or damaged; a package without such files; more than a
/// GiB of them.
pub(crate) fn unpack(
    mut package: impl Read + Seek,
    selection: Selection<'_>,
) -> Result<Files, String> {
    let start = start(&mut package)?;
    package.rewind().map_err(|error| error.to_string())?;
    let files = match start.as_slice() {
        [b'P', b'K', 3, 4, ..] => unzip(package, selection),
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', b'\n', ..] => undeb(package, selection),
        _ => untar(package, selection),
    }?;
    match files.is_empty() {
        false => Ok(files),
        true => Err(selection.missed()),
    }
}

/// The first bytes, by which a format is told.
fn start(reader: &mut impl Read) -> Result<Vec<u8>, String> {
    let mut start = Vec::new();
    reader.take(24).read_to_end(&mut start).map_err(|error| error.to_string())?;
    Ok(start)
}

/// Adds a file as long as all are within [`LIMIT`].
fn keep(files: &mut Files, name: String, content: impl Read) -> Result<(), String> {
    let left = LIMIT.saturating_sub(files.bytes() as u64);
    let mut bytes = Vec::new();
    content.take(left + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > left {
        return Err(format!("more than {LIMIT} bytes"));
    }
    files.add(name, bytes)
}

fn unzip(package: impl Read + Seek, selection: Selection<'_>) -> Result<Files, String> {
    let text = |error: zip::result::ZipError| error.to_string();
    let mut archive = zip::ZipArchive::new(package).map_err(text)?;
    let mut files = Files::default();
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(text)?;
        let name = selection.name(&entry.name().map_err(text)?);
        if let Some(name) = name.filter(|_| entry.is_file()) {
            keep(&mut files, name, entry)?;
        }
    }
    Ok(files)
}

/// A Debian package keeps its files in the member `data.tar`, compressed.
fn undeb(package: impl Read, selection: Selection<'_>) -> Result<Files, String> {
    let mut archive = ar::Archive::new(package);
    while let Some(entry) = archive.next_entry() {
        let entry = entry.map_err(|error| error.to_string())?;
        if entry.header().identifier().starts_with(b"data.tar") {
            return untar(entry, selection);
        }
    }
    Err("a Debian package without `data.tar`".into())
}

/// A compressed tar archive.
fn untar(mut package: impl Read, selection: Selection<'_>) -> Result<Files, String> {
    let text = |error: std::io::Error| error.to_string();
    let start = start(&mut package)?;
    let packed = BufReader::new(start.as_slice().chain(package));
    let reader: Box<dyn Read + '_> = match start.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(packed)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(XzReader::new(packed, true)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(packed).map_err(text)?),
        other => {
            let start = String::from_utf8_lossy(other);
            return Err(format!("neither zip, tar nor deb: it starts with {start:?}"));
        }
    };
    // What is passed over is unpacked too, and counts.
    let mut archive = tar::Archive::new(reader.take(2 * LIMIT));
    let mut files = Files::default();
    for entry in archive.entries().map_err(text)? {
        let entry = entry.map_err(text)?;
        let name = selection.name(&String::from_utf8_lossy(&entry.path_bytes()));
        if let Some(name) = name.filter(|_| entry.header().entry_type().is_file()) {
            keep(&mut files, name, entry)?;
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use zip::write::SimpleFileOptions;

    use super::*;

    const CONTENT: [(&str, &str); 5] = [
        ("top/data/texts/a.txt", "one"),
        ("top/data/texts/sub/b.txt", "two"),
        ("top/data/texts/sub/b.png", "x"),
        ("top/data/texts.txt", "x"),
        ("top/more/c.txt", "x"),
    ];

    fn tar() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, text) in CONTENT {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, format!("./{path}"), text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn deb(member: &str, data: &[u8]) -> Vec<u8> {
        let mut builder = ar::Builder::new(Vec::new());
        for (name, bytes) in [("debian-binary", &b"2.0\n"[..]), (member, data)] {
            let header = ar::Header::new(name.into(), bytes.len() as u64);
            builder.append(&header, bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn wheel() -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        writer.add_directory("top/data/texts/folder.txt", SimpleFileOptions::default()).unwrap();
        for (path, text) in CONTENT {
            writer.start_file(path, SimpleFileOptions::default()).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn unpack_only(only: &[&str], root: &str, package: &[u8]) -> Result<Files, String> {
        let only: Vec<String> = only.iter().map(|name| (*name).into()).collect();
        let selection = Selection { root, only: &only, suffixes: &["txt".into()] };
        unpack(Cursor::new(package), selection)
    }

    fn unpack_texts(package: &[u8]) -> Result<Files, String> {
        unpack_only(&[], "data/texts", package)
    }

    /// A tar of one file, `data/texts/a.txt`, with content "one", as xz packs it.
    const XZ: &[u8] = include_bytes!("testdata/one.tar.xz");

    #[test]
    fn every_container_gives_the_same_files() {
        let mut expected = Files::default();
        expected.add("a.txt".into(), "one".into()).unwrap();
        let xz = unpack_texts(&deb("data.tar.xz", XZ)).unwrap();
        assert_eq!(xz, expected);
        expected.add("sub/b.txt".into(), "two".into()).unwrap();
        let zstd = zstd::encode_all(&tar()[..], 1).unwrap();
        for package in [
            wheel(),
            gz(&tar()),
            zstd.clone(),
            deb("data.tar.gz", &gz(&tar())),
            deb("data.tar.zst", &zstd),
        ] {
            assert_eq!(unpack_texts(&package).unwrap(), expected);
        }
    }

    #[test]
    fn a_part_of_the_root_may_be_all_that_is_kept() {
        let names = |only: &[&str]| {
            let files = unpack_only(only, "data/texts", &gz(&tar())).unwrap();
            files.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&["sub"]), ["sub/b.txt"]);
        assert_eq!(names(&["a.txt"]), ["a.txt"]);
        assert_eq!(names(&["sub/b.txt", "su", "a.txt"]), ["a.txt", "sub/b.txt"]);
        assert_eq!(
            unpack_only(&["su", "a"], "data/texts", &wheel()).unwrap_err(),
            "no file below `data/texts` (su, a) ends in txt"
        );
    }

    /// A package is read in pieces as they come.
    #[test]
    fn short_reads_do_not_hide_a_format() {
        struct Slow(Cursor<Vec<u8>>);
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let end = buffer.len().min(1);
                self.0.read(&mut buffer[..end])
            }
        }
        impl Seek for Slow {
            fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
                self.0.seek(to)
            }
        }
        let expected = unpack_texts(&wheel()).unwrap();
        for package in [wheel(), gz(&tar()), deb("data.tar.gz", &gz(&tar()))] {
            let selection = Selection { root: "data/texts", only: &[], suffixes: &["txt".into()] };
            assert_eq!(unpack(Slow(Cursor::new(package)), selection).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_package_is_told() {
        let reason = |package: &[u8]| unpack_texts(package).unwrap_err();
        assert!(reason(b"<!DOCTYPE html>").contains("<!DOCTYPE"), "{}", reason(b"<!DOCTYPE"));
        assert!(reason(b"").contains("neither"));
        assert!(reason(&deb("control.tar.gz", b"")).contains("without `data.tar`"));
        let other = unpack_only(&[], "else", &wheel());
        assert_eq!(other.unwrap_err(), "no file below `else` ends in txt");
    }

    #[test]
    fn a_cut_or_altered_package_is_an_error_or_another_content() {
        let expected = unpack_texts(&wheel()).unwrap();
        for package in [wheel(), gz(&tar()), deb("data.tar.xz", XZ)] {
            for cut in (0..package.len()).step_by(7) {
                let _ = unpack_texts(package.get(..cut).unwrap());
                let mut altered = package.clone();
                altered[cut] ^= 0x55;
                if let Ok(files) = unpack_texts(&altered) {
                    assert!(files.len() <= expected.len());
                }
            }
            assert!(unpack_texts(&package[..package.len() / 2]).is_err());
        }
    }
}
