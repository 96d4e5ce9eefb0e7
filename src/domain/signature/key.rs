//! Public keys, and whether one of them made a signature. Nothing here knows what was signed, or who may sign.
//!
//! What ring can verify is left to ring, which is in the functions for TLS anyway. P-521 is the one curve of the list that it lacks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef};
use der::{Reader as _, Tag};
use p521::ecdsa::signature::hazmat::PrehashVerifier as _;
use ring::digest;
use ring::signature as verify;
use serde::{Deserialize, Serialize};

use super::asn1;
use crate::domain::image::sha256_hex;

/// A file with one key in it is a few hundred bytes; 8192 bits of RSA make 1500.
const LONGEST_PEM: usize = 16 * 1024;
/// Of which any one counts: each is tried on every signature.
const MOST_KEYS: usize = 10;

/// A key is known by the SHA-256 of its SubjectPublicKeyInfo, in lowercase hex.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(pub String);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    pub id: KeyId,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// The uncompressed points, as SEC 1 writes them.
    P256(Vec<u8>),
    P384(Vec<u8>),
    P521(p521::ecdsa::VerifyingKey),
    /// The RSAPublicKey of PKCS#1, and how long its modulus is.
    Rsa {
        pkcs1: Vec<u8>,
        bits: usize,
    },
    Ed25519(Vec<u8>),
}

/// Which kind of key, as rules about algorithms tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    P256,
    P384,
    P521,
    Rsa(usize),
    Ed25519,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// How a signature was made. ECDSA's is written as ASN.1 (Cosign, KMS, certificates) or as two numbers in a row (JWS, COSE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Ecdsa(Hash),
    EcdsaFixed(Hash),
    RsaPkcs1(Hash),
    RsaPss(Hash),
    Ed25519,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error("it is no PEM: expected a block that begins with `-----BEGIN PUBLIC KEY-----`")]
    NotPem,
    #[error("it is {0} bytes long, and a public key is at most {LONGEST_PEM}")]
    TooLong(usize),
    #[error("it holds {0} PEM blocks, and has to hold one key")]
    Several(usize),
    #[error("it holds {0} keys, and {MOST_KEYS} is the most")]
    TooMany(usize),
    #[error("it is a private key (`{0}`), which nobody but the signer may have: give the public key (cosign.pub), and replace this one")]
    Private(String),
    #[error("it is a `{0}`: expected `PUBLIC KEY` or `RSA PUBLIC KEY`")]
    Label(String),
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("it is an RSA key of {0} bits: expected 2048 to 8192")]
    RsaSize(usize),
    #[error("its kind ({0}) cannot be verified: expected ECDSA on P-256, P-384 or P-521, RSA, or Ed25519")]
    Kind(String),
    #[error("none of its algorithms ({0}) can be verified")]
    NoAlgorithm(String),
}

impl From<der::Error> for BadKey {
    fn from(error: der::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const SECP521R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

impl PublicKey {
    /// A file as `cosign generate-key-pair` or OpenSSL writes it.
    pub fn from_pem(text: &str) -> Result<Self, BadKey> {
        match key_blocks(text)?.as_slice() {
            [] => Err(BadKey::NotPem),
            [(label, der)] => Self::from_block(label, der),
            more => Err(BadKey::Several(more.len())),
        }
    }

    fn from_block(label: &str, der: &[u8]) -> Result<Self, BadKey> {
        match label {
            "PUBLIC KEY" => Self::from_der(der),
            "RSA PUBLIC KEY" => Self::rsa(der, KeyId(sha256_hex(&rsa_spki(der)))),
            other => Err(BadKey::Label(format!("{other:.60}"))),
        }
    }

    /// A SubjectPublicKeyInfo, as KMS gives it and certificates hold it.
    pub fn from_der(spki: &[u8]) -> Result<Self, BadKey> {
        let id = KeyId(sha256_hex(spki));
        let mut outer = asn1::open(AnyRef::try_from(spki)?, Tag::Sequence)?;
        let mut algorithm = asn1::open(outer.decode()?, Tag::Sequence)?;
        let key: BitStringRef<'_> = outer.decode()?;
        outer.finish()?;
        let oid: AnyRef<'_> = algorithm.decode()?;
        let parameter: Option<AnyRef<'_>> = if algorithm.is_finished() { None } else { Some(algorithm.decode()?) };
        algorithm.finish()?;
        let key = key.as_bytes().ok_or_else(|| BadKey::Damaged("its bits are no whole bytes".to_owned()))?;

        if asn1::is_oid(oid, EC_PUBLIC_KEY) {
            let curve = parameter.ok_or_else(|| BadKey::Damaged("it names no curve".to_owned()))?;
            let kind = if asn1::is_oid(curve, SECP256R1) {
                Kind::P256(point(key, 32)?)
            } else if asn1::is_oid(curve, SECP384R1) {
                Kind::P384(point(key, 48)?)
            } else if asn1::is_oid(curve, SECP521R1) {
                let on_curve = p521::ecdsa::VerifyingKey::from_sec1_bytes(&point(key, 66)?);
                Kind::P521(on_curve.map_err(|_| BadKey::Damaged("its point is not on the curve".to_owned()))?)
            } else {
                return Err(BadKey::Kind(format!("ECDSA on the curve {}", asn1::oid_text(curve))));
            };
            Ok(Self { id, kind })
        } else if asn1::is_oid(oid, RSA_ENCRYPTION) {
            Self::rsa(key, id)
        } else if asn1::is_oid(oid, ED25519) {
            if key.len() != 32 || parameter.is_some() {
                return Err(BadKey::Damaged("an Ed25519 key has 32 bytes and no parameter".to_owned()));
            }
            Ok(Self { id, kind: Kind::Ed25519(key.to_vec()) })
        } else {
            Err(BadKey::Kind(asn1::oid_text(oid)))
        }
    }

    fn rsa(pkcs1: &[u8], id: KeyId) -> Result<Self, BadKey> {
        let mut numbers = asn1::open(AnyRef::try_from(pkcs1)?, Tag::Sequence)?;
        let modulus: UintRef<'_> = numbers.decode()?;
        let _exponent: UintRef<'_> = numbers.decode()?;
        numbers.finish()?;
        let bytes = modulus.as_bytes();
        let bits = bytes.len() * 8 - bytes.first().map_or(0, |first| first.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) {
            return Err(BadKey::RsaSize(bits));
        }
        Ok(Self { id, kind: Kind::Rsa { pkcs1: pkcs1.to_vec(), bits } })
    }

    pub fn kind(&self) -> KeyKind {
        match &self.kind {
            Kind::P256(_) => KeyKind::P256,
            Kind::P384(_) => KeyKind::P384,
            Kind::P521(_) => KeyKind::P521,
            Kind::Rsa { bits, .. } => KeyKind::Rsa(*bits),
            Kind::Ed25519(_) => KeyKind::Ed25519,
        }
    }

    /// Whether this key signed these bytes in this way. A way that does not go with the key is a no.
    pub fn signed(&self, how: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let (algorithm, key): (&dyn verify::VerificationAlgorithm, &[u8]) = match (&self.kind, how) {
            (Kind::P256(key), Algorithm::Ecdsa(Hash::Sha256)) => (&verify::ECDSA_P256_SHA256_ASN1, key),
            (Kind::P256(key), Algorithm::Ecdsa(Hash::Sha384)) => (&verify::ECDSA_P256_SHA384_ASN1, key),
            (Kind::P256(key), Algorithm::EcdsaFixed(Hash::Sha256)) => (&verify::ECDSA_P256_SHA256_FIXED, key),
            (Kind::P384(key), Algorithm::Ecdsa(Hash::Sha256)) => (&verify::ECDSA_P384_SHA256_ASN1, key),
            (Kind::P384(key), Algorithm::Ecdsa(Hash::Sha384)) => (&verify::ECDSA_P384_SHA384_ASN1, key),
            (Kind::P384(key), Algorithm::EcdsaFixed(Hash::Sha384)) => (&verify::ECDSA_P384_SHA384_FIXED, key),
            (Kind::P521(key), Algorithm::Ecdsa(hash)) => {
                let signature = p521::ecdsa::Signature::from_der(signature);
                return signature.is_ok_and(|signature| key.verify_prehash(hash.of(message).as_ref(), &signature).is_ok());
            }
            (Kind::P521(key), Algorithm::EcdsaFixed(Hash::Sha512)) => {
                let signature = p521::ecdsa::Signature::from_slice(signature);
                return signature.is_ok_and(|signature| key.verify_prehash(Hash::Sha512.of(message).as_ref(), &signature).is_ok());
            }
            (Kind::Rsa { pkcs1, .. }, Algorithm::RsaPkcs1(hash)) => match hash {
                Hash::Sha256 => (&verify::RSA_PKCS1_2048_8192_SHA256, pkcs1),
                Hash::Sha384 => (&verify::RSA_PKCS1_2048_8192_SHA384, pkcs1),
                Hash::Sha512 => (&verify::RSA_PKCS1_2048_8192_SHA512, pkcs1),
            },
            // ring takes the salt to be as long as the hash, as JWS, COSE and KMS make it.
            (Kind::Rsa { pkcs1, .. }, Algorithm::RsaPss(hash)) => match hash {
                Hash::Sha256 => (&verify::RSA_PSS_2048_8192_SHA256, pkcs1),
                Hash::Sha384 => (&verify::RSA_PSS_2048_8192_SHA384, pkcs1),
                Hash::Sha512 => (&verify::RSA_PSS_2048_8192_SHA512, pkcs1),
            },
            (Kind::Ed25519(key), Algorithm::Ed25519) => (&verify::ED25519, key),
            _ => return false,
        };
        verify::UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    }
}

impl Hash {
    fn of(self, message: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, message)
    }
}

/// A public key that may sign with Cosign, and the ways in which it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CosignKey {
    pub key: PublicKey,
    pub algorithms: Vec<Algorithm>,
}

impl CosignKey {
    /// A PEM file. Cosign verifies with SHA-256 whatever the key; it signs with the hash of the curve in newer releases, and
    /// so does KMS, so that its own signatures fail it (sigstore/cosign#5091). Either is as safe as the other: both count.
    pub fn from_pem(text: &str) -> Result<Self, BadKey> {
        PublicKey::from_pem(text).map(Self::of)
    }

    /// Several keys in one text: while one replaces another, either counts. Each of them has to be good.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, BadKey> {
        let blocks = key_blocks(text)?;
        match blocks.len() {
            0 => Err(BadKey::NotPem),
            1..=MOST_KEYS => blocks.iter().map(|(label, der)| PublicKey::from_block(label, der).map(Self::of)).collect(),
            n => Err(BadKey::TooMany(n)),
        }
    }

    fn of(key: PublicKey) -> Self {
        let algorithms = match key.kind() {
            KeyKind::P256 => vec![Algorithm::Ecdsa(Hash::Sha256)],
            KeyKind::P384 => vec![Algorithm::Ecdsa(Hash::Sha256), Algorithm::Ecdsa(Hash::Sha384)],
            KeyKind::P521 => vec![Algorithm::Ecdsa(Hash::Sha256), Algorithm::Ecdsa(Hash::Sha512)],
            KeyKind::Rsa(_) => vec![Algorithm::RsaPkcs1(Hash::Sha256)],
            KeyKind::Ed25519 => vec![Algorithm::Ed25519],
        };
        Self { key, algorithms }
    }

    /// KMS's answer to GetPublicKey: the key, and the algorithms it lists, in KMS's words and order.
    pub fn from_kms<S: AsRef<str>>(spki: &[u8], algorithms: &[S]) -> Result<Self, BadKey> {
        let key = PublicKey::from_der(spki)?;
        let known: Vec<Algorithm> = algorithms.iter().filter_map(|name| kms_algorithm(name.as_ref(), key.kind())).collect();
        if known.is_empty() {
            let names: Vec<&str> = algorithms.iter().map(AsRef::as_ref).collect();
            return Err(BadKey::NoAlgorithm(format!("{:.200}", names.join(", "))));
        }
        Ok(Self { key, algorithms: known })
    }

    /// How bundles name this key: the SHA-256 of its SubjectPublicKeyInfo, in base64.
    pub fn hint(&self) -> String {
        let hex = self.key.id.0.as_bytes();
        let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or_default() as u8;
        STANDARD.encode(hex.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[pair.len() - 1])).collect::<Vec<u8>>())
    }

    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.algorithms.iter().any(|how| self.key.signed(*how, message, signature))
    }
}

/// Only those that go with the key. KMS's prehashed Ed25519 signs something else and is left out.
fn kms_algorithm(name: &str, kind: KeyKind) -> Option<Algorithm> {
    Some(match (name, kind) {
        ("ECDSA_SHA_256", KeyKind::P256) => Algorithm::Ecdsa(Hash::Sha256),
        ("ECDSA_SHA_384", KeyKind::P384) => Algorithm::Ecdsa(Hash::Sha384),
        ("ECDSA_SHA_512", KeyKind::P521) => Algorithm::Ecdsa(Hash::Sha512),
        ("ED25519_SHA_512", KeyKind::Ed25519) => Algorithm::Ed25519,
        ("RSASSA_PKCS1_V1_5_SHA_256", KeyKind::Rsa(_)) => Algorithm::RsaPkcs1(Hash::Sha256),
        ("RSASSA_PKCS1_V1_5_SHA_384", KeyKind::Rsa(_)) => Algorithm::RsaPkcs1(Hash::Sha384),
        ("RSASSA_PKCS1_V1_5_SHA_512", KeyKind::Rsa(_)) => Algorithm::RsaPkcs1(Hash::Sha512),
        ("RSASSA_PSS_SHA_256", KeyKind::Rsa(_)) => Algorithm::RsaPss(Hash::Sha256),
        ("RSASSA_PSS_SHA_384", KeyKind::Rsa(_)) => Algorithm::RsaPss(Hash::Sha384),
        ("RSASSA_PSS_SHA_512", KeyKind::Rsa(_)) => Algorithm::RsaPss(Hash::Sha512),
        _ => return None,
    })
}

/// An uncompressed point: what every signer writes, and the one form that all readers take.
fn point(key: &[u8], coordinate: usize) -> Result<Vec<u8>, BadKey> {
    match key {
        [4, rest @ ..] if rest.len() == 2 * coordinate => Ok(key.to_vec()),
        _ => Err(BadKey::Damaged("its point is not an uncompressed one of its curve".to_owned())),
    }
}

/// The blocks of a text in which a public key is expected.
fn key_blocks(text: &str) -> Result<Vec<(String, Vec<u8>)>, BadKey> {
    if text.len() > LONGEST_PEM {
        return Err(BadKey::TooLong(text.len()));
    }
    let blocks = pem_blocks(text).map_err(BadKey::Damaged)?;
    // Also where it is one of several: OpenSSL writes a private key behind its curve's parameters.
    match blocks.iter().find(|(label, _)| is_private(label)) {
        Some((label, _)) => Err(BadKey::Private(format!("{label:.60}"))),
        None => Ok(blocks),
    }
}

/// Every block of a PEM text: its label, and its bytes.
pub fn pem_blocks(text: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        // A label is shown, and what follows a broken first line may be a private key.
        let is_label = |label: &str| label.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
        let (label, after) = after.split_once("-----").filter(|(label, _)| is_label(label)).ok_or("its first line is not whole")?;
        let (body, after) = after.split_once(&format!("-----END {label}-----")).ok_or_else(|| format!("`{label:.60}` has no end"))?;
        // Older private keys have headers ("Proc-Type: ..."), and are named by their label all the same.
        let base64: String = body.lines().filter(|line| !line.contains(':')).flat_map(|line| line.trim().chars()).collect();
        let bytes = if is_private(label) { Vec::new() } else { STANDARD.decode(base64).map_err(|error| error.to_string())? };
        blocks.push((label.to_owned(), bytes));
        rest = after;
    }
    Ok(blocks)
}

fn is_private(label: &str) -> bool {
    label.contains("PRIVATE KEY")
}

/// The same key as a SubjectPublicKeyInfo, so that it has one id in either form.
fn rsa_spki(pkcs1: &[u8]) -> Vec<u8> {
    let mut bits = vec![0];
    bits.extend_from_slice(pkcs1);
    let mut algorithm = asn1::tlv(6, RSA_ENCRYPTION.as_bytes());
    algorithm.extend(asn1::tlv(5, &[]));
    let mut inside = asn1::tlv(0x30, &algorithm);
    inside.extend(asn1::tlv(3, &bits));
    asn1::tlv(0x30, &inside)
}
