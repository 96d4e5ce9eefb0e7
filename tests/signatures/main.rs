//! Signatures: public ones from outside, and our own, made here with keys and authorities of the moment.
//!
//! `SIGNATURE_VECTORS` is a folder with a `cases.json`; each of its cases is a test of its own, with what was expected and what came.
//! Without the folder they are counted as ignored, and everything else runs. `cargo test --test signatures [--] [--ignored] [NAME]`.
#![forbid(unsafe_code)]

mod aws_signer;
mod cosign;
mod fetching;
mod laws;
mod making;
mod measure;
mod notation;
mod pki;
mod runner;
mod seeds;
mod vectors;

fn main() -> std::process::ExitCode {
    let mut tests = Vec::new();
    tests.extend(cosign::tests());
    tests.extend(notation::tests());
    tests.extend(aws_signer::tests());
    tests.extend(fetching::tests());
    tests.extend(laws::tests());
    tests.extend(measure::tests());
    tests.extend(seeds::tests());
    tests.extend(vectors::tests());
    runner::run(tests)
}
