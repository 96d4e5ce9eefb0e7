//! One X.509 certificate: the parts that Notation's rules speak of, and the bytes that were signed as they came.
//!
//! Strict where it reads (DER, one value after the other, nothing left over), blind where the specification wants it so: other
//! extensions are ignored, critical or not.

use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, ObjectIdentifier, OctetStringRef, UintRef, UtcTime};
use der::{Decode as _, Reader as _, SliceReader, Tag, Tagged as _};
use jiff::Timestamp;

use super::asn1;
use super::key::{Algorithm, BadKey, Hash, PublicKey};
use crate::domain::image::sha256_hex;

#[derive(Clone, Debug)]
pub struct Certificate<'a> {
    pub der: &'a [u8],
    /// What was signed.
    pub tbs: &'a [u8],
    pub issuer: &'a [u8],
    pub subject: &'a [u8],
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub key: PublicKey,
    /// How its issuer signed it.
    pub algorithm: Algorithm,
    pub signature: &'a [u8],
    pub basic: Option<BasicConstraints>,
    pub usage: Option<KeyUsage>,
    pub extended_usage: Vec<AnyRef<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BasicConstraints {
    pub critical: bool,
    pub is_authority: bool,
    /// How many authorities may stand below it.
    pub path_length: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage {
    pub critical: bool,
    /// Bit 0 of the specification is the highest.
    bits: u16,
}

impl KeyUsage {
    pub const DIGITAL_SIGNATURE: u16 = 1 << 15;
    pub const KEY_CERT_SIGN: u16 = 1 << 10;
    /// keyEncipherment, dataEncipherment, keyAgreement, keyCertSign, cRLSign, encipherOnly, decipherOnly.
    pub const NOT_FOR_A_SIGNER: u16 = 1 << 13 | 1 << 12 | 1 << 11 | 1 << 10 | 1 << 9 | 1 << 8 | 1 << 7;

    pub fn has(self, any_of: u16) -> bool {
        self.bits & any_of != 0
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    #[error("it is not an X.509 certificate: {0}")]
    Der(#[from] der::Error),
    #[error("its key cannot be used: {0}")]
    Key(#[from] BadKey),
    #[error("it is signed with an algorithm ({0}) that does not count")]
    Algorithm(String),
    #[error("{0}")]
    Other(&'static str),
}

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
/// SHA-1 is not among them, by the specification.
const ALGORITHMS: [(ObjectIdentifier, Algorithm); 6] = [
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"), Algorithm::Ecdsa(Hash::Sha256)),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"), Algorithm::Ecdsa(Hash::Sha384)),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4"), Algorithm::Ecdsa(Hash::Sha512)),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"), Algorithm::RsaPkcs1(Hash::Sha256)),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12"), Algorithm::RsaPkcs1(Hash::Sha384)),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13"), Algorithm::RsaPkcs1(Hash::Sha512)),
];
/// The hashes that RSASSA-PSS can be told to use, with the salt that goes with each.
const HASHES: [(ObjectIdentifier, Hash, u8); 3] = [
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1"), Hash::Sha256, 32),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2"), Hash::Sha384, 48),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3"), Hash::Sha512, 64),
];

impl<'a> Certificate<'a> {
    pub fn read(der: &'a [u8]) -> Result<Self, BadCertificate> {
        let mut outer = asn1::open(AnyRef::from_der(der)?, Tag::Sequence)?;
        let tbs = outer.tlv_bytes()?;
        let outer_algorithm = outer.tlv_bytes()?;
        let signature: BitStringRef<'a> = outer.decode()?;
        outer.finish()?;

        let mut fields = asn1::open(AnyRef::from_der(tbs)?, Tag::Sequence)?;
        let version: AnyRef<'a> = fields.decode()?;
        if !is_context(version.tag(), 0) || version.value() != [2, 1, 2] {
            return Err(BadCertificate::Other("it is not of version 3, and older ones cannot say what they are for"));
        }
        let serial: AnyRef<'a> = fields.decode()?;
        serial.tag().assert_eq(Tag::Integer)?;
        let inner_algorithm = fields.tlv_bytes()?;
        if inner_algorithm != outer_algorithm {
            return Err(BadCertificate::Other("it names two algorithms"));
        }
        let issuer = fields.tlv_bytes()?;
        let mut validity = asn1::open(fields.decode()?, Tag::Sequence)?;
        let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
        validity.finish()?;
        let subject = fields.tlv_bytes()?;
        let key = PublicKey::from_der(fields.tlv_bytes()?)?;

        let mut certificate = Self {
            der,
            tbs,
            issuer,
            subject,
            not_before,
            not_after,
            key,
            algorithm: signature_algorithm(inner_algorithm)?,
            signature: signature.as_bytes().ok_or(BadCertificate::Other("its signature is no whole bytes"))?,
            basic: None,
            usage: None,
            extended_usage: Vec::new(),
        };
        // The unique ids of issuer and subject, if anybody still writes them, then the extensions.
        let mut last = 0;
        while !fields.is_finished() {
            let field: AnyRef<'a> = fields.decode()?;
            let Some(number) = (1..=3).find(|number| is_context(field.tag(), *number) || is_primitive_context(field.tag(), *number)) else {
                return Err(BadCertificate::Other("it has a part that does not belong there"));
            };
            if number <= last {
                return Err(BadCertificate::Other("its parts are out of order"));
            }
            last = number;
            if number == 3 {
                certificate.read_extensions(AnyRef::from_der(field.value())?)?;
            }
        }
        Ok(certificate)
    }

    fn read_extensions(&mut self, list: AnyRef<'a>) -> Result<(), BadCertificate> {
        let mut list = asn1::open(list, Tag::Sequence)?;
        let mut usages = None;
        while !list.is_finished() {
            let mut extension = asn1::open(list.decode()?, Tag::Sequence)?;
            let oid: AnyRef<'a> = extension.decode()?;
            let mut value: AnyRef<'a> = extension.decode()?;
            let mut critical = false;
            if value.tag() == Tag::Boolean {
                critical = value.decode_as::<bool>()?;
                value = extension.decode()?;
            }
            extension.finish()?;
            let value = value.decode_as::<&OctetStringRef>()?.as_bytes();
            let twice = || BadCertificate::Other("it has an extension twice");
            if asn1::is_oid(oid, BASIC_CONSTRAINTS) {
                if self.basic.replace(basic_constraints(value, critical)?).is_some() {
                    return Err(twice());
                }
            } else if asn1::is_oid(oid, KEY_USAGE) {
                if self.usage.replace(key_usage(value, critical)?).is_some() {
                    return Err(twice());
                }
            } else if asn1::is_oid(oid, EXTENDED_KEY_USAGE) && usages.replace(extended_usage(value)?).is_some() {
                return Err(twice());
            }
        }
        self.extended_usage = usages.unwrap_or_default();
        Ok(())
    }

    /// Whether the holder of this certificate's key signed that certificate.
    pub fn signed(&self, other: &Certificate<'_>) -> bool {
        self.key.signed(other.algorithm, other.tbs, other.signature)
    }

    /// Its SHA-256, as tools show it.
    pub fn fingerprint(&self) -> String {
        sha256_hex(self.der)
    }

    /// For a person: who it is, as far as it says so, and its SHA-256.
    pub fn describe(&self) -> String {
        match common_name(self.subject) {
            Some(name) => format!("`{name:.80}`, SHA-256 {}", self.fingerprint()),
            None => format!("SHA-256 {}", self.fingerprint()),
        }
    }
}

fn is_context(tag: Tag, number: u32) -> bool {
    matches!(tag, Tag::ContextSpecific { constructed: true, number: found } if found.value() == number)
}

fn is_primitive_context(tag: Tag, number: u32) -> bool {
    number < 3 && matches!(tag, Tag::ContextSpecific { constructed: false, number: found } if found.value() == number)
}

fn time(reader: &mut SliceReader<'_>) -> Result<Timestamp, BadCertificate> {
    let value: AnyRef<'_> = reader.decode()?;
    let since_1970 = match value.tag() {
        Tag::UtcTime => value.decode_as::<UtcTime>()?.to_unix_duration(),
        _ => value.decode_as::<GeneralizedTime>()?.to_unix_duration(),
    };
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    // RFC 5280's "without an end" is the last second of the year 9999, a day after the last one that jiff knows.
    Ok(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
}

fn signature_algorithm(identifier: &[u8]) -> Result<Algorithm, BadCertificate> {
    let mut reader = asn1::open(AnyRef::from_der(identifier)?, Tag::Sequence)?;
    let oid: AnyRef<'_> = reader.decode()?;
    if asn1::is_oid(oid, RSASSA_PSS) {
        let parameters = reader.tlv_bytes()?;
        let known = HASHES.iter().find(|(hash, _, salt)| pss_parameters(*hash, *salt) == parameters);
        return known.map(|(_, hash, _)| Algorithm::RsaPss(*hash)).ok_or_else(|| BadCertificate::Algorithm("RSASSA-PSS with unusual parameters".to_owned()));
    }
    let known = ALGORITHMS.iter().find(|(known, _)| asn1::is_oid(oid, *known));
    known.map(|(_, algorithm)| *algorithm).ok_or_else(|| BadCertificate::Algorithm(asn1::oid_text(oid)))
}

/// The parameters as everybody writes them: hash, MGF1 with the same hash, a salt as long as the hash.
pub fn pss_parameters(hash: ObjectIdentifier, salt: u8) -> Vec<u8> {
    let oid = |oid: ObjectIdentifier| asn1::tlv(6, oid.as_bytes());
    let hash = asn1::tlv(0x30, &[oid(hash), asn1::tlv(5, &[])].concat());
    let mask = asn1::tlv(0x30, &[oid(MGF1), hash.clone()].concat());
    asn1::tlv(0x30, &[asn1::tlv(0xa0, &hash), asn1::tlv(0xa1, &mask), asn1::tlv(0xa2, &[2, 1, salt])].concat())
}

fn basic_constraints(value: &[u8], critical: bool) -> Result<BasicConstraints, BadCertificate> {
    let mut reader = asn1::open(AnyRef::from_der(value)?, Tag::Sequence)?;
    let mut basic = BasicConstraints { critical, is_authority: false, path_length: None };
    if !reader.is_finished() {
        let mut next: Option<AnyRef<'_>> = Some(reader.decode()?);
        if let Some(value) = next.filter(|value| value.tag() == Tag::Boolean) {
            basic.is_authority = value.decode_as::<bool>()?;
            next = if reader.is_finished() { None } else { Some(reader.decode()?) };
        }
        if let Some(value) = next {
            let number: UintRef<'_> = value.decode_as()?;
            // Longer than any chain that we read.
            basic.path_length = Some(if let [one] = number.as_bytes() { *one } else { u8::MAX });
        }
    }
    reader.finish()?;
    Ok(basic)
}

fn key_usage(value: &[u8], critical: bool) -> Result<KeyUsage, BadCertificate> {
    let bits = BitStringRef::from_der(value)?;
    let bits = bits.raw_bytes();
    let byte = |at: usize| u16::from(bits.get(at).copied().unwrap_or_default());
    Ok(KeyUsage { critical, bits: byte(0) << 8 | byte(1) })
}

fn extended_usage(value: &[u8]) -> Result<Vec<AnyRef<'_>>, BadCertificate> {
    let mut reader = asn1::open(AnyRef::from_der(value)?, Tag::Sequence)?;
    let mut usages = Vec::new();
    while !reader.is_finished() {
        usages.push(reader.decode()?);
    }
    Ok(usages)
}

/// The last CN of a name, where it is a plain text.
fn common_name(name: &[u8]) -> Option<&str> {
    const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
    let mut sets = asn1::open(AnyRef::from_der(name).ok()?, Tag::Sequence).ok()?;
    let mut found = None;
    while !sets.is_finished() {
        let mut set = asn1::open(sets.decode().ok()?, Tag::Set).ok()?;
        while !set.is_finished() {
            let mut pair = asn1::open(set.decode().ok()?, Tag::Sequence).ok()?;
            let oid: AnyRef<'_> = pair.decode().ok()?;
            let value: AnyRef<'_> = pair.decode().ok()?;
            if asn1::is_oid(oid, COMMON_NAME) {
                found = std::str::from_utf8(value.value()).ok().filter(|text| !text.chars().any(char::is_control));
            }
        }
    }
    found
}
