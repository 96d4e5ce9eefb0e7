//! Notation's envelope as COSE: the same as the JWS, in CBOR (RFC 9052, COSE_Sign1).

use jiff::Timestamp;

use super::cbor::{self, Item};
use super::key::{Algorithm, Hash};
use super::notation::{AUTHENTIC_TIME, EXPIRY, Envelope, Header, SCHEME, SIGNING_TIME, too_large};
use super::verdict::Reason;

const SIGN1: u64 = 18;
const ALGORITHM: Item<'static> = Item::Integer(1);
const CRITICAL: Item<'static> = Item::Integer(2);
const CONTENT_TYPE: Item<'static> = Item::Integer(3);
const X5CHAIN: Item<'static> = Item::Integer(33);
/// A moment as seconds since 1970.
const EPOCH: u64 = 1;

pub fn read(envelope: &[u8]) -> Result<Envelope, Reason> {
    too_large(envelope)?;
    let malformed = |why: &str| Reason::Malformed(format!("its envelope is not COSE: {why}"));
    let Item::Tagged(SIGN1, content) = cbor::read(envelope).map_err(malformed)? else { return Err(malformed("it is no COSE_Sign1")) };
    let Item::Array(parts) = *content else { return Err(malformed("it is no COSE_Sign1")) };
    let [Item::Bytes(protected), Item::Map(unprotected), Item::Bytes(payload), Item::Bytes(signature)] = parts.as_slice() else {
        return Err(malformed("it is no COSE_Sign1 with its payload inside"));
    };
    let Item::Map(members) = cbor::read(protected).map_err(malformed)? else { return Err(malformed("its protected header is no map")) };
    let chain = match unprotected.iter().find(|(label, _)| *label == X5CHAIN) {
        Some((_, Item::Array(certificates))) => certificates.iter().map(|one| if let Item::Bytes(der) = one { Some(der.to_vec()) } else { None }).collect(),
        _ => None,
    };
    let chain: Vec<Vec<u8>> = chain.ok_or_else(|| malformed("it has no certificates"))?;
    Ok(Envelope { header: header(members)?, chain, signed: to_be_signed(protected, payload), payload: Some(payload.to_vec()), signature: signature.to_vec() })
}

fn header(members: Vec<(Item<'_>, Item<'_>)>) -> Result<Header, Reason> {
    let mut header = Header::default();
    for (label, value) in members {
        let name = name(&label)?;
        match (&label, value) {
            (label, Item::Integer(id)) if *label == ALGORITHM => header.algorithm = algorithm(id),
            (label, Item::Text(text)) if *label == CONTENT_TYPE => header.content_type = text.to_owned(),
            (label, Item::Array(labels)) if *label == CRITICAL => header.critical = labels.iter().map(self::name).collect::<Result<_, _>>()?,
            (Item::Text(SCHEME), Item::Text(text)) => header.scheme = text.to_owned(),
            (Item::Text(SIGNING_TIME), value) => header.signing_time = Some(time(&name, value)?),
            (Item::Text(AUTHENTIC_TIME), value) => header.authentic_time = Some(time(&name, value)?),
            (Item::Text(EXPIRY), value) => header.expiry = Some(time(&name, value)?),
            (Item::Integer(1..=3) | Item::Text(SCHEME), _) => return Err(Reason::Malformed(format!("its header {name} is of a wrong type"))),
            (_, value) => {
                header.extended.insert(name.clone(), if let Item::Text(text) = value { Some(text.to_owned()) } else { None });
            }
        }
        header.names.insert(name);
    }
    Ok(header)
}

/// A label is a text or a number; a number is told apart from a text of the same digits.
fn name(label: &Item<'_>) -> Result<String, Reason> {
    match label {
        Item::Text(text) => Ok((*text).to_owned()),
        Item::Integer(number) => Ok(format!("label {number}")),
        _ => Err(Reason::Malformed("a header of its envelope has no name".to_owned())),
    }
}

fn time(name: &str, value: Item<'_>) -> Result<Timestamp, Reason> {
    let seconds = match value {
        Item::Tagged(EPOCH, seconds) => {
            if let Item::Integer(seconds) = *seconds {
                i64::try_from(seconds).ok()
            } else {
                None
            }
        }
        _ => None,
    };
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.ok_or_else(|| Reason::Malformed(format!("its header `{name}` is no time")))
}

fn algorithm(id: i128) -> Option<Algorithm> {
    Some(match id {
        -7 => Algorithm::EcdsaFixed(Hash::Sha256),
        -35 => Algorithm::EcdsaFixed(Hash::Sha384),
        -36 => Algorithm::EcdsaFixed(Hash::Sha512),
        -37 => Algorithm::RsaPss(Hash::Sha256),
        -38 => Algorithm::RsaPss(Hash::Sha384),
        -39 => Algorithm::RsaPss(Hash::Sha512),
        _ => return None,
    })
}

/// `["Signature1", protected, h'', payload]`.
fn to_be_signed(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let context = b"Signature1";
    [
        cbor::head(4, 4),
        cbor::head(3, context.len()),
        context.to_vec(),
        cbor::head(2, protected.len()),
        protected.to_vec(),
        cbor::head(2, 0),
        cbor::head(2, payload.len()),
        payload.to_vec(),
    ]
    .concat()
}
