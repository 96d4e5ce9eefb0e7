//! What a person reads about signatures: the image, the reason, the way out; one sentence each. "Could not look" and "looked and
//! refused" never share one.

use super::verdict::{By, Ended, Reason, Refused, Verdict, Verified};

/// What a refused deployment reads of one signer. `image`: as the deployment names it.
pub fn refused(image: &str, refused: &Refused) -> String {
    let (why, next) = why_and_next(&refused.reason);
    // Much of it is quoted from what anybody could push.
    let why = why.replace(char::is_control, "?");
    let verb = if refused.reason.is_forgivable() { "is not signed by" } else { "could not be checked for a signature by" };
    format!("{image} {verb} {}: {why}.\n{next}", refused.signer)
}

/// The same of all signers that are missing.
pub fn verdict(image: &str, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Verified(all) => all.iter().map(|one| verified(image, one)).collect::<Vec<_>>().join("\n"),
        Verdict::Refused(all) => all.iter().map(|one| self::refused(image, one)).collect::<Vec<_>>().join("\n"),
    }
}

pub fn verified(image: &str, verified: &Verified) -> String {
    let by = match &verified.by {
        By::Key(id) => format!("key SHA-256 {id}"),
        By::Profile { version_arn, .. } => version_arn.clone(),
        By::Certificate(fingerprint) => format!("certificate SHA-256 {fingerprint}"),
    };
    let at = verified.signed_at.map(|time| format!(", on {time}")).unwrap_or_default();
    format!("{image} is signed by {} ({by}{at}).", verified.signer)
}

/// Why, in half a sentence.
pub fn why(reason: &Reason) -> String {
    why_and_next(reason).0
}

fn why_and_next(reason: &Reason) -> (String, &'static str) {
    match reason {
        Reason::Unsigned { others: 0 } => {
            ("it has no signature".to_owned(), "Sign this digest, and deploy again. ECR's own signing takes a moment after the push.")
        }
        Reason::Unsigned { others } => (
            format!("it has {others} {} of another kind, and none of this one", if *others == 1 { "signature" } else { "signatures" }),
            "Sign this digest with the signer that is asked for, or change `signatureVerification` to the one that signs.",
        ),
        Reason::WrongKey => (
            "its signature was made with another key, or altered since".to_owned(),
            "Sign this digest with the key that is asked for, or give the public key of the one that signed.",
        ),
        Reason::WrongDigest { names } => (
            format!("its signature is good, and of something else: {names}"),
            "Sign the very digest that is deployed; a signature is not carried over when an image is rebuilt, converted or copied as another type.",
        ),
        Reason::Tampered(what) => {
            (format!("its signature is not what the signer made: {what}"), "Find out who changed it. Then sign the digest again, and deploy.")
        }
        Reason::Malformed(what) => {
            (format!("its signature cannot be used: {what}"), "Sign this digest again with a current release of the tool that signed it.")
        }
        Reason::Unsupported(what) => {
            (format!("its signature is of a kind that does not count: {what}"), "Sign this digest as the documentation of `signatureVerification` shows.")
        }
        Reason::Keyless => (
            "its signature was made with a certificate (keyless), where a key is asked for".to_owned(),
            "Sign this digest with the key (`cosign sign --key`), and deploy again.",
        ),
        Reason::UntrustedRoot { root } => (
            format!("its signature ends in a root that is not trusted: {root}"),
            "Sign this digest with the signer that is asked for; or, if this root is yours, give its certificate in `trustedRoots`.",
        ),
        Reason::WrongIdentity { says } => (
            format!("its signature is by somebody else: {says}"),
            "Sign this digest with a signing profile that `trustedIdentities` names, or add the ARN of the one that signed.",
        ),
        Reason::Expired { what: Ended::Signature, at } => (format!("its signature counted until {at}"), "Sign this digest again, and deploy."),
        Reason::Expired { what: Ended::Certificate, at } => {
            (format!("the certificate of its signature was valid until {at}"), "Sign this digest again with a certificate that is valid, and deploy.")
        }
        Reason::Revoked { what } => (
            format!("AWS Signer has revoked {}", what.join(" and ")),
            "Do not use this image before it is clear why. Then sign a rebuilt one, and deploy that.",
        ),
        Reason::CouldNotCheck(why) => (why.clone(), "It may be signed well: nothing was let through. Deploy again when the cause is gone."),
    }
}
