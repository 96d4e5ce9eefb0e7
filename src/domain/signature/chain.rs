//! A chain of certificates as Notation wants it: from the signer up to a certificate that signed itself, each by the next.
//!
//! One straight line, judged by Notation's own rules: builders of paths for web servers know other rules, and leave some of these out.

use der::asn1::{AnyRef, ObjectIdentifier};
use jiff::Timestamp;

use super::asn1;
use super::certificate::{Certificate, KeyUsage};
use super::key::KeyKind;
use super::verdict::{Ended, Reason};

/// AWS Signer's have four.
pub const MOST_CERTIFICATES: usize = 10;

/// What a signer of images may not be besides: serverAuth, clientAuth, emailProtection, timeStamping, OCSPSigning, or anything.
const NOT_FOR_A_SIGNER: [ObjectIdentifier; 6] = [
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.4"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9"),
    ObjectIdentifier::new_unwrap("2.5.29.37.0"),
];

pub fn read(chain: &[Vec<u8>]) -> Result<Vec<Certificate<'_>>, Reason> {
    if chain.len() > MOST_CERTIFICATES {
        return Err(Reason::Malformed(format!("it has {} certificates, and {MOST_CERTIFICATES} is the most", chain.len())));
    }
    let read = |(at, der)| Certificate::read(der).map_err(|error| malformed(at, &error.to_string()));
    chain.iter().map(Vec::as_slice).enumerate().map(read).collect()
}

/// Whether the chain hangs together, and each certificate is for what it is used for. Not whether anybody trusts its end.
pub fn check(chain: &[Certificate<'_>]) -> Result<(), Reason> {
    let [signer, above @ ..] = chain else { return Err(Reason::Malformed("it has no certificate".to_owned())) };
    is_a_signer(signer).map_err(|why| malformed(0, why))?;
    for (authorities_below, authority) in above.iter().enumerate() {
        is_an_authority(authority, authorities_below).map_err(|why| malformed(authorities_below + 1, why))?;
    }
    for (at, pair) in chain.windows(2).enumerate() {
        let [below, above] = pair else { continue };
        if below.issuer != above.subject {
            return Err(malformed(at, "its issuer is not the next certificate"));
        }
        if !above.signed(below) {
            return Err(Reason::Tampered(format!("certificate {} of its chain was not signed by the next one", at + 1)));
        }
        if is_self_signed(below) {
            return Err(malformed(at, "it signed itself, and others follow"));
        }
    }
    let last = chain.len() - 1;
    if chain[last].issuer != chain[last].subject {
        return Err(malformed(last, "it is the last one, and did not sign itself"));
    }
    if !chain[last].signed(&chain[last]) {
        return Err(Reason::Tampered(format!("certificate {} of its chain is the last one, and did not sign itself", last + 1)));
    }
    Ok(())
}

/// Whether every certificate is valid at that time, its first and last second included.
pub fn valid_at(chain: &[Certificate<'_>], time: Timestamp) -> Result<(), Reason> {
    for (at, certificate) in chain.iter().enumerate() {
        if time > certificate.not_after {
            return Err(Reason::Expired { what: Ended::Certificate, at: certificate.not_after });
        }
        if time < certificate.not_before {
            return Err(malformed(at, &format!("it is valid from {} on, which is too late", certificate.not_before)));
        }
    }
    Ok(())
}

fn malformed(at: usize, why: &str) -> Reason {
    Reason::Malformed(format!("certificate {} of its chain: {why}", at + 1))
}

/// By its signature, not by its name: a signer may have the name of its authority.
fn is_self_signed(certificate: &Certificate<'_>) -> bool {
    certificate.issuer == certificate.subject && certificate.signed(certificate)
}

fn is_a_signer(certificate: &Certificate<'_>) -> Result<(), &'static str> {
    if certificate.basic.is_some_and(|basic| basic.is_authority) {
        return Err("it is an authority's, and an authority signs certificates alone");
    }
    let usage = certificate.usage.ok_or("it does not say what its key is for (keyUsage)")?;
    if !usage.critical || !usage.has(KeyUsage::DIGITAL_SIGNATURE) {
        return Err("its key is not for signatures (keyUsage, critical, digitalSignature)");
    }
    if usage.has(KeyUsage::NOT_FOR_A_SIGNER) {
        return Err("its key is for more than signatures (keyUsage)");
    }
    if certificate.extended_usage.iter().any(|usage: &AnyRef<'_>| NOT_FOR_A_SIGNER.iter().any(|oid| asn1::is_oid(*usage, *oid))) {
        return Err("its key is for servers, clients, mail, time or anything, and not for signing alone (extendedKeyUsage)");
    }
    Ok(())
}

fn is_an_authority(certificate: &Certificate<'_>, authorities_below: usize) -> Result<(), &'static str> {
    let basic = certificate.basic.filter(|basic| basic.critical && basic.is_authority).ok_or("it is not an authority's (basicConstraints, critical, cA)")?;
    if basic.path_length.is_some_and(|most| authorities_below > usize::from(most)) {
        return Err("more authorities stand below it than it allows (pathLenConstraint)");
    }
    let usage = certificate.usage.ok_or("it does not say what its key is for (keyUsage)")?;
    if !usage.critical || !usage.has(KeyUsage::KEY_CERT_SIGN) {
        return Err("its key is not for signing certificates (keyUsage, critical, keyCertSign)");
    }
    if certificate.key.kind() == KeyKind::Ed25519 {
        return Err("its key is an Ed25519 key, which Notation does not define");
    }
    Ok(())
}
