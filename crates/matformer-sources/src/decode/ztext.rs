//! SWORD's compressed text modules.
//!
//! A module has a file of blocks (`ot.bzz`, `nt.czz`, …), each a zlib stream, and an index beside it
//! (`ot.bzs`, …): for each block three little-endian u32, its offset, length and unpacked length.

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::{Files, file_name};

/// No block of a text is larger, in bytes.
const BLOCK_LIMIT: usize = 64 << 20;

/// The testaments, in their order.
const TESTAMENTS: [&str; 2] = ["ot", "nt"];

/// Titles and texts of the documents that a marked-up text is cut into.
pub(super) type Cut = fn(&str) -> Vec<(String, String)>;

/// The documents of a module, numbered in their order.
///
/// # Errors
/// The reason: no index or no blocks, an index that leads out of the blocks, a block that does not
/// unpack to the length that the index says, or text that is not UTF-8.
pub(super) fn decode(files: &Files, cut: Cut) -> Result<Files, String> {
    let mut documents = Files::default();
    let mut number = 0;
    for testament in TESTAMENTS {
        let Some((name, index)) = find(files, testament, "zs") else {
            continue;
        };
        let (blocks_name, blocks) = find(files, testament, "zz")
            .ok_or_else(|| format!("`{name}` has no file of blocks beside it"))?;
        let bytes = unpack(index, blocks).map_err(|reason| format!("`{blocks_name}`: {reason}"))?;
        let text = String::from_utf8(bytes).map_err(|error| format!("`{blocks_name}`: {error}"))?;
        for (title, text) in cut(&text) {
            documents.add(file_name(number, &title), text.into_bytes())?;
            number += 1;
        }
    }
    match documents.is_empty() {
        false => Ok(documents),
        true => Err("no text in a module".into()),
    }
}

/// `ot.bzs`, `ot.czs`, `ot.vzs`: the letter says what a block holds.
fn find<'a>(files: &'a Files, testament: &str, suffix: &str) -> Option<(&'a str, &'a [u8])> {
    files.iter().find(|(name, _)| {
        name.strip_prefix(testament)
            .and_then(|rest| rest.strip_prefix('.'))
            .and_then(|rest| rest.strip_suffix(suffix))
            .is_some_and(|unit| matches!(unit, "b" | "c" | "v"))
    })
}

/// All blocks, one after the other.
fn unpack(index: &[u8], blocks: &[u8]) -> Result<Vec<u8>, String> {
    let (entries, rest) = index.as_chunks::<12>();
    if !rest.is_empty() {
        return Err(format!("an index of {} bytes, expected: a multiple of 12", index.len()));
    }
    let mut out = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let (fields, _) = entry.as_chunks::<4>();
        let &[offset, length, unpacked] = fields else {
            continue;
        };
        let [offset, length, unpacked] =
            [offset, length, unpacked].map(|field| u32::from_le_bytes(field) as usize);
        let block = offset
            .checked_add(length)
            .and_then(|end| blocks.get(offset..end))
            .ok_or_else(|| format!("block {number} lies outside of the {} bytes", blocks.len()))?;
        if unpacked > BLOCK_LIMIT {
            return Err(format!("block {number} of {unpacked} bytes, expected: {BLOCK_LIMIT}"));
        }
        let before = out.len();
        ZlibDecoder::new(block)
            .take(unpacked as u64 + 1)
            .read_to_end(&mut out)
            .map_err(|error| format!("block {number}: {error}"))?;
        let found = out.len() - before;
        if found != unpacked {
            return Err(format!("block {number} unpacks to {found} bytes, expected: {unpacked}"));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    /// Index and blocks of a testament.
    fn pack(texts: &[&str]) -> (Vec<u8>, Vec<u8>) {
        let (mut index, mut blocks) = (Vec::new(), Vec::new());
        for text in texts {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
            let block = encoder.finish().unwrap();
            for field in [blocks.len(), block.len(), text.len()] {
                index.extend((field as u32).to_le_bytes());
            }
            blocks.extend(block);
        }
        (index, blocks)
    }

    fn module(testaments: &[(&str, &[&str])]) -> Files {
        let mut files = Files::default();
        for (name, texts) in testaments {
            let (index, blocks) = pack(texts);
            files.add(format!("{name}s"), index).unwrap();
            files.add(format!("{name}z"), blocks).unwrap();
        }
        files
    }

    /// One document per line.
    fn lines(text: &str) -> Vec<(String, String)> {
        text.lines().map(|line| (line.chars().take(3).collect(), line.to_owned())).collect()
    }

    #[test]
    fn blocks_are_joined_and_documents_numbered() {
        // In the order of the testaments, not of the names.
        let files = module(&[("nt.bz", &["new\n"]), ("ot.bz", &["old te", "xt\nmore\n"])]);
        let documents = decode(&files, lines).unwrap();
        let expected =
            [("000-old.txt", "old text"), ("001-mor.txt", "more"), ("002-new.txt", "new")];
        let found: Vec<_> = documents
            .iter()
            .map(|(name, bytes)| (name, std::str::from_utf8(bytes).unwrap()))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(decode(&module(&[("nt.cz", &["a"]), ("ot.cz", &[])]), lines).unwrap().len(), 1);
    }

    #[test]
    fn damage_is_told() {
        let reason = |index: &[u8], blocks: &[u8]| unpack(index, blocks).unwrap_err();
        let (index, blocks) = pack(&["first", "second"]);
        assert!(reason(&index[1..], &blocks).contains("multiple of 12"));
        assert!(reason(&index, &blocks[..blocks.len() - 1]).contains("block 1 lies outside"));
        let mut long = index.clone();
        long[8..12].copy_from_slice(&9u32.to_le_bytes());
        assert!(reason(&long, &blocks).contains("block 0 unpacks to 5 bytes, expected: 9"));
        long[8..12].copy_from_slice(&3u32.to_le_bytes());
        assert!(reason(&long, &blocks).contains("expected: 3"));
        long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(reason(&long, &blocks).contains("4294967295"));
        let mut far = index.clone();
        far[..8].copy_from_slice(&[0xff; 8]);
        assert!(reason(&far, &blocks).contains("block 0 lies outside"));

        assert_eq!(decode(&Files::default(), lines).unwrap_err(), "no text in a module");
        let mut files = Files::default();
        files.add("ot.bzs".into(), index).unwrap();
        assert!(decode(&files, lines).unwrap_err().contains("`ot.bzs` has no file of blocks"));
        let mut files = Files::default();
        let text = latin1();
        files.add("ot.bzs".into(), text.0).unwrap();
        files.add("ot.bzz".into(), text.1).unwrap();
        assert!(decode(&files, lines).unwrap_err().contains("utf-8"));
    }

    /// A block that holds one byte which is no UTF-8.
    fn latin1() -> (Vec<u8>, Vec<u8>) {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"\xe9").unwrap();
        let block = encoder.finish().unwrap();
        let index = [0, block.len() as u32, 1].map(u32::to_le_bytes).concat();
        (index, block)
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(index: Vec<u8>, blocks: Vec<u8>, at: usize, byte: u8) {
            let _ = unpack(&index, &blocks);
            let (mut index, mut blocks) = pack(&["first block", "second"]);
            let (i, b) = (at % index.len(), at % blocks.len());
            index[i] = byte;
            let _ = unpack(&index, &blocks);
            blocks[b] = byte;
            let _ = unpack(&index, &blocks);
        }
    }
}
