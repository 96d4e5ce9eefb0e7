//! Image signatures, verified: bytes, keys and the time in, a verdict with its reason out. No network, no clock, no files.
//!
//! Three formats by two kinds of signers. Cosign: the classic one (a payload and an annotation, under the tag `sha256-HEX.sig`)
//! and Cosign 3's bundle, both by a public key. Notation: an envelope (JWS or COSE) with its certificates, by AWS Signer or by an
//! authority of one's own. The shell finds and fetches; what it fetched counts only after the digests were compared here:
//!
//! ```text
//! artifact::read(manifest, digest)     what a signature's manifest asks to be fetched      -> Found, Vec<Wanted>
//! Wanted::holds(bytes)                 is it what was asked for?                           -> Signature
//! Trust::new(rule, signers)            who has to have signed: all of them, or any         (trust.rs, key.rs, signer.rs)
//!   .fingerprint()                     what a verdict may be kept under, beside the digest
//! Verification::begin(trust, subject, signatures, now)
//!   .question()                        what AWS Signer has to be asked about revocation    -> Option<&RevocationQuestion>
//!   .hear(answer)                      its answer, or that there was none
//!   .verdict()                         verified by whom, or refused, and why               -> Verdict
//! ```
//!
//! A verdict is about the one digest in `Subject`: a signature of an index pins its images by content, but is not theirs.
//! Nobody here decides what a refusal means for a deployment; `Reason::is_forgivable` says which `failOnUnsigned: false` may forgive.
//!
//! - `key`: public keys and algorithms; `asn1`, `certificate`, `chain`: X.509 as Notation wants it; `cbor`: what COSE needs of it.
//! - `cosign`, `bundle`, `notation` (with `jws`, `cose`): one format each; `signer`: AWS Signer's own rules, and revocation.
//! - `trust`, `verify`, `verdict`: who, the whole, and what comes out; `say`: its sentences for people.
//! - `asked`: whom a gate asks for; `standing`: what the verdicts of an index and of its images come to together.

pub mod artifact;
pub mod asked;
mod asn1;
pub mod bundle;
mod cbor;
pub mod certificate;
pub mod chain;
pub mod cose;
pub mod cosign;
pub mod jws;
pub mod key;
pub mod notation;
pub mod say;
pub mod signer;
pub mod standing;
pub mod trust;
pub mod verdict;
pub mod verify;

/// What anybody may push has to be small before it is read: a real payload has 300 bytes, a real envelope under 12,000.
pub const LARGEST_SIGNATURE: usize = 1024 * 1024;
/// As ECR takes them.
pub const LARGEST_MANIFEST: usize = 4 * 1024 * 1024;
/// In one manifest. Whoever may push signatures could otherwise make one verification last for ever.
pub const MOST_SIGNATURES: usize = 100;
