//! What a manifest says: an image, an index of images, or something else that a registry keeps.

use serde::Deserialize;

use super::image::{BadDigest, ImageDigest};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    Image,
    /// What is in the index, its attestations left out.
    Index(Vec<Entry>),
    /// A signature, an SBOM, a chart: the type that it declares, and what it refers to.
    NotAnImage(String, Option<ImageDigest>),
}

/// One manifest that an index refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub digest: ImageDigest,
    pub media_type: MediaType,
    /// `os/architecture[/variant]`; empty when the index does not say.
    pub platform: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    Image,
    Index,
}

#[derive(Debug, thiserror::Error)]
pub enum BadManifest {
    #[error("the manifest is not one that we can read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("the index names an image badly: {0}")]
    Digest(#[from] BadDigest),
    #[error("the manifest is of the type `{0}`, which is neither an image nor an index")]
    UnknownType(String),
    #[error("the manifest calls itself `{says}`, and the registry calls it `{registry}`")]
    TwoTypes { says: String, registry: String },
    #[error("the manifest is an image and an index at once")]
    Ambiguous,
}

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const IMAGE_CONFIGS: [&str; 2] = ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    subject: Option<serde_json::Value>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    digest: String,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// Reads a manifest. Older OCI documents leave their media type out, so what the registry says of it stands in.
pub fn read(text: &str, registrys_word: Option<&str>) -> Result<Manifest, BadManifest> {
    let document: Document = serde_json::from_str(text)?;
    // What one reader takes for an image and the next one for an index could be scanned as the one and run as the other.
    if document.manifests.is_some() && (document.config.is_some() || document.layers.is_some()) {
        return Err(BadManifest::Ambiguous);
    }
    if let (Some(says), Some(registry)) = (&document.media_type, registrys_word)
        && says != registry
    {
        return Err(BadManifest::TwoTypes { says: says.clone(), registry: registry.to_owned() });
    }
    let media_type = document.media_type.as_deref().or(registrys_word).unwrap_or(if document.manifests.is_some() { OCI_INDEX } else { OCI_MANIFEST });
    match media_type {
        OCI_INDEX | DOCKER_LIST => {
            let entries = document.manifests.unwrap_or_default().iter().filter(|entry| !is_attestation(entry)).map(entry).collect::<Result<_, _>>()?;
            Ok(Manifest::Index(entries))
        }
        OCI_MANIFEST | DOCKER_MANIFEST => {
            let config = document.config.map(|config| config.media_type).unwrap_or_default();
            // Where it says badly what it refers to, it refers to nothing that anybody could look for.
            let subject = document.subject.as_ref().and_then(|subject| subject["digest"].as_str()?.parse().ok());
            match document.artifact_type {
                _ if IMAGE_CONFIGS.contains(&config.as_str()) => Ok(Manifest::Image),
                Some(artifact_type) => Ok(Manifest::NotAnImage(artifact_type, subject)),
                None => Ok(Manifest::NotAnImage(config, subject)),
            }
        }
        other => Err(BadManifest::UnknownType(other.to_owned())),
    }
}

/// What a registry's list, or an event, says of something: whether it may be an image or an index of images. The tag comes first:
/// a signature by tag has the media types of an ordinary image. A type that is not said is for the manifest to tell.
pub fn may_be_an_image(tags: &[String], manifest_type: Option<&str>, artifact_type: Option<&str>) -> bool {
    let manifest_type = manifest_type.map(media_type);
    let is_index = manifest_type.as_deref().is_some_and(|kind| [OCI_INDEX, DOCKER_LIST].contains(&kind));
    let is_known = manifest_type.as_deref().is_none_or(|kind| [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST].contains(&kind));
    let is_about_another = tags.iter().any(|tag| subject_of_tag(tag).is_some() || is_index && digest_in_tag(tag).is_some());
    let is_artifact = artifact_type.is_some_and(|kind| !IMAGE_CONFIGS.contains(&media_type(kind).as_str()));
    is_known && !is_about_another && !is_artifact
}

/// Whether a registry's list says so plainly that something is an image that nobody has to read its manifest.
pub fn is_plainly_an_image(tags: &[String], manifest_type: Option<&str>, artifact_type: Option<&str>) -> bool {
    let is_of = |kind: Option<&str>, known: &[&str]| kind.map(media_type).is_some_and(|kind| known.contains(&kind.as_str()));
    may_be_an_image(tags, manifest_type, artifact_type) && is_of(manifest_type, &[OCI_MANIFEST, DOCKER_MANIFEST]) && is_of(artifact_type, &IMAGE_CONFIGS)
}

/// `sha256-HEX.sig`, `.att`, `.sbom`: how Cosign names what it says about an image.
pub fn subject_of_tag(tag: &str) -> Option<ImageDigest> {
    let (of, kind) = tag.rsplit_once('.')?;
    if matches!(kind, "sig" | "att" | "sbom") { digest_in_tag(of) } else { None }
}

/// `sha256-HEX`: clients that do not trust a registry to list referrers keep an index of them under such a tag.
pub fn digest_in_tag(tag: &str) -> Option<ImageDigest> {
    format!("sha256:{}", tag.strip_prefix("sha256-")?).parse().ok()
}

/// Media types know no case, and may carry parameters.
pub fn media_type(text: &str) -> String {
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// BuildKit puts a build's provenance beside the image as one more manifest of the index. It is left out only when both of
/// its marks are there: the annotation, and a platform that nothing runs on.
fn is_attestation(entry: &Descriptor) -> bool {
    let annotated =
        entry.annotations.as_ref().and_then(|annotations| annotations.get("vnd.docker.reference.type")).is_some_and(|kind| kind == "attestation-manifest");
    let nowhere = entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown" && platform.architecture == "unknown");
    annotated && nowhere
}

fn entry(entry: &Descriptor) -> Result<Entry, BadManifest> {
    let media_type = if [OCI_INDEX, DOCKER_LIST].contains(&entry.media_type.as_str()) { MediaType::Index } else { MediaType::Image };
    let platform = entry.platform.as_ref().map(|platform| {
        let parts = [Some(platform.os.as_str()), Some(platform.architecture.as_str()), platform.variant.as_deref()];
        parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    });
    Ok(Entry { digest: entry.digest.parse()?, media_type, platform: platform.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(seed: &str) -> String {
        ImageDigest::of(seed.as_bytes()).to_string()
    }

    fn index(entries: &str) -> String {
        format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entries}]}}"#)
    }

    #[test]
    fn an_attestation_is_left_out_only_with_both_of_its_marks() {
        let attestation = r#","annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#;
        for (platform, annotations, counted) in [
            (r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#, "", true),
            (r#"{"os":"unknown","architecture":"unknown"}"#, attestation, false),
            (r#"{"os":"unknown","architecture":"unknown"}"#, "", true), // odd, so it has to be scanned
            (r#"{"os":"linux","architecture":"amd64"}"#, attestation, true), // a lie, so it has to be scanned
        ] {
            let text = index(&format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":1,"platform":{platform}{annotations}}}"#, digest("a")));
            let Manifest::Index(entries) = read(&text, None).unwrap() else { panic!("{text} is an index") };
            assert_eq!(!entries.is_empty(), counted, "{platform} {annotations}");
        }
    }

    #[test]
    fn a_platform_is_os_architecture_and_variant() {
        let text = index(&format!(
            r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":1,"platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}}"#,
            digest("a")
        ));
        let Manifest::Index(entries) = read(&text, None).unwrap() else { panic!() };
        assert_eq!(entries[0].platform, "linux/arm64/v8");
    }

    #[test]
    fn what_two_readers_would_take_for_two_things_is_taken_for_neither() {
        let both = index("").replacen('{', r#"{"layers":[],"#, 1);
        assert!(matches!(read(&both, None), Err(BadManifest::Ambiguous)));
        assert!(matches!(read(&index(""), Some(OCI_MANIFEST)), Err(BadManifest::TwoTypes { .. })));
        assert!(read(&index(""), Some(OCI_INDEX)).is_ok());
    }

    #[test]
    fn what_is_not_an_image_says_what_it_is() {
        let with = |config: &str, rest: &str| {
            read(
                &format!(
                    r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"{config}","digest":"{}"}},"layers":[]{rest}}}"#,
                    digest("c")
                ),
                None,
            )
        };
        assert_eq!(with(IMAGE_CONFIGS[0], "").unwrap(), Manifest::Image);
        assert_eq!(
            with("application/vnd.cncf.helm.config.v1+json", "").unwrap(),
            Manifest::NotAnImage("application/vnd.cncf.helm.config.v1+json".into(), None)
        );
        let artifact = |more: &str| with("application/vnd.oci.empty.v1+json", &format!(r#","artifactType":"application/x"{more}"#)).unwrap();
        assert_eq!(artifact(""), Manifest::NotAnImage("application/x".into(), None));
        let subject = ImageDigest::of(b"app");
        assert_eq!(artifact(&format!(r#","subject":{{"digest":"{subject}"}}"#)), Manifest::NotAnImage("application/x".into(), Some(subject)));
        for odd in [r#","subject":null"#, r#","subject":"x""#, r#","subject":{"digest":"sha256:1"}"#] {
            assert_eq!(artifact(odd), Manifest::NotAnImage("application/x".into(), None), "{odd}");
        }
    }

    #[test]
    fn a_document_without_a_media_type_is_what_the_registry_says() {
        let bare = format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{DOCKER_LIST}","digest":"{}"}}]}}"#, digest("a"));
        for word in [Some(OCI_INDEX), None] {
            let Manifest::Index(entries) = read(&bare, word).unwrap() else { panic!() };
            assert_eq!(entries[0].media_type, MediaType::Index);
        }
        assert!(matches!(read(&bare, Some("application/vnd.docker.distribution.manifest.v1+json")), Err(BadManifest::UnknownType(_))));
        assert!(matches!(read(&index(r#"{"digest":"sha256:short"}"#), None), Err(BadManifest::Digest(_))));
        assert!(read("[]", None).is_err());
    }
}
