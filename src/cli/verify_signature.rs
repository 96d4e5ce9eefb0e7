//! `ecr-scan-verifier verify-signature`: is this image signed by those who are named? Asked of ECR, KMS and AWS Signer, judged here.
//!
//! Exit 0: verified; 2: not verified (unsigned, another key, tampered, expired, revoked); 3: could not check, so it may be signed
//! well or not; 1: a usage error, or could not look (no credentials, no such image).

use serde::Serialize;

use super::{Format, Outcome};
use crate::domain::image::ImageDigest;
use crate::domain::signature::say;
use crate::domain::signature::trust::Rule;
use crate::domain::signature::verdict::{Reason, Refused, Verdict, Verified};

const NOT_VERIFIED: u8 = 2;
const COULD_NOT_CHECK: u8 = 3;

/// The verdict as a person or a program reads it. `asked`: how many signers were named.
pub fn said(repository: &str, digest: &ImageDigest, rule: Rule, asked: usize, verdict: &Verdict, format: Format) -> Outcome {
    let (word, exit) = match verdict {
        Verdict::Verified(_) => ("VERIFIED", 0),
        Verdict::Refused(_) if verdict.is_forgivable() => ("NOT_VERIFIED", NOT_VERIFIED),
        Verdict::Refused(_) => ("COULD_NOT_CHECK", COULD_NOT_CHECK),
    };
    let image = format!("{repository}@{digest}");
    let stdout = match format {
        Format::Text => {
            let rule = match (rule, asked) {
                (_, 1) => "1 signer",
                (Rule::AllOf, _) => "all signers",
                (Rule::AnyOf, _) => "any signer",
            };
            format!("{word} ({rule})\n{}\n", say::verdict(&image, verdict))
        }
        Format::Json => {
            let signers = match verdict {
                Verdict::Verified(all) => all.iter().map(|one| Signer::Verified { verified: true, by: one, message: say::verified(&image, one) }).collect(),
                Verdict::Refused(all) => all.iter().map(|one| Signer::refused(&image, one)).collect(),
            };
            let report = Report { schema_version: 1, verdict: word, repository, digest, rule, signers };
            serde_json::to_string_pretty(&report).expect("texts and numbers are JSON") + "\n"
        }
    };
    Outcome::said(stdout, exit)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    schema_version: u32,
    verdict: &'static str,
    repository: &'a str,
    digest: &'a ImageDigest,
    rule: Rule,
    /// Verified: those who signed. Otherwise: those who are missing.
    signers: Vec<Signer<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Signer<'a> {
    Verified {
        verified: bool,
        #[serde(flatten)]
        by: &'a Verified,
        message: String,
    },
    Refused {
        verified: bool,
        signer: &'a str,
        reason: &'static str,
        details: &'a Reason,
        message: String,
    },
}

impl<'a> Signer<'a> {
    fn refused(image: &str, refused: &'a Refused) -> Self {
        let Refused { signer, reason } = refused;
        Self::Refused { verified: false, signer, reason: reason.word(), details: reason, message: say::refused(image, refused) }
    }
}

#[cfg(feature = "aws")]
pub use asking::{Asked, verify_signature};

#[cfg(feature = "aws")]
mod asking {
    use jiff::Timestamp;

    use super::{Format, Outcome, said};
    use crate::aws::signatures::Signatures;
    use crate::cli::check::registry;
    use crate::cli::named::Named;
    use crate::domain::image::{ImageRef, Repository};
    use crate::domain::signature::asked::{BadKmsKey, KmsKey};
    use crate::domain::signature::key::CosignKey;
    use crate::domain::signature::trust::{Kind, MOST_SIGNERS, Root, Rule, Signer, Trust};
    use crate::events::arn::partition_of;

    /// What a person asks, read as far as it can be without a network.
    pub struct Asked {
        repository: Repository,
        image: ImageRef,
        rule: Rule,
        signers: Vec<Known>,
        roots: Vec<Root>,
    }

    enum Known {
        Key(Signer),
        Kms(KmsKey),
        Profile(String),
    }

    impl Asked {
        /// Texts as they were typed; `read` reads a file.
        pub fn read(
            image: &str,
            (keys, kms, profiles, roots): (&[String], &[String], &[String], &[String]),
            any: bool,
            read: impl Fn(&str) -> std::io::Result<String>,
        ) -> Result<Self, String> {
            let named = Named::parse(image)?;
            let Some(name) = named.repository else {
                return Err(format!("`{image}` names no repository, and an image is signed in one: give REPOSITORY@sha256:..."));
            };
            // Another registry can have another image under the same name.
            let (account, region) = registry(image).unwrap_or_default();
            let read = |file: &String| read(file).map_err(|error| format!("cannot read {file}: {error}"));
            let mut signers = Vec::new();
            for file in keys {
                let key = CosignKey::from_pem(&read(file)?).map_err(|error| format!("{file}: {error}"))?;
                signers.push(Known::Key(Signer::cosign(format!("the key {file}"), key)));
            }
            for arn in kms {
                signers.push(Known::Kms(arn.parse().map_err(|error: BadKmsKey| error.to_string())?));
            }
            signers.extend(profiles.iter().cloned().map(Known::Profile));
            let mut known_roots = Vec::new();
            for file in roots {
                known_roots.extend(Root::from_pem(&read(file)?).map_err(|error| format!("{file}: {error}"))?);
            }
            match signers.len() {
                0 => return Err("nobody is named whose signature would count: give --key, --kms or --signer-profile".to_owned()),
                1..=MOST_SIGNERS => {}
                n => return Err(format!("{n} signers are named, and {MOST_SIGNERS} is the most")),
            }
            let repository = Repository { partition: String::new(), region: region.to_owned(), account: account.to_owned(), name };
            Ok(Self { repository, image: named.image, rule: if any { Rule::AnyOf } else { Rule::AllOf }, signers, roots: known_roots })
        }

        /// Where the registry is, when the image says so.
        pub fn region(&self) -> Option<&str> {
            Some(self.repository.region.as_str()).filter(|region| !region.is_empty())
        }
    }

    /// `region`: where we ask, which is where the registry is.
    pub async fn verify_signature(signatures: &Signatures, asked: &Asked, region: &str, format: Format) -> Outcome {
        let failed = |why: &str| Outcome::failed(format!("verify-signature: {why}\n"));
        let mut signers = Vec::new();
        for known in &asked.signers {
            signers.push(match known {
                Known::Key(signer) => signer.clone(),
                Known::Profile(arn) => match Signer::aws_signer(format!("AWS Signer for {arn}"), partition_of(region), std::slice::from_ref(arn), &asked.roots)
                {
                    Ok(signer) => signer,
                    Err(error) => return failed(&format!("--signer-profile {arn}: {error}")),
                },
                Known::Kms(key) => {
                    let name = format!("the KMS key {key}");
                    // What it signed is not known then, which is not the same as not signed.
                    signatures.kms_key(key).await.map_or_else(|why| Signer::unknown(&name, Kind::Cosign, why.text), |key| Signer::cosign(&name, key))
                }
            });
        }
        let asked_for = signers.len();
        let trust = match Trust::new(asked.rule, signers) {
            Ok(trust) => trust,
            Err(error) => return failed(&error.to_string()),
        };
        let name = &asked.repository.name;
        match signatures.of(&asked.repository, &asked.image).await {
            Err(why) => failed(&why.text),
            Ok(None) => failed(&format!("there is no {} in this account and region", asked.image.of(name))),
            Ok(Some(image)) => {
                let verdict = signatures.verify(&trust, &image, Timestamp::now()).await;
                said(name, &image.subject.digest, asked.rule, asked_for, &verdict, format)
            }
        }
    }
}
