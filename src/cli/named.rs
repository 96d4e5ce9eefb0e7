//! An image as a person names it on the command line.

use crate::domain::image::{ImageDigest, ImageRef};

/// What a person named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub repository: Option<String>,
    pub image: ImageRef,
}

impl Named {
    /// `sha256:...`, `repository@sha256:...` or `repository:tag`, with or without the registry's host before it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("`{text}` is no image: {why}; expected sha256:..., REPOSITORY@sha256:... or REPOSITORY:TAG");
        // A host has a dot and ends at the first slash; a repository's first part has no dot that matters here.
        let short = text.split_once('/').filter(|(host, _)| host.contains(".dkr.ecr")).map_or(text, |(_, rest)| rest);
        if short.starts_with("sha256:") {
            let digest = short.parse::<ImageDigest>().map_err(|error| bad(&error.to_string()))?;
            return Ok(Self { repository: None, image: ImageRef::Digest(digest) });
        }
        let (repository, image) = match (short.split_once('@'), short.rsplit_once(':')) {
            (Some((repository, digest)), _) => {
                (repository, ImageRef::Digest(digest.parse().map_err(|error: crate::domain::image::BadDigest| bad(&error.to_string()))?))
            }
            (None, Some((repository, tag))) if !tag.is_empty() => (repository, ImageRef::Tag(tag.to_owned())),
            _ => return Err(bad("it has neither tag nor digest")),
        };
        // `repository:tag@digest`: the digest says it all.
        let repository = repository.split_once(':').map_or(repository, |(name, _)| name);
        if repository.is_empty() {
            return Err(bad("it has no repository"));
        }
        Ok(Self { repository: Some(repository.to_owned()), image })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_by_digest_or_by_repository_and_tag_or_digest() {
        let digest = ImageDigest::of(b"x");
        let by_digest = |repository: Option<&str>| Named { repository: repository.map(str::to_owned), image: ImageRef::Digest(digest.clone()) };
        let by_tag = Named { repository: Some("team/app".into()), image: ImageRef::Tag("1.4.2".into()) };
        for (text, expected) in [
            (digest.to_string(), by_digest(None)),
            (format!("team/app@{digest}"), by_digest(Some("team/app"))),
            (format!("team/app:1.4.2@{digest}"), by_digest(Some("team/app"))),
            (format!("123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app@{digest}"), by_digest(Some("team/app"))),
            ("team/app:1.4.2".to_owned(), by_tag.clone()),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1.4.2".to_owned(), by_tag),
        ] {
            assert_eq!(Named::parse(&text), Ok(expected), "{text}");
        }
        for bad in ["", "team/app", "team/app@sha256:short", "sha256:short", ":tag", "::tag", "team/app:"] {
            assert!(Named::parse(bad).is_err(), "{bad}");
        }
    }
}
