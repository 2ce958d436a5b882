//! R's lazy-load databases (`Rdata.rdb`), as far as they hold vectors of strings.
//!
//! A database is a row of objects, each a big-endian u32, its unpacked length, and a zlib stream. An
//! object is R's binary serialisation: `X\n`, version and R's versions as big-endian i32 (from
//! version 3 on also the length and the name of an encoding), then the value. A vector of strings is
//! a type word that ends in 16 and a count; each string is a type word that ends in 9, its length
//! (-1 if missing) and its bytes.

use std::io::Read;

use flate2::bufread::ZlibDecoder;

use super::{Files, file_name};

/// No object of a text is larger, in bytes.
const OBJECT_LIMIT: usize = 64 << 20;
const STRINGS: i32 = 16;
const STRING: i32 = 9;

/// A document per vector of strings, a line per string; its first line that is not empty names it.
///
/// # Errors
/// The reason: an object that is damaged, no vector of strings, or not UTF-8.
pub(super) fn decode(files: &Files) -> Result<Files, String> {
    let mut documents = Files::default();
    for (name, database) in files.iter() {
        let mut rest = database;
        while !rest.is_empty() {
            let number = documents.len();
            let wrong = |reason: String| format!("`{name}`, object {number}: {reason}");
            let object = object(&mut rest).map_err(wrong)?;
            let lines = strings(&object).map_err(wrong)?;
            let title = lines.iter().find(|line| !line.trim().is_empty());
            let text = lines.join("\n") + "\n";
            documents.add(file_name(number, title.unwrap_or(&"")), text.into_bytes())?;
        }
    }
    match documents.is_empty() {
        false => Ok(documents),
        true => Err("no object in a database".into()),
    }
}

/// Takes the next object off `rest` and unpacks it.
fn object(rest: &mut &[u8]) -> Result<Vec<u8>, String> {
    let unpacked = u32::from_be_bytes(take(rest)?) as usize;
    if unpacked > OBJECT_LIMIT {
        return Err(format!("{unpacked} bytes, expected: at most {OBJECT_LIMIT}"));
    }
    let mut decoder = ZlibDecoder::new(*rest);
    let mut object = Vec::new();
    decoder
        .by_ref()
        .take(unpacked as u64 + 1)
        .read_to_end(&mut object)
        .map_err(|error| error.to_string())?;
    if object.len() != unpacked {
        return Err(format!("unpacks to {} bytes, expected: {unpacked}", object.len()));
    }
    *rest = decoder.into_inner();
    Ok(object)
}

/// The strings of a serialised vector.
fn strings(object: &[u8]) -> Result<Vec<&str>, String> {
    let mut rest = object.strip_prefix(b"X\n").ok_or("no binary serialisation of R")?;
    let [version, _, _] = [word(&mut rest)?, word(&mut rest)?, word(&mut rest)?];
    if !matches!(version, 2 | 3) {
        return Err(format!("serialisation version {version}, expected: 2 or 3"));
    }
    if version == 3 {
        let encoding = word(&mut rest)?;
        bytes(&mut rest, encoding)?;
    }
    let kind = word(&mut rest)? & 0xff;
    if kind != STRINGS {
        return Err(format!("a value of type {kind}, expected: strings, {STRINGS}"));
    }
    let count = word(&mut rest)?;
    (0..count)
        .map(|_| {
            let kind = word(&mut rest)? & 0xff;
            if kind != STRING {
                return Err(format!("an element of type {kind}, expected: a string, {STRING}"));
            }
            match word(&mut rest)? {
                -1 => Ok(""),
                length => std::str::from_utf8(bytes(&mut rest, length)?)
                    .map_err(|error| error.to_string()),
            }
        })
        .collect()
}

fn word(rest: &mut &[u8]) -> Result<i32, String> {
    take(rest).map(i32::from_be_bytes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (head, tail) = rest.split_first_chunk().ok_or("ends too early")?;
    *rest = tail;
    Ok(*head)
}

fn bytes<'a>(rest: &mut &'a [u8], length: i32) -> Result<&'a [u8], String> {
    let length = usize::try_from(length).map_err(|_| format!("a length of {length}"))?;
    let (head, tail) = rest.split_at_checked(length).ok_or("ends too early")?;
    *rest = tail;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    /// A vector of strings, serialised; `None` is a missing one.
    fn serialised(version: i32, strings: &[Option<&str>]) -> Vec<u8> {
        let mut out = b"X\n".to_vec();
        let mut words = vec![version, 0x0004_0201, 0x0003_0500];
        if version == 3 {
            words.push(5);
        }
        out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        if version == 3 {
            out.extend(b"UTF-8");
        }
        out.extend([STRINGS, strings.len() as i32].iter().flat_map(|word| word.to_be_bytes()));
        for string in strings {
            let length = string.map_or(-1, |string| string.len() as i32);
            out.extend([0x0004_0009, length].iter().flat_map(|word| word.to_be_bytes()));
            out.extend(string.unwrap_or_default().bytes());
        }
        out
    }

    fn packed(object: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(object).unwrap();
        [&(object.len() as u32).to_be_bytes()[..], &encoder.finish().unwrap()].concat()
    }

    fn decode_one(database: Vec<u8>) -> Result<Files, String> {
        let mut files = Files::default();
        files.add("Rdata.rdb".into(), database).unwrap();
        decode(&files)
    }

    #[test]
    fn vectors_become_documents() {
        let emma = serialised(3, &[Some(""), Some("EMMA"), None, Some("Emma, é")]);
        let other = serialised(2, &[Some("Sense and Sensibility")]);
        let documents = decode_one([packed(&emma), packed(&other)].concat()).unwrap();
        assert_eq!(documents.get("000-emma.txt").unwrap(), "\nEMMA\n\nEmma, é\n".as_bytes());
        assert!(documents.get("001-sense-and-sensibility.txt").is_some());
    }

    #[test]
    fn damage_is_told() {
        let good = serialised(3, &[Some("text"), Some("more")]);
        let reason = |object: &[u8]| decode_one(packed(object)).unwrap_err();
        assert!(reason(b"A\n").contains("no binary serialisation"));
        assert!(reason(&serialised(7, &[])).contains("version 7"));
        assert!(reason(&good[..good.len() - 1]).contains("ends too early"));
        let with = |at: usize, word: i32| {
            let mut object = good.clone();
            object[at..at + 4].copy_from_slice(&word.to_be_bytes());
            reason(&object)
        };
        // The value's type, its count, the first string's type and length.
        assert!(with(23, 13).contains("type 13, expected: strings"));
        assert!(with(27, i32::MAX).contains("ends too early"));
        assert!(with(31, 16).contains("type 16, expected: a string"));
        assert!(with(35, -2).contains("a length of -2"));
        assert!(with(35, i32::MAX).contains("ends too early"));
        assert!(with(39, -1).contains("utf-8"));

        let database = packed(&good);
        assert!(decode_one(database[..3].to_vec()).unwrap_err().contains("ends too early"));
        assert!(decode_one(database[..9].to_vec()).is_err());
        for length in [1, good.len() as u32 + 1, u32::MAX] {
            let altered = [&length.to_be_bytes()[..], &database[4..]].concat();
            assert!(decode_one(altered).unwrap_err().contains("expected: "));
        }
        assert!(decode_one(Vec::new()).unwrap_err().contains("no object"));
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(noise: Vec<u8>, at: usize, byte: u8) {
            let _ = decode_one(noise.clone());
            let _ = strings(&noise);
            let mut object = serialised(3, &[Some("text"), None]);
            let i = at % object.len();
            object[i] = byte;
            let _ = decode_one(packed(&object));
            let mut database = packed(&object);
            let i = at % database.len();
            database[i] = byte;
            let _ = decode_one(database);
        }
    }
}
