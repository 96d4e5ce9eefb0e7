//! The functions' code: each dev binary, stripped, as the zip that Lambda wants. Made once a binary, for all accounts.
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use flate2::{Compression, Crc, write::DeflateEncoder};

use crate::local::{profile, target};

/// The key under which the local AWS finds this function's code.
pub fn key(function: &str) -> String {
    static MAKING: Mutex<()> = Mutex::new(());
    let binary = profile().join(function);
    let built = binary.metadata().unwrap_or_else(|e| panic!("{} is not built ({e}): `make build`", binary.display()));
    let age = built.modified().expect("a file system with times").duration_since(UNIX_EPOCH).expect("after 1970");
    let key = format!("{function}-{:x}-{:x}.zip", built.len(), age.as_nanos());
    let folder = target().join("local-aws/code");
    let _one_at_a_time = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !folder.join(&key).exists() {
        fs::create_dir_all(&folder).expect("a folder below target/");
        forget(&folder, function);
        // Two processes may do this at once; each writes its own file, and the last one's is as good as the first's.
        let making = folder.join(format!(".{key}-{}", std::process::id()));
        let stripped = stripped(&binary, &making.with_extension("bin"));
        fs::write(&making, zip("bootstrap", &stripped)).expect("room for the zip");
        fs::rename(&making, folder.join(&key)).expect("the zip in its place");
    }
    key
}

/// Older builds of the same function, but for the one before: somebody may still be running it.
fn forget(folder: &Path, function: &str) {
    let mut old: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    old.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{function}-"))));
    old.sort_by_key(|path| path.metadata().and_then(|file| file.modified()).ok());
    for path in old.iter().rev().skip(1) {
        let _ = fs::remove_file(path);
    }
}

/// Without its symbols a dev binary starts as fast as a release, and is a third of its size.
fn stripped(binary: &Path, to: &Path) -> Vec<u8> {
    let done = Command::new("strip").arg("-o").arg(to).arg(binary).status().is_ok_and(|status| status.success());
    let bytes = fs::read(if done { to } else { binary }).expect("the binary can be read");
    let _ = fs::remove_file(to);
    bytes
}

/// A zip with one executable file.
pub fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let mut deflated = DeflateEncoder::new(Vec::new(), Compression::fast());
    deflated.write_all(content).expect("memory");
    let deflated = deflated.finish().expect("memory");
    let mut crc = Crc::new();
    crc.update(content);
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).expect("less than 4 GB").to_le_bytes();
    let short = |n: usize| u16::try_from(n).expect("a small number").to_le_bytes();

    // What the local header and the central directory say alike: version 2.0, deflated, 1980-01-01, sizes.
    let mut common = Vec::new();
    for part in [&[20, 0, 0, 0, 8, 0, 0, 0, 0x21, 0][..], &crc.sum().to_le_bytes(), &size(&deflated), &size(content), &short(name.len()), &[0, 0]] {
        common.extend_from_slice(part);
    }
    let mut zip = b"PK\x03\x04".to_vec();
    for part in [&common, name.as_bytes(), &deflated] {
        zip.extend_from_slice(part);
    }
    let directory_at = size(&zip);
    let mut directory = b"PK\x01\x02\x14\x03".to_vec();
    let executable = (0o100_755_u32 << 16).to_le_bytes();
    for part in [&common, &[0; 6][..], &executable, &[0; 4], name.as_bytes()] {
        directory.extend_from_slice(part);
    }
    zip.extend_from_slice(&directory);
    for part in [&b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..], &size(&directory), &directory_at, &[0, 0]] {
        zip.extend_from_slice(part);
    }
    zip
}

#[cfg(test)]
mod tests {
    use super::zip;

    #[test]
    fn a_zip_is_one_that_others_can_read() {
        let folder = std::env::temp_dir().join(format!("zip-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("code.zip"), zip("bootstrap", b"#!/bin/sh\n")).unwrap();
        let script = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; i, = z.infolist(); \
                      assert (i.filename, i.external_attr >> 16, z.read(i)) == ('bootstrap', 0o100755, b'#!/bin/sh\\n'), i";
        let read = std::process::Command::new("python3").args(["-c", script]).arg(folder.join("code.zip")).status().unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        assert!(read.success());
    }
}
