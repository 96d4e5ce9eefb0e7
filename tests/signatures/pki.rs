//! Our own signers: keys of every kind, and authorities that certify them. Everything can be made wrong in one place at a time.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecr_scan_verifier::domain::signature::key::{Algorithm, Hash};
use jiff::Timestamp;
use p384::ecdsa::signature::hazmat::PrehashSigner as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{self as sign, KeyPair as _};
use ring::{digest, signature};

pub static RANDOM: LazyLock<SystemRandom> = LazyLock::new(SystemRandom::new);

pub fn time(text: &str) -> Timestamp {
    text.parse().expect("a time of a test")
}

/// One value of DER.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut bytes = match length {
        0..=127 => vec![tag, length as u8],
        128..=255 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    bytes.extend_from_slice(content);
    bytes
}

pub fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub fn oid(text: &str) -> Vec<u8> {
    tlv(6, der::asn1::ObjectIdentifier::new_unwrap(text).as_bytes())
}

pub fn bits(bytes: &[u8]) -> Vec<u8> {
    tlv(3, &[&[0], bytes].concat())
}

/// A private key.
pub enum Key {
    P256(Vec<u8>),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
    Rsa(usize, Box<signature::RsaKeyPair>),
    Ed25519(signature::Ed25519KeyPair),
    /// The public half of another's, which can be certified and cannot sign.
    Public(Vec<u8>),
}

impl Key {
    pub fn p256() -> Self {
        Self::P256(sign::EcdsaKeyPair::generate_pkcs8(&sign::ECDSA_P256_SHA256_ASN1_SIGNING, &*RANDOM).unwrap().as_ref().to_vec())
    }

    pub fn p384() -> Self {
        let mut scalar = [0; 48];
        RANDOM.fill(&mut scalar).unwrap();
        scalar[0] &= 0x7f; // below the order of the curve
        Self::P384(p384::ecdsa::SigningKey::from_slice(&scalar).unwrap())
    }

    pub fn p521() -> Self {
        let mut scalar = [0; 66];
        RANDOM.fill(&mut scalar[1..]).unwrap();
        Self::P521(p521::ecdsa::SigningKey::from_slice(&scalar).unwrap())
    }

    pub fn rsa(length: usize) -> Self {
        let pkcs8: &[u8] = match length {
            2048 => include_bytes!("keys/rsa-2048.pk8"),
            3072 => include_bytes!("keys/rsa-3072.pk8"),
            4096 => include_bytes!("keys/rsa-4096.pk8"),
            other => panic!("no key of {other} bits is kept"),
        };
        Self::Rsa(length, Box::new(signature::RsaKeyPair::from_pkcs8(pkcs8).unwrap()))
    }

    pub fn ed25519() -> Self {
        let pkcs8 = signature::Ed25519KeyPair::generate_pkcs8(&*RANDOM).unwrap();
        Self::Ed25519(signature::Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    /// The SubjectPublicKeyInfo, as KMS gives it.
    pub fn spki(&self) -> Vec<u8> {
        let ec = |curve: &str, point: &[u8]| seq(&[seq(&[oid("1.2.840.10045.2.1"), oid(curve)]), bits(point)]);
        match self {
            Self::P256(pkcs8) => {
                let pair = sign::EcdsaKeyPair::from_pkcs8(&sign::ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &*RANDOM).unwrap();
                ec("1.2.840.10045.3.1.7", pair.public_key().as_ref())
            }
            Self::P384(key) => ec("1.3.132.0.34", key.verifying_key().to_sec1_point(false).as_bytes()),
            Self::P521(key) => ec("1.3.132.0.35", key.verifying_key().to_sec1_point(false).as_bytes()),
            Self::Rsa(_, pair) => seq(&[seq(&[oid("1.2.840.113549.1.1.1"), tlv(5, &[])]), bits(pair.public_key().as_ref())]),
            Self::Ed25519(pair) => seq(&[seq(&[oid("1.3.101.112")]), bits(pair.public_key().as_ref())]),
            Self::Public(spki) => spki.clone(),
        }
    }

    pub fn pem(&self) -> String {
        pem("PUBLIC KEY", &self.spki())
    }

    pub fn sign(&self, how: Algorithm, message: &[u8]) -> Vec<u8> {
        let hashed = |hash| {
            let algorithm = match hash {
                Hash::Sha256 => &digest::SHA256,
                Hash::Sha384 => &digest::SHA384,
                Hash::Sha512 => &digest::SHA512,
            };
            digest::digest(algorithm, message)
        };
        match (self, how) {
            (Self::P256(pkcs8), Algorithm::Ecdsa(Hash::Sha256) | Algorithm::EcdsaFixed(Hash::Sha256)) => {
                let form = if how == Algorithm::Ecdsa(Hash::Sha256) { &sign::ECDSA_P256_SHA256_ASN1_SIGNING } else { &sign::ECDSA_P256_SHA256_FIXED_SIGNING };
                sign::EcdsaKeyPair::from_pkcs8(form, pkcs8, &*RANDOM).unwrap().sign(&*RANDOM, message).unwrap().as_ref().to_vec()
            }
            (Self::P384(key), Algorithm::Ecdsa(hash)) => {
                let signature: p384::ecdsa::Signature = key.sign_prehash(hashed(hash).as_ref()).unwrap();
                signature.to_der().as_bytes().to_vec()
            }
            (Self::P384(key), Algorithm::EcdsaFixed(hash)) => {
                let signature: p384::ecdsa::Signature = key.sign_prehash(hashed(hash).as_ref()).unwrap();
                signature.to_bytes().to_vec()
            }
            (Self::P521(key), Algorithm::Ecdsa(hash)) => {
                let signature: p521::ecdsa::Signature = key.sign_prehash(hashed(hash).as_ref()).unwrap();
                signature.to_der().as_bytes().to_vec()
            }
            (Self::P521(key), Algorithm::EcdsaFixed(hash)) => {
                let signature: p521::ecdsa::Signature = key.sign_prehash(hashed(hash).as_ref()).unwrap();
                signature.to_bytes().to_vec()
            }
            (Self::Rsa(_, pair), Algorithm::RsaPkcs1(hash) | Algorithm::RsaPss(hash)) => {
                let encoding: &dyn signature::RsaEncoding = match (how, hash) {
                    (Algorithm::RsaPkcs1(_), Hash::Sha256) => &signature::RSA_PKCS1_SHA256,
                    (Algorithm::RsaPkcs1(_), Hash::Sha384) => &signature::RSA_PKCS1_SHA384,
                    (Algorithm::RsaPkcs1(_), Hash::Sha512) => &signature::RSA_PKCS1_SHA512,
                    (_, Hash::Sha256) => &signature::RSA_PSS_SHA256,
                    (_, Hash::Sha384) => &signature::RSA_PSS_SHA384,
                    (_, Hash::Sha512) => &signature::RSA_PSS_SHA512,
                };
                let mut made = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &*RANDOM, message, &mut made).unwrap();
                made
            }
            (Self::Ed25519(pair), Algorithm::Ed25519) => pair.sign(message).as_ref().to_vec(),
            _ => panic!("this key cannot sign with {how:?}"),
        }
    }

    /// How certificates below this key are signed, and what names it.
    fn certifies_with(&self) -> (Algorithm, Vec<u8>) {
        match self {
            Self::P256(_) => (Algorithm::Ecdsa(Hash::Sha256), seq(&[oid("1.2.840.10045.4.3.2")])),
            Self::P384(_) => (Algorithm::Ecdsa(Hash::Sha384), seq(&[oid("1.2.840.10045.4.3.3")])),
            Self::P521(_) => (Algorithm::Ecdsa(Hash::Sha512), seq(&[oid("1.2.840.10045.4.3.4")])),
            Self::Rsa(..) => (Algorithm::RsaPkcs1(Hash::Sha256), seq(&[oid("1.2.840.113549.1.1.11"), tlv(5, &[])])),
            Self::Ed25519(_) | Self::Public(_) => panic!("no authority of ours has such a key"),
        }
    }

    /// Notation's algorithm for this key: what is signed with, and its names in JWS and COSE.
    pub fn envelope_algorithm(&self) -> (Algorithm, &'static str, i64) {
        match self {
            Self::P256(_) => (Algorithm::EcdsaFixed(Hash::Sha256), "ES256", -7),
            Self::P384(_) => (Algorithm::EcdsaFixed(Hash::Sha384), "ES384", -35),
            Self::P521(_) => (Algorithm::EcdsaFixed(Hash::Sha512), "ES512", -36),
            Self::Rsa(2048, _) => (Algorithm::RsaPss(Hash::Sha256), "PS256", -37),
            Self::Rsa(3072, _) => (Algorithm::RsaPss(Hash::Sha384), "PS384", -38),
            Self::Rsa(..) => (Algorithm::RsaPss(Hash::Sha512), "PS512", -39),
            Self::Ed25519(_) => (Algorithm::Ed25519, "EdDSA", -8),
            Self::Public(_) => panic!("this key cannot sign"),
        }
    }
}

pub fn pem(label: &str, der: &[u8]) -> String {
    let lines: Vec<String> = STANDARD.encode(der).as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// What a certificate says. The defaults are those of a good authority; a test changes one thing.
#[derive(Clone)]
pub struct Says {
    pub subject: String,
    pub issuer: String,
    pub from: Timestamp,
    pub until: Timestamp,
    pub version: u8,
    pub basic: Option<Basic>,
    /// The two bytes of keyUsage, and whether it is critical.
    pub usage: Option<(u16, bool)>,
    pub extended: Vec<&'static str>,
    /// Whole extensions besides.
    pub more: Vec<Vec<u8>>,
    /// What follows the extensions, where nothing belongs.
    pub after: Vec<Vec<u8>>,
    /// In place of what goes with the issuer's key.
    pub signed_with: Option<(Algorithm, Vec<u8>)>,
}

#[derive(Clone, Copy)]
pub struct Basic {
    pub critical: bool,
    pub authority: bool,
    pub path: Option<u8>,
}

pub const DIGITAL_SIGNATURE: u16 = 0x8000;
pub const KEY_CERT_SIGN: u16 = 0x0400;
pub const CRL_SIGN: u16 = 0x0200;

impl Says {
    pub fn authority(subject: &str, issuer: &str) -> Self {
        Self {
            subject: subject.to_owned(),
            issuer: issuer.to_owned(),
            from: time("2022-10-27T00:00:00Z"),
            until: time("2122-10-27T00:00:00Z"),
            version: 2,
            basic: Some(Basic { critical: true, authority: true, path: None }),
            usage: Some((KEY_CERT_SIGN | CRL_SIGN, true)),
            extended: Vec::new(),
            more: Vec::new(),
            after: Vec::new(),
            signed_with: None,
        }
    }

    pub fn signer(subject: &str, issuer: &str) -> Self {
        Self {
            basic: Some(Basic { critical: true, authority: false, path: None }),
            usage: Some((DIGITAL_SIGNATURE, true)),
            extended: vec!["1.3.6.1.5.5.7.3.3"],
            from: time("2026-11-23T00:00:00Z"),
            until: time("2026-11-26T00:00:00Z"),
            ..Self::authority(subject, issuer)
        }
    }

    pub fn certify(&self, key: &Key, by: &Key) -> Vec<u8> {
        let name = |name: &str| seq(&[tlv(0x31, &seq(&[oid("2.5.4.3"), tlv(0x0c, name.as_bytes())]))]);
        let when = |time: Timestamp| {
            // "Without an end", as RFC 5280 writes it, is later than what jiff can say.
            let text = if time == Timestamp::MAX { "99991231235959Z".to_owned() } else { time.strftime("%Y%m%d%H%M%SZ").to_string() };
            if text.starts_with("20") && &text[..4] < "2050" { tlv(0x17, &text.as_bytes()[2..]) } else { tlv(0x18, text.as_bytes()) }
        };
        let (how, algorithm) = self.signed_with.clone().unwrap_or_else(|| by.certifies_with());
        let mut extensions = Vec::new();
        if let Some(basic) = self.basic {
            let mut content = Vec::new();
            if basic.authority {
                content.push(tlv(1, &[0xff]));
            }
            content.extend(basic.path.map(|path| tlv(2, &[path])));
            extensions.push(extension("2.5.29.19", basic.critical, &seq(&content)));
        }
        if let Some((usage, critical)) = self.usage {
            let unused = usage.trailing_zeros().min(15);
            let content = if unused >= 8 { vec![(unused - 8) as u8, (usage >> 8) as u8] } else { vec![unused as u8, (usage >> 8) as u8, usage as u8] };
            extensions.push(extension("2.5.29.15", critical, &tlv(3, &content)));
        }
        if !self.extended.is_empty() {
            extensions.push(extension("2.5.29.37", false, &seq(&self.extended.iter().map(|usage| oid(usage)).collect::<Vec<_>>())));
        }
        extensions.extend(self.more.iter().cloned());
        let mut serial = [0; 16];
        RANDOM.fill(&mut serial).unwrap();
        serial[0] = serial[0] & 0x3f | 0x40;
        let mut fields = vec![tlv(0xa0, &[2, 1, self.version]), tlv(2, &serial), algorithm.clone(), name(&self.issuer)];
        fields.extend([seq(&[when(self.from), when(self.until)]), name(&self.subject), key.spki(), tlv(0xa3, &seq(&extensions))]);
        fields.extend(self.after.iter().cloned());
        let tbs = seq(&fields);
        let signature = by.sign(how, &tbs);
        seq(&[tbs, algorithm, bits(&signature)])
    }
}

pub fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![oid(id)];
    if critical {
        parts.push(tlv(1, &[0xff]));
    }
    parts.push(tlv(4, value));
    seq(&parts)
}

/// A chain, the signer's certificate first, and the signer's key.
pub struct Chain {
    pub certificates: Vec<Vec<u8>>,
    pub key: Key,
}

impl Chain {
    pub fn root(&self) -> &[u8] {
        self.certificates.last().unwrap()
    }

    /// As AWS Signer's: root, intermediate, region, signer; the last one for three days.
    pub fn of_aws_signer() -> Self {
        let says = [
            Says::signer("AWS Signer", "AWS Signer eu-west-1 Code Signing CA G1"),
            Says {
                basic: Some(Basic { critical: true, authority: true, path: Some(0) }),
                ..Says::authority("AWS Signer eu-west-1 Code Signing CA G1", "AWS Signer Code Signing Int CA G1")
            },
            Says {
                basic: Some(Basic { critical: true, authority: true, path: Some(1) }),
                ..Says::authority("AWS Signer Code Signing Int CA G1", "AWS Signer Code Signing Root CA G1")
            },
            Says::authority("AWS Signer Code Signing Root CA G1", "AWS Signer Code Signing Root CA G1"),
        ];
        Self::of(&says, [Key::p384(), Key::p384(), Key::p384(), Key::p384()].into())
    }

    /// Each certified by the next, the last one by itself.
    pub fn of(says: &[Says], keys: Vec<Key>) -> Self {
        let certify = |at: usize| says[at].certify(&keys[at], keys.get(at + 1).unwrap_or(&keys[at]));
        let certificates = (0..says.len()).map(certify).collect();
        Self { certificates, key: keys.into_iter().next().unwrap() }
    }

    /// A signer right below its root, valid for long.
    pub fn short(key: Key) -> Self {
        let signer = Says { until: time("2033-01-01T00:00:00Z"), ..Says::signer("web", "Our Root") };
        Self::of(&[signer, Says::authority("Our Root", "Our Root")], vec![key, Key::p384()])
    }
}
