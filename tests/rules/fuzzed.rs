//! Bytes from outside, as the fuzzer made them up: what has once broken a promise is kept in `tests/fuzz/seeds`, and breaks it no more.
//! `make fuzz` makes up new ones (docs/fuzzing.md).

#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use ecr_scan_verifier::domain::signature::artifact::Signature;
use targets::ALL;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn names(folder: &str) -> Vec<String> {
    files(folder).iter().map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_target_has_seeds_and_a_file_for_the_fuzzer() {
    let targets: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(names("tests/fuzz/seeds"), targets);
    assert_eq!(names("tests/fuzz/fuzz_targets"), targets);
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/Cargo.toml")).unwrap();
    for target in targets {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
    }
}

#[test]
fn no_seed_breaks_a_promise() {
    for (name, target) in ALL {
        for file in files(&format!("tests/fuzz/seeds/{name}")) {
            println!("{}", file.display());
            target(&fs::read(&file).unwrap());
        }
    }
}

/// Otherwise the promises about what is verified would be about nothing.
#[test]
fn the_seeds_for_signatures_are_good_ones() {
    for (name, signature) in
        [("cosign_bundle", Signature::Bundle as fn(Vec<u8>) -> Signature), ("notation_jws", Signature::Jws), ("notation_cose", Signature::Cose)]
    {
        let verified: Vec<bool> = files(&format!("tests/fuzz/seeds/{name}")).iter().map(|file| targets::verify(signature(fs::read(file).unwrap()))).collect();
        assert!(verified.iter().filter(|verified| **verified).count() >= 4, "{name}: {verified:?}");
    }
}

#[test]
fn no_sample_event_breaks_a_promise() {
    for file in files("events") {
        for (name, target) in ALL {
            println!("{name} {}", file.display());
            target(&fs::read(&file).unwrap());
        }
    }
}

/// An event has 256 KB, a direct call 6 MB. Nothing here looks at a clock: whoever compares each with each makes everybody wait for
/// this test, and `make fuzz` calls ten seconds a hang.
#[test]
fn large_input_comes_to_an_end() {
    for (what, input) in inputs(128 * 1024) {
        for (name, target) in ALL {
            println!("{name}: {what}");
            target(&input);
        }
    }
}

/// Deep, long or repeated, of about this size each.
fn inputs(size: usize) -> Vec<(&'static str, Vec<u8>)> {
    let nested = |open: &str, close: &str| [open.repeat(size / 2), close.repeat(size / 2)].concat();
    let list = |one: &dyn Fn(usize) -> String| {
        let length = one(10_000).len() + 1;
        format!("[{}]", (10_000..10_000 + size / length).map(one).collect::<Vec<_>>().join(","))
    };
    let texts = list(&|n| format!("\"{n}\""));
    let findings = list(&|n| format!(r#"{{"name":"CVE-{n}","severity":"HIGH"}}"#));
    let exemptions = list(&|n| format!(r#"{{"id":"x{n}","reason":"x","until":"2027-01-01"}}"#));
    let unknown: Vec<String> = (0..size / 10).map(|n| format!("\"x{n:05}\":1")).collect();
    let scan = r#""source":"aws.ecr","detail-type":"ECR Image Scan","account":"123456789012","region":"eu-west-1""#;
    let detail = format!(r#""scan-status":"COMPLETE","repository-name":"app","image-digest":"sha256:{}""#, "0".repeat(64));
    let text = |text: String| text.into_bytes();
    let mut inputs = vec![
        ("nested lists", text(nested("[", "]"))),
        ("nested objects", text(nested("{\"\":", "}"))),
        ("nested arrays of CBOR", vec![0x81; size]),
        ("nested tags of CBOR", vec![0xc1; size]),
        ("full arrays of CBOR", [0x98, 64].repeat(size / 2)),
        ("nested sequences of DER", [0x30, 0x82, 0xff, 0xff].repeat(size / 4)),
        ("beginnings of PEM", text("-----BEGIN A-----\n".repeat(size / 18))),
        ("tags", text(format!(r#"{{{scan},"detail":{{{detail},"image-tags":{texts}}}}}"#))),
        ("a policy of many", text(format!(r#"{{"blockAlways":{texts},"exemptions":{exemptions}}}"#))),
        ("a gate of many", text(format!(r#"{{"repositoryName":"app","blockAlways":{texts},"exemptions":{exemptions}}}"#))),
        ("unknown properties", text(format!(r#"{{"repositoryName":"app",{}}}"#, unknown.join(",")))),
        ("findings", text(format!(r#"{{"imageScanStatus":{{"status":"COMPLETE"}},"imageScanFindings":{{"findings":{findings}}}}}"#))),
        ("records", text(format!(r#"{{"Records":{}}}"#, list(&|_| r#"{"body":"["}"#.to_owned())))),
    ];
    inputs.extend(
        [("letters", b'a'), ("zeros", 0), ("quotes", b'"'), ("colons", b':'), ("slashes", b'/'), ("dots", b'.')].map(|(what, byte)| (what, vec![byte; size])),
    );
    inputs
}
