//! How a deployment stands with its signatures: what is said of the digest in the template and, where that is an index without a
//! signature of its own, of each of its images that count.
//!
//! A signature of an index pins its images by content. Images that are all signed are as good, whatever index holds them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::verdict::{Reason, Verdict};
use crate::domain::head::{Child, Counted};
use crate::domain::image::ImageDigest;

/// What was found of one digest, or why nobody could look.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    Verdict(Verdict),
    /// Whether it is for good: AWS has refused, and will again.
    CouldNotLook {
        why: String,
        is_for_good: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Nothing can be said before somebody has looked at this one.
    Look(ImageDigest),
    Verified,
    Refused(Refusal),
}

/// Why the images do not count as signed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Refusal {
    /// The image that it is about: without a platform, the one that is deployed.
    pub image: Child,
    pub verdict: Verdict,
    /// It is known that nobody has signed it as asked; else it may be signed, and could not be checked.
    pub is_forgivable: bool,
    /// Neither waiting nor another look helps.
    pub is_for_good: bool,
}

impl Found {
    pub fn is_verified(&self) -> bool {
        matches!(self, Self::Verdict(verdict) if verdict.is_verified())
    }

    /// Known not to be signed as asked.
    fn is_known_bad(&self) -> bool {
        matches!(self, Self::Verdict(verdict) if !verdict.is_verified() && verdict.is_forgivable())
    }

    fn refusal(&self, image: Child) -> Refusal {
        let (verdict, is_for_good) = match self {
            Self::Verdict(verdict) => (verdict.clone(), false),
            Self::CouldNotLook { why, is_for_good } => (Verdict::nobody_could_look(why), *is_for_good),
        };
        Refusal { image, is_forgivable: self.is_known_bad(), verdict, is_for_good }
    }
}

/// `found`: what is known so far, digest by digest.
pub fn stand(images: &Counted, found: &BTreeMap<ImageDigest, Found>) -> Standing {
    let root = Child { digest: images.digest.clone(), platform: String::new() };
    let of_root = match found.get(&root.digest) {
        None => return Standing::Look(root.digest),
        Some(found) if found.is_verified() => return Standing::Verified,
        Some(found) => found,
    };
    if !images.is_index() {
        return Standing::Refused(of_root.refusal(root));
    }
    let (mut a_good_one, mut unknown) = (false, None);
    for image in &images.images {
        match found.get(&image.digest) {
            None => return Standing::Look(image.digest.clone()),
            Some(found) if found.is_verified() => a_good_one = true,
            // One image without a signature, and they are not all signed. Where others are, that one is what a person looks for;
            // else it is the index.
            Some(found) if found.is_known_bad() && a_good_one && of_root.is_known_bad() => return Standing::Refused(found.refusal(image.clone())),
            Some(found) if found.is_known_bad() => return Standing::Refused(of_root.refusal(root)),
            Some(found) => unknown = unknown.or(Some(found.refusal(image.clone()))),
        }
    }
    unknown.map_or(Standing::Verified, Standing::Refused)
}

/// What a decision rests on as far as signatures go, for records and logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signed {
    pub verified: bool,
    /// `COSIGN` or `NOTATION`; of several signers `ALL_OF` or `ANY_OF`.
    pub kind: String,
    /// What was looked at: the image that is deployed, or each one of an index; where it is refused, the one that it is refused for.
    pub images: Vec<SignedImage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SignedImage {
    pub digest: ImageDigest,
    pub verdict: Verdict,
}

impl Signed {
    pub fn verified(kind: &str, images: &Counted, found: &BTreeMap<ImageDigest, Found>) -> Self {
        let verdict = |digest: &ImageDigest| match found.get(digest) {
            Some(Found::Verdict(verdict @ Verdict::Verified(_))) => Some(SignedImage { digest: digest.clone(), verdict: verdict.clone() }),
            _ => None,
        };
        let root = verdict(&images.digest);
        let images = root.map_or_else(|| images.images.iter().filter_map(|image| verdict(&image.digest)).collect(), |root| vec![root]);
        Self { verified: true, kind: kind.to_owned(), images }
    }

    pub fn refused(kind: &str, refusal: &Refusal) -> Self {
        Self { verified: false, kind: kind.to_owned(), images: vec![SignedImage { digest: refusal.image.digest.clone(), verdict: refusal.verdict.clone() }] }
    }
}

impl Refusal {
    /// What a log and a record call it.
    pub fn word(&self) -> &'static str {
        self.verdict.reason().map_or("unsigned", Reason::word)
    }
}
