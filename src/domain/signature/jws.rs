//! Notation's envelope as a JWS: JSON with four members, of which two are signed in the very letters in which they came.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::key::{Algorithm, Hash};
use super::notation::{AUTHENTIC_TIME, EXPIRY, Envelope, Header, SCHEME, SIGNING_TIME, too_large};
use super::verdict::Reason;

#[derive(Deserialize)]
struct Jws {
    payload: String,
    protected: String,
    header: Unprotected,
    signature: String,
}

/// What nobody signed: the certificates prove themselves, and the rest is not read.
#[derive(Deserialize)]
struct Unprotected {
    x5c: Vec<String>,
}

/// A JSON object with each name once. Two readers could take different ones of a double for the value.
struct Once(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Once;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Once, A::Error> {
                let mut members: Vec<(String, Value)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.iter().any(|(other, _)| *other == name) {
                        return Err(serde::de::Error::custom(format_args!("`{name:.80}` is there twice")));
                    }
                    if members.len() == MOST_HEADERS {
                        return Err(serde::de::Error::custom(format_args!("it has more than {MOST_HEADERS} members")));
                    }
                    members.push((name, value));
                }
                Ok(Once(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

const MOST_HEADERS: usize = 64;

pub fn read(envelope: &[u8]) -> Result<Envelope, Reason> {
    too_large(envelope)?;
    let jws: Jws = serde_json::from_slice(envelope).map_err(|error| Reason::unreadable("its envelope is not a JWS", &error))?;
    let malformed = |what: &str, error: &dyn fmt::Display| Reason::unreadable(&format!("its {what} cannot be read"), error);
    let url = |what: &str, text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|error| malformed(what, &error));
    let chain = jws.header.x5c.iter().map(|text| STANDARD.decode(text).map_err(|error| malformed("certificate", &error))).collect::<Result<_, _>>()?;
    let protected = url("protected header", &jws.protected)?;
    let Once(members) = serde_json::from_slice(&protected).map_err(|error| malformed("protected header", &error))?;
    Ok(Envelope {
        header: header(members)?,
        chain,
        payload: URL_SAFE_NO_PAD.decode(&jws.payload).ok(),
        signature: url("signature", &jws.signature)?,
        signed: format!("{}.{}", jws.protected, jws.payload).into_bytes(),
    })
}

fn header(members: Vec<(String, Value)>) -> Result<Header, Reason> {
    let mut header = Header::default();
    for (name, value) in members {
        match (name.as_str(), &value) {
            ("alg", Value::String(text)) => header.algorithm = algorithm(text),
            ("cty", Value::String(text)) => header.content_type = text.clone(),
            ("crit", Value::Array(names)) => {
                let texts: Option<Vec<String>> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
                header.critical = texts.filter(|names| names.len() <= MOST_HEADERS).ok_or_else(|| wrong_type(&name))?;
            }
            (SCHEME, Value::String(text)) => header.scheme = text.clone(),
            (SIGNING_TIME, Value::String(text)) => header.signing_time = Some(time(&name, text)?),
            (AUTHENTIC_TIME, Value::String(text)) => header.authentic_time = Some(time(&name, text)?),
            (EXPIRY, Value::String(text)) => header.expiry = Some(time(&name, text)?),
            ("alg" | "cty" | "crit" | SCHEME | SIGNING_TIME | AUTHENTIC_TIME | EXPIRY, _) => return Err(wrong_type(&name)),
            _ => {
                header.extended.insert(name.clone(), value.as_str().map(str::to_owned));
            }
        }
        header.names.insert(name);
    }
    Ok(header)
}

fn wrong_type(name: &str) -> Reason {
    Reason::Malformed(format!("its header `{name:.80}` is of a wrong type"))
}

fn time(name: &str, text: &str) -> Result<Timestamp, Reason> {
    text.parse().map_err(|_| Reason::Malformed(format!("its header `{name}` is `{text:.40}`, which is no time")))
}

fn algorithm(text: &str) -> Option<Algorithm> {
    Some(match text {
        "ES256" => Algorithm::EcdsaFixed(Hash::Sha256),
        "ES384" => Algorithm::EcdsaFixed(Hash::Sha384),
        "ES512" => Algorithm::EcdsaFixed(Hash::Sha512),
        "PS256" => Algorithm::RsaPss(Hash::Sha256),
        "PS384" => Algorithm::RsaPss(Hash::Sha384),
        "PS512" => Algorithm::RsaPss(Hash::Sha512),
        _ => return None,
    })
}
