//! What names an image: a digest, a tag, a repository. Parsed once at the door; afterwards the type is the proof.

use std::fmt::{self, Write as _};
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// The content address of one image: `sha256:` and 64 lowercase hex digits.
///
/// A tag can be moved after we have looked at it; a digest cannot. Holding an
/// `ImageDigest` means that somebody has already resolved the tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageDigest(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an image digest: expected `sha256:` and 64 lowercase hex digits")]
pub struct BadDigest(String);

impl ImageDigest {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digest of these very bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", sha256_hex(bytes)))
    }
}

impl FromStr for ImageDigest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let hex = text.strip_prefix("sha256:").unwrap_or("");
        let well_formed = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if well_formed { Ok(Self(text.to_owned())) } else { Err(BadDigest(text.to_owned())) }
    }
}

impl TryFrom<String> for ImageDigest {
    type Error = BadDigest;

    fn try_from(text: String) -> Result<Self, BadDigest> {
        text.parse()
    }
}

impl From<ImageDigest> for String {
    fn from(digest: ImageDigest) -> Self {
        digest.0
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which image a deployment names: by a tag that can move, or by a digest that cannot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageRef {
    Tag(String),
    Digest(ImageDigest),
}

impl ImageRef {
    /// The original construct's rule: what starts with `sha256:` is a digest, everything else a tag.
    pub fn parse(text: &str) -> Result<Self, BadDigest> {
        if text.starts_with("sha256:") { text.parse().map(Self::Digest) } else { Ok(Self::Tag(text.to_owned())) }
    }

    /// The image in this repository, as people write it.
    pub fn of(&self, repository: &str) -> String {
        match self {
            Self::Tag(tag) => format!("{repository}:{tag}"),
            Self::Digest(digest) => format!("{repository}@{digest}"),
        }
    }
}

impl TryFrom<String> for ImageRef {
    type Error = BadDigest;

    fn try_from(text: String) -> Result<Self, BadDigest> {
        Self::parse(&text)
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> Self {
        image.to_string()
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// One ECR repository, wherever it is: `arn:PARTITION:ecr:REGION:ACCOUNT:repository/NAME`.
///
/// What is true of an image is true in one repository (scanning mode, suppression and deletion differ), so this, not the
/// name alone, stands beside every digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository {
    pub partition: String,
    pub region: String,
    pub account: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the ARN of an ECR repository: expected `arn:PARTITION:ecr:REGION:ACCOUNT:repository/NAME`")]
pub struct BadRepository(String);

impl Repository {
    pub fn arn(&self) -> String {
        format!("arn:{}:ecr:{}:{}:repository/{}", self.partition, self.region, self.account, self.name)
    }

    /// The name under which Inspector knows one image of this repository.
    pub fn image_arn(&self, digest: &ImageDigest) -> String {
        format!("{}/{digest}", self.arn())
    }

    /// The address from which the image is pulled, without tag or digest.
    pub fn uri(&self) -> String {
        let suffix = if self.partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("{}.dkr.ecr.{}.{suffix}/{}", self.account, self.region, self.name)
    }

    /// The repository in the same account and region with another name.
    pub fn named(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
    }

    /// Takes an image's ARN apart: the repository's ARN, a slash, the digest.
    pub fn and_digest(image_arn: &str) -> Option<(Self, ImageDigest)> {
        let (repository, digest) = image_arn.rsplit_once('/')?;
        Some((repository.parse().ok()?, digest.parse().ok()?))
    }
}

impl FromStr for Repository {
    type Err = BadRepository;

    fn from_str(text: &str) -> Result<Self, BadRepository> {
        let bad = || BadRepository(text.to_owned());
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().filter(|part| !part.is_empty()).ok_or_else(bad);
        let (arn, partition, service, region, account, resource) = (next()?, next()?, next()?, next()?, next()?, next()?);
        let name = resource.strip_prefix("repository/").filter(|name| !name.is_empty() && !name.contains(':')).ok_or_else(bad)?;
        let account_ok = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        if arn != "arn" || service != "ecr" || !account_ok {
            return Err(bad());
        }
        Ok(Self { partition: partition.into(), region: region.into(), account: account.into(), name: name.into() })
    }
}

impl TryFrom<String> for Repository {
    type Error = BadRepository;

    fn try_from(text: String) -> Result<Self, BadRepository> {
        text.parse()
    }
}

impl From<Repository> for String {
    fn from(repository: Repository) -> Self {
        repository.arn()
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// SHA-256, in lowercase hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut writer = Sha256Writer::default();
    writer.0.update(bytes);
    writer.hex()
}

/// Hashes what is written into it, so that a large text need not exist to be hashed.
#[derive(Default)]
pub struct Sha256Writer(sha2::Sha256);

impl Sha256Writer {
    pub fn hex(self) -> String {
        self.0.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

impl io::Write for Sha256Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sha256_and_64_lowercase_hex_digits() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(good.parse::<ImageDigest>().unwrap().to_string(), good);
        for bad in ["", "sha256:", "latest", &good[..70], &format!("{good}0"), &good.to_uppercase(), &good.replace("0a", "0g")] {
            assert!(bad.parse::<ImageDigest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_image_named_by_something_like_a_digest_is_no_tag() {
        assert_eq!(ImageRef::parse("1.4.2"), Ok(ImageRef::Tag("1.4.2".into())));
        assert!(ImageRef::parse("sha256:short").is_err());
    }

    #[test]
    fn a_repository_is_known_by_its_whole_arn() {
        let arn = "arn:aws-cn:ecr:cn-north-1:123456789012:repository/team/web-app";
        let repository: Repository = arn.parse().unwrap();
        assert_eq!((repository.arn().as_str(), repository.name.as_str()), (arn, "team/web-app"));
        assert_eq!(repository.uri(), "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/team/web-app");
        for bad in [
            "",
            "team/web-app",
            "arn:aws:ecr:eu-west-1:1:repository/x",
            "arn:aws:s3:eu-west-1:123456789012:repository/x",
            "arn:aws:ecr:eu-west-1:123456789012:repository/",
        ] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_image_arn_is_a_repository_and_a_digest() {
        let repository: Repository = "arn:aws:ecr:eu-west-1:123456789012:repository/team/web-app".parse().unwrap();
        let digest = ImageDigest::of(b"x");
        assert_eq!(Repository::and_digest(&repository.image_arn(&digest)), Some((repository, digest)));
        assert_eq!(Repository::and_digest("arn:aws:ec2:eu-west-1:123456789012:instance/i-1"), None);
    }
}
