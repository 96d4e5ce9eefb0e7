//! What a template says about one gate: the properties of `Custom::EcrScanVerifier`, typed. CloudFormation sends text for
//! everything; it is unpacked here and nowhere else.
//!
//! A property that this version does not know is refused by name: it might ask for something stricter, and a gate that
//! passes over what it does not understand fails open.

use serde_json::{Map, Value};

use crate::domain::image::{ImageDigest, ImageRef, Repository, sha256_hex};
use crate::domain::outputs::{Layout, LogsTo, Outputs, SbomFormat, SbomTo};
use crate::domain::policy::{BEYOND_SEVERITY, BadPolicy, Policy};
use crate::domain::request::{AskedScan, OnBlock, OnUnscanned};
use crate::domain::signature::asked::{Asked, AskedSigner, OnUnsigned};
use crate::domain::signature::key::CosignKey;
use crate::domain::signature::trust::{Root, Rule};
use crate::events::Glance;
use crate::events::members::{kind_of, shown};

/// What `imageTag` means when it is left out.
pub const DEFAULT_TAG: &str = "latest";

const DEFAULT_POLLING_TIMEOUT_S: u32 = 840;
const LONGEST_POLLING_TIMEOUT_S: u32 = 3480;

/// Each costs calls while a deployment waits.
const MOST_SIGNERS: usize = 10;
const SCAN_AGES_S: std::ops::RangeInclusive<u32> = 3600..=365 * 24 * 3600;

/// The severities that a list may name; a threshold takes the first five.
const SEVERITIES: [&str; 7] = ["INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL", "UNDEFINED", "UNTRIAGED"];
const RATED: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateProperties {
    pub repository_name: String,
    /// Where the repository is, when that was known at synth. It can be another account or region; the caller refuses those.
    pub repository: Option<Repository>,
    pub image: ImageRef,
    /// The digest behind the tag, when that was known at synth: ECR is asked for both together.
    pub image_digest: Option<ImageDigest>,
    pub scan: AskedScan,
    pub signatures: Option<Asked>,
    pub policy: Policy,
    pub platforms: Vec<String>,
    pub max_scan_age_s: Option<u32>,
    pub on_unscanned: OnUnscanned,
    pub on_block: OnBlock,
    pub suppress_error_on_rollback: bool,
    pub polling_timeout_s: u32,
    pub outputs: Option<Outputs>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProperties {
    /// The original construct's text; it needed both.
    #[error("addr and repositoryName are required. Set `repositoryName`, or use the construct, which does; `addr` may be left out.")]
    NoRepository,
    #[error("this version of ecr-scan-verifier does not know {}; update the pipeline (or remove {})", named(.0), if .0.len() == 1 { "the property" } else { "the properties" })]
    Unknown(Vec<String>),
    /// The original construct's text.
    #[error("ScanConfig.signatureOnly() requires signatureVerification to be specified. Give `signatureVerification`, or another `scanType`.")]
    SignatureOnlyOfNobody,
    #[error("pollingTimeout must be between 1 and {LONGEST_POLLING_TIMEOUT_S} seconds, got {0}. Change `pollingTimeoutSeconds`.")]
    PollingTimeout(String),
    #[error("the property `{property}` {reason}; {way_out}")]
    Bad { property: String, reason: String, way_out: String },
}

fn named(properties: &[String]) -> String {
    let quoted: Vec<String> = properties.iter().map(|property| format!("`{}`", shown(property))).collect();
    match quoted.split_last() {
        Some((last, [])) => format!("the property {last}"),
        Some((last, rest)) => format!("the properties {} and {last}", rest.join(", ")),
        None => "a property".to_owned(),
    }
}

fn bad(property: &str, reason: impl Into<String>, way_out: impl Into<String>) -> BadProperties {
    BadProperties::Bad { property: property.to_owned(), reason: reason.into(), way_out: way_out.into() }
}

impl BadProperties {
    /// The same of a member of that property.
    fn inside(self, place: &str) -> Self {
        match self {
            Self::Bad { property, reason, way_out } => Self::Bad { property: format!("{place}.{property}"), reason, way_out },
            other => other,
        }
    }
}

impl GateProperties {
    pub fn parse(properties: &Map<String, Value>) -> Result<Self, BadProperties> {
        let given = Given(properties);
        // Without `addr`, which names the resource of the construct, it is named by its place.
        let Ok(Some(repository_name)) = given.text("repositoryName") else { return Err(BadProperties::NoRepository) };
        given.refuse_unknown()?;
        if !is_repository_name(repository_name) {
            let reason = format!("is `{}`, no name of an ECR repository", shown(repository_name));
            return Err(bad("repositoryName", reason, "give 2 to 256 lowercase letters, digits, `.`, `_`, `-` and `/`"));
        }
        let image = given.image()?;
        let image_digest = given.digest("imageDigest")?;
        if let (ImageRef::Digest(named), Some(known)) = (&image, &image_digest)
            && named != known
        {
            return Err(bad("imageDigest", "is another digest than `imageTag` names", "give one of them, or the same in both"));
        }
        let (scan, signatures) = (given.scan()?, given.signatures()?);
        if scan == AskedScan::SignatureOnly && signatures.is_none() {
            return Err(BadProperties::SignatureOnlyOfNobody);
        }
        Ok(Self {
            repository: given.repository(repository_name)?,
            repository_name: repository_name.to_owned(),
            image,
            image_digest,
            scan,
            signatures,
            policy: given.policy()?,
            platforms: given.platforms()?,
            max_scan_age_s: given.max_scan_age_s()?,
            on_unscanned: given.on_unscanned()?,
            on_block: if given.flag("failOnVulnerability")?.unwrap_or(true) { OnBlock::Fail } else { OnBlock::Warn },
            suppress_error_on_rollback: given.flag("suppressErrorOnRollback")?.unwrap_or(true),
            polling_timeout_s: given.polling_timeout_s()?,
            outputs: given.outputs()?,
        })
    }
}

/// One property as it stands there, when it is text at all.
pub fn text<'a>(properties: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    properties.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Which image they name, for a person to see; nothing here fails, and nothing may be decided by it.
pub fn glance(properties: &Map<String, Value>) -> Glance {
    let repository = text(properties, "repositoryName").map(str::to_owned);
    let image = text(properties, "imageTag").map(ImageRef::parse);
    let by_synth: Option<ImageDigest> = text(properties, "imageDigest").and_then(|digest| digest.parse().ok());
    let (digest, tag) = match image {
        Some(Ok(ImageRef::Digest(digest))) => (Some(digest), None),
        Some(Ok(ImageRef::Tag(tag))) => (by_synth, Some(tag)),
        Some(Err(_)) => (by_synth, None),
        None => (by_synth, repository.as_ref().map(|_| DEFAULT_TAG.to_owned())),
    };
    Glance { repository, digest, tags: tag.into_iter().collect(), ..Glance::default() }
}

/// Only such roles let themselves be taken over by on-scan.
const OUTPUTS_ROLES: &str = "role/ecr-scan-verifier/";

/// A prefix as the beginning of keys: empty, or with a `/` at its end.
fn folder(prefix: Option<&str>) -> String {
    match prefix {
        None | Some("") => String::new(),
        Some(prefix) if prefix.ends_with('/') => prefix.to_owned(),
        Some(prefix) => format!("{prefix}/"),
    }
}

/// ECR's own rule for names: parts of letters and digits, with single separators in between. Asking ECR with anything else only
/// gets an error.
fn is_repository_name(name: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (2..=256).contains(&name.len()) && name.split(['/', '.', '_', '-']).all(is_word)
}

/// The same properties, the same hash, in whatever order they come: by it a rollback finds what was answered before.
/// The service token and its timeout say who is asked and for how long, not what.
pub fn properties_hash(properties: &Map<String, Value>) -> String {
    let asked = properties.iter().filter(|(name, _)| !matches!(name.as_str(), "ServiceToken" | "ServiceTimeout"));
    let mut text = String::new();
    write_object(asked.collect(), &mut text);
    sha256_hex(text.as_bytes())
}

/// Sorted by us and not left to the map, whose order is a choice that any crate of the build can make.
fn write_sorted(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => write_object(members.iter().collect(), text),
        Value::Array(list) => {
            text.push('[');
            for (i, value) in list.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write_sorted(value, text);
            }
            text.push(']');
        }
        leaf => text.push_str(&leaf.to_string()),
    }
}

fn write_object(mut members: Vec<(&String, &Value)>, text: &mut String) {
    members.sort_by_key(|(name, _)| *name);
    text.push('{');
    for (i, (name, value)) in members.into_iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push_str(&Value::from(name.as_str()).to_string());
        text.push(':');
        write_sorted(value, text);
    }
    text.push('}');
}

struct Given<'a>(&'a Map<String, Value>);

impl<'a> Given<'a> {
    const KNOWN: [&'static str; 26] = [
        "ServiceToken",
        "ServiceTimeout",
        "addr",
        "repositoryName",
        "repositoryArn",
        "imageTag",
        "imageDigest",
        "scanType",
        "startScan",
        "severity",
        "severityThreshold",
        "failOnVulnerability",
        "ignoreFindings",
        "suppressErrorOnRollback",
        "pollingTimeoutSeconds",
        "platforms",
        "maxScanAgeSeconds",
        "onUnscanned",
        "output",
        "layout",
        "sbom",
        "vulnsTopicArn",
        "outputsRoleArn",
        "strictOutputs",
        "defaultLogGroupName",
        "signatureVerification",
    ];

    fn refuse_unknown(&self) -> Result<(), BadProperties> {
        let mut unknown: Vec<String> =
            self.0.keys().filter(|name| !Self::KNOWN.contains(&name.as_str()) && !BEYOND_SEVERITY.contains(&name.as_str())).cloned().collect();
        unknown.sort();
        if unknown.is_empty() { Ok(()) } else { Err(BadProperties::Unknown(unknown)) }
    }

    fn get(&self, property: &str) -> Option<&'a Value> {
        self.0.get(property).filter(|value| !value.is_null())
    }

    fn text(&self, property: &str) -> Result<Option<&'a str>, BadProperties> {
        match self.get(property) {
            None => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Err(bad(property, "is empty", "leave it out or give it a value")),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(bad(property, format!("is {}", kind_of(other)), "give it as text")),
        }
    }

    fn texts(&self, property: &str) -> Result<Option<Vec<String>>, BadProperties> {
        let list = match self.get(property) {
            None => return Ok(None),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(bad(property, format!("is {}", kind_of(other)), "give a list of texts")),
        };
        let text = |value: &Value| match value.as_str() {
            Some(text) if !text.trim().is_empty() => Ok(text.to_owned()),
            Some(_) => Err(bad(property, "holds an empty text", "take that out")),
            None => Err(bad(property, format!("holds {}", kind_of(value)), "give a list of texts")),
        };
        list.iter().map(text).collect::<Result<_, _>>().map(Some)
    }

    fn flag(&self, property: &str) -> Result<Option<bool>, BadProperties> {
        match self.get(property) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(Value::String(text)) => Err(bad(property, format!("is `{}`", shown(text)), "give true or false")),
            Some(other) => Err(bad(property, format!("is {}", kind_of(other)), "give true or false")),
        }
    }

    fn polling_timeout_s(&self) -> Result<u32, BadProperties> {
        let text = match self.get("pollingTimeoutSeconds") {
            None => return Ok(DEFAULT_POLLING_TIMEOUT_S),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(other) => return Err(BadProperties::PollingTimeout(kind_of(other).to_owned())),
        };
        let seconds = if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None };
        seconds.filter(|seconds| (1..=LONGEST_POLLING_TIMEOUT_S).contains(seconds)).ok_or_else(|| BadProperties::PollingTimeout(shown(&text)))
    }

    fn digest(&self, property: &str) -> Result<Option<ImageDigest>, BadProperties> {
        let parse = |text: &str| text.parse().map_err(|_| no_digest(property, text));
        self.text(property)?.map(parse).transpose()
    }

    fn image(&self) -> Result<ImageRef, BadProperties> {
        let text = self.text("imageTag")?.unwrap_or(DEFAULT_TAG);
        ImageRef::parse(text).map_err(|_| no_digest("imageTag", text))
    }

    fn repository(&self, name: &str) -> Result<Option<Repository>, BadProperties> {
        let Some(arn) = self.text("repositoryArn")? else { return Ok(None) };
        match arn.parse::<Repository>() {
            Ok(repository) if repository.name == name => Ok(Some(repository)),
            Ok(_) => Err(bad("repositoryArn", "names another repository than `repositoryName`", "give both for the same repository")),
            Err(_) => Err(bad("repositoryArn", format!("is `{}`, no ARN of an ECR repository", shown(arn)), "correct it or leave it out")),
        }
    }

    /// Without `scanType` nothing is demanded of the registry: whichever scanner it uses is the one that counts.
    fn scan(&self) -> Result<AskedScan, BadProperties> {
        let start_scan = self.flag("startScan")?.unwrap_or(false);
        match self.text("scanType")? {
            None | Some("BASIC") => Ok(AskedScan::Basic { start_scan }),
            Some("ENHANCED") if start_scan => Err(bad("startScan", "is true, but enhanced scanning starts by itself", "set it to false or use a basic scan")),
            Some("ENHANCED") => Ok(AskedScan::Enhanced),
            Some("SIGNATURE_ONLY") if start_scan => Err(bad("startScan", "is true, and no scan counts here", "set it to false or use a basic scan")),
            Some("SIGNATURE_ONLY") => Ok(AskedScan::SignatureOnly),
            Some(other) => Err(bad(
                "scanType",
                format!("is `{}`, which this version of ecr-scan-verifier does not know", shown(other)),
                "give BASIC, ENHANCED or SIGNATURE_ONLY",
            )),
        }
    }

    /// Whose signature is asked for, and what becomes of an image without one.
    fn signatures(&self) -> Result<Option<Asked>, BadProperties> {
        let property = "signatureVerification";
        let Some(members) = self.object(property, &["type", "trustedIdentities", "trustedRoots", "publicKey", "kmsKeyArn", "signers", "failOnUnsigned"])?
        else {
            return Ok(None);
        };
        let place = |member: &str| format!("{property}.{member}");
        let on_unsigned = match members.flag("failOnUnsigned").map_err(|error| error.inside(property))? {
            Some(false) => OnUnsigned::Warn,
            None | Some(true) => OnUnsigned::Fail,
        };
        let rule = match members.text("type").map_err(|error| error.inside(property))? {
            Some("ALL_OF") => Rule::AllOf,
            Some("ANY_OF") => Rule::AnyOf,
            _ => {
                members.refuse_members(property, &["signers"], "belongs to `ALL_OF` and `ANY_OF`")?;
                return Ok(Some(Asked { rule: Rule::AllOf, signers: vec![members.signer(property)?], on_unsigned }));
            }
        };
        members.refuse_members(property, &["trustedIdentities", "trustedRoots", "publicKey", "kmsKeyArn"], "belongs into one of the `signers`")?;
        let listed = match members.get("signers") {
            Some(Value::Array(listed)) if !listed.is_empty() && listed.len() <= MOST_SIGNERS => listed,
            Some(Value::Array(listed)) => {
                return Err(bad(&place("signers"), format!("has {} entries", listed.len()), format!("name 1 to {MOST_SIGNERS} signers")));
            }
            _ => return Err(bad(&place("signers"), "is no list", format!("name 1 to {MOST_SIGNERS} signers"))),
        };
        let signer = |(n, value): (usize, &'a Value)| {
            let place = place(&format!("signers[{n}]"));
            let Value::Object(members) = value else { return Err(bad(&place, format!("is {}", kind_of(value)), "give an object")) };
            match members.keys().find(|member| !["type", "trustedIdentities", "trustedRoots", "publicKey", "kmsKeyArn"].contains(&member.as_str())) {
                Some(odd) => Err(bad(&format!("{place}.{}", shown(odd)), "is not known here", "take it out")),
                None => Given(members).signer(&place),
            }
        };
        let signers = listed.iter().enumerate().map(signer).collect::<Result<_, _>>()?;
        Ok(Some(Asked { rule, signers, on_unsigned }))
    }

    /// One signer, in the original construct's members.
    fn signer(&self, place: &str) -> Result<AskedSigner, BadProperties> {
        let at = |member: &str| format!("{place}.{member}");
        let inside = |error: BadProperties| error.inside(place);
        match self.text("type").map_err(inside)? {
            Some("NOTATION") => {
                self.refuse_members(place, &["publicKey", "kmsKeyArn"], "belongs to `COSIGN`")?;
                let identities = self.texts("trustedIdentities").map_err(inside)?.unwrap_or_default();
                if identities.is_empty() {
                    return Err(bad(&at("trustedIdentities"), "names nobody", "name the ARN of a signing profile"));
                }
                let pems = self.texts("trustedRoots").map_err(inside)?;
                if pems.as_ref().is_some_and(Vec::is_empty) {
                    return Err(bad(&at("trustedRoots"), "is an empty list, by which no signature would count", "leave it out, or give a certificate"));
                }
                let root = |pem: &String| Root::from_pem(pem).map_err(|error| bad(&at("trustedRoots"), format!("cannot be used: {error}"), "correct it"));
                let roots = pems.iter().flatten().map(root).collect::<Result<Vec<_>, _>>()?.concat();
                Ok(AskedSigner::Profiles { identities, roots })
            }
            Some("COSIGN") => {
                self.refuse_members(place, &["trustedIdentities", "trustedRoots"], "belongs to `NOTATION`")?;
                match (self.text("publicKey").map_err(inside)?, self.text("kmsKeyArn").map_err(inside)?) {
                    (Some(pem), None) => match CosignKey::all_from_pem(pem) {
                        Ok(_) => Ok(AskedSigner::PublicKey(pem.to_owned())),
                        Err(error) => Err(bad(&at("publicKey"), format!("cannot be used: {error}"), "give the text of cosign.pub")),
                    },
                    (None, Some(arn)) => match arn.parse() {
                        Ok(key) => Ok(AskedSigner::Kms(key)),
                        Err(_) => Err(bad(&at("kmsKeyArn"), format!("is `{}`, no ARN of a KMS key", shown(arn)), "give the ARN of the key, or of an alias")),
                    },
                    (Some(_), Some(_)) => Err(bad(place, "has `publicKey` and `kmsKeyArn`", "give one of them")),
                    // The original construct's text.
                    (None, None) => Err(bad(place, "names no key (Cosign verification requires either publicKey or kmsKeyArn)", "give one of them")),
                }
            }
            other => {
                let reason = format!("is `{}` (Unknown signature verification type)", shown(other.unwrap_or_default()));
                Err(bad(&at("type"), reason, "give NOTATION, COSIGN, ALL_OF or ANY_OF"))
            }
        }
    }

    /// A member that means nothing where it stands was meant to ask for something.
    fn refuse_members(&self, place: &str, members: &[&str], reason: &str) -> Result<(), BadProperties> {
        match members.iter().find(|member| self.get(member).is_some()) {
            Some(odd) => Err(bad(&format!("{place}.{odd}"), reason, "take it out")),
            None => Ok(()),
        }
    }

    fn policy(&self) -> Result<Policy, BadProperties> {
        let policy = self.by_severity()?;
        policy.with(|member| self.get(member)).map_err(|error| match error {
            BadPolicy::Member { member, reason } => bad(&member, reason, "correct it or take it out"),
            BadPolicy::NotTexts(member) => bad(member, "is no list of texts", "correct it or take it out"),
            other => bad("severity", other.to_string(), "correct it"),
        })
    }

    fn platforms(&self) -> Result<Vec<String>, BadProperties> {
        let platforms = self.texts("platforms")?.unwrap_or_default();
        let is_part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'));
        let is_platform = |text: &String| (2..=3).contains(&text.split('/').count()) && text.split('/').all(is_part);
        match platforms.iter().find(|platform| !is_platform(platform)) {
            Some(odd) => Err(bad("platforms", format!("names `{}`, no platform", shown(odd)), "give os/architecture or os/architecture/variant")),
            None if platforms.is_empty() && self.get("platforms").is_some() => {
                Err(bad("platforms", "is an empty list, by which no image would count", "leave it out or name one"))
            }
            None => Ok(platforms),
        }
    }

    fn max_scan_age_s(&self) -> Result<Option<u32>, BadProperties> {
        let text = match self.get("maxScanAgeSeconds") {
            None => return Ok(None),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(other) => return Err(bad("maxScanAgeSeconds", format!("is {}", kind_of(other)), "give seconds")),
        };
        let seconds = if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None };
        let seconds = seconds.filter(|seconds| SCAN_AGES_S.contains(seconds));
        seconds.map(Some).ok_or_else(|| bad("maxScanAgeSeconds", format!("is `{}`", shown(&text)), "give an hour at least and a year at most, in seconds"))
    }

    /// What is to be written, and the role that may write it: the functions' own roles may not.
    fn outputs(&self) -> Result<Option<Outputs>, BadProperties> {
        let outputs = Outputs {
            role_arn: self.text("outputsRoleArn")?.unwrap_or_default().to_owned(),
            logs: self.logs()?,
            layout: match self.text("layout")? {
                None | Some("TAG") => Layout::Tag,
                Some("DIGEST") => Layout::Digest,
                Some(other) => return Err(bad("layout", format!("is `{}`", shown(other)), "give TAG or DIGEST")),
            },
            function_logs: self.text("defaultLogGroupName")?.map(str::to_owned),
            sbom: self.sbom()?,
            topic_arn: self.text("vulnsTopicArn")?.map(str::to_owned),
            strict: self.flag("strictOutputs")?.unwrap_or(false),
        };
        if outputs.logs.is_none() && outputs.sbom.is_none() && outputs.topic_arn.is_none() {
            return Ok(None);
        }
        let role = outputs.role_arn.splitn(6, ':').nth(5).unwrap_or_default();
        match role.strip_prefix(OUTPUTS_ROLES).is_some_and(|name| !name.is_empty()) {
            true => Ok(Some(outputs)),
            false => Err(bad(
                "outputsRoleArn",
                "names no role under the path `/ecr-scan-verifier/`",
                "give the role that may write the outputs; the construct makes one",
            )),
        }
    }

    fn logs(&self) -> Result<Option<LogsTo>, BadProperties> {
        let Some(members) = self.object("output", &["type", "logGroupName", "bucketName", "prefix"])? else { return Ok(None) };
        let needed = |member: &str| members.text(member)?.map(str::to_owned).ok_or_else(|| bad(&format!("output.{member}"), "is missing", "name it"));
        match members.text("type")? {
            Some("cloudWatchLogs") => Ok(Some(LogsTo::CloudWatch { group: needed("logGroupName")? })),
            Some("s3") => Ok(Some(LogsTo::S3 { bucket: needed("bucketName")?, prefix: folder(members.text("prefix")?) })),
            other => Err(bad("output.type", format!("is `{}`", shown(other.unwrap_or_default())), "give cloudWatchLogs or s3")),
        }
    }

    fn sbom(&self) -> Result<Option<SbomTo>, BadProperties> {
        let Some(members) = self.object("sbom", &["format", "bucketName", "prefix", "kmsKeyArn"])? else { return Ok(None) };
        let needed = |member: &str| members.text(member)?.map(str::to_owned).ok_or_else(|| bad(&format!("sbom.{member}"), "is missing", "name it"));
        let format = needed("format")?;
        Ok(Some(SbomTo {
            format: SbomFormat::parse(&format).ok_or_else(|| bad("sbom.format", format!("is `{}`", shown(&format)), "give CYCLONEDX_1_4 or SPDX_2_3"))?,
            bucket: needed("bucketName")?,
            prefix: folder(members.text("prefix")?),
            key_arn: needed("kmsKeyArn")?,
        }))
    }

    fn object(&self, property: &str, known: &[&str]) -> Result<Option<Given<'a>>, BadProperties> {
        let members = match self.get(property) {
            None => return Ok(None),
            Some(Value::Object(members)) => members,
            Some(other) => return Err(bad(property, format!("is {}", kind_of(other)), "give an object")),
        };
        match members.keys().find(|member| !known.contains(&member.as_str())) {
            Some(odd) => Err(bad(&format!("{property}.{}", shown(odd)), "is not known to this version", "take it out")),
            None => Ok(Some(Given(members))),
        }
    }

    fn on_unscanned(&self) -> Result<OnUnscanned, BadProperties> {
        match self.text("onUnscanned")? {
            None | Some("block") => Ok(OnUnscanned::Block),
            Some("warn") => Ok(OnUnscanned::Warn),
            Some("allow") => Ok(OnUnscanned::Allow),
            Some(other) => Err(bad("onUnscanned", format!("is `{}`", shown(other)), "give block, warn or allow")),
        }
    }

    /// The severities and `ignoreFindings`.
    fn by_severity(&self) -> Result<Policy, BadProperties> {
        let ignored = self.texts("ignoreFindings")?.unwrap_or_default();
        let known = |property, word: &str, words: &[&str]| {
            if words.contains(&word) {
                Ok(())
            } else {
                Err(bad(property, format!("names `{}`, no severity", shown(word)), format!("use {}", words.join(", "))))
            }
        };
        let policy = match (self.texts("severity")?, self.text("severityThreshold")?) {
            (Some(_), Some(_)) => return Err(bad("severityThreshold", "stands beside `severity`", "give exactly one of the two")),
            (Some(list), None) if list.is_empty() => {
                return Err(bad("severity", "is an empty list, under which nothing would ever block", "name at least one severity"));
            }
            (Some(list), None) => {
                list.iter().try_for_each(|word| known("severity", word, &SEVERITIES))?;
                Policy::from_words(Some(&list), None, ignored)
            }
            (None, Some(word)) => {
                known("severityThreshold", word, &SEVERITIES[..RATED])?;
                Policy::from_words(None, Some(word), ignored)
            }
            (None, None) => Policy::from_words(None, None, ignored),
        };
        policy.map_err(|error| bad("severity", error.to_string(), "correct it"))
    }
}

fn no_digest(property: &str, text: &str) -> BadProperties {
    bad(property, format!("is `{}`, no image digest", shown(text)), "give `sha256:` and 64 lowercase hex digits")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    /// The least that a template can say, and these besides; `null` takes one away.
    fn with(more: Value) -> Map<String, Value> {
        let mut properties = map(json!({ "addr": "c8", "repositoryName": "team/web-app" }));
        properties.extend(map(more));
        properties.retain(|_, value| !value.is_null());
        properties
    }

    fn parsed(more: Value) -> GateProperties {
        GateProperties::parse(&with(more)).unwrap()
    }

    fn refused(more: Value) -> String {
        GateProperties::parse(&with(more)).unwrap_err().to_string()
    }

    #[test]
    fn a_repository_is_named_as_ecr_names_them() {
        for name in ["ab", "team/web-app", "a.b_c-d/e0"] {
            assert_eq!(parsed(json!({ "repositoryName": name })).repository_name, name);
        }
        for name in ["a", "Team/app", "team//app", "/app", "app/", "a..b", "-app", "app:1", "app@x", "ä", &"a".repeat(257)] {
            let refusal = refused(json!({ "repositoryName": name }));
            assert!(refusal.contains("no name of an ECR repository"), "{name}: {refusal}");
        }
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        assert_eq!(
            parsed(json!({})),
            GateProperties {
                signatures: None,
                repository_name: "team/web-app".into(),
                repository: None,
                image: ImageRef::Tag("latest".into()),
                image_digest: None,
                scan: AskedScan::Basic { start_scan: false },
                policy: Policy::default(),
                platforms: vec![],
                max_scan_age_s: None,
                on_unscanned: OnUnscanned::Block,
                on_block: OnBlock::Fail,
                suppress_error_on_rollback: true,
                polling_timeout_s: 840,
                outputs: None,
            }
        );
    }

    #[test]
    fn outputs_are_read_whole_and_need_a_role_of_their_own() {
        let role = "arn:aws:iam::123456789012:role/ecr-scan-verifier/payments-outputs";
        let with = |more: Value| {
            let mut given = json!({ "outputsRoleArn": role });
            given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            given
        };
        let all = parsed(with(json!({
            "output": { "type": "s3", "bucketName": "logs", "prefix": "scans" }, "layout": "DIGEST", "vulnsTopicArn": "arn:aws:sns:eu-west-1:123456789012:mine",
            "sbom": { "format": "SPDX_2_3", "bucketName": "sboms", "kmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/1" },
        })));
        let outputs = all.outputs.unwrap();
        assert_eq!(outputs.logs, Some(LogsTo::S3 { bucket: "logs".into(), prefix: "scans/".into() }));
        assert_eq!(outputs.sbom.as_ref().map(|sbom| (sbom.format, sbom.prefix.as_str())), Some((SbomFormat::Spdx23, "")));
        assert_eq!((outputs.layout, outputs.role_arn.as_str()), (Layout::Digest, role));
        let streams = parsed(with(json!({ "output": { "type": "cloudWatchLogs", "logGroupName": "scans" } }))).outputs.unwrap();
        assert_eq!((streams.logs, streams.layout), (Some(LogsTo::CloudWatch { group: "scans".into() }), Layout::Tag));
        assert_eq!(parsed(with(json!({}))).outputs, None, "a role alone writes nothing");
        for (given, says) in [
            (json!({ "vulnsTopicArn": "arn:aws:sns:eu-west-1:123456789012:mine" }), "`outputsRoleArn` names no role under the path"),
            (json!({ "vulnsTopicArn": "t", "outputsRoleArn": "arn:aws:iam::123456789012:role/admin" }), "`outputsRoleArn` names no role under the path"),
            (with(json!({ "output": { "type": "file" } })), "`output.type` is `file`"),
            (with(json!({ "output": { "type": "s3" } })), "`output.bucketName` is missing"),
            (with(json!({ "output": { "type": "s3", "bucketName": "b", "mode": "x" } })), "`output.mode` is not known"),
            (with(json!({ "output": "s3" })), "`output` is text"),
            (with(json!({ "layout": "FLAT" })), "`layout` is `FLAT`"),
            (with(json!({ "sbom": { "format": "CSV", "bucketName": "b", "kmsKeyArn": "k" } })), "`sbom.format` is `CSV`"),
            (with(json!({ "sbom": { "format": "SPDX_2_3", "bucketName": "b" } })), "`sbom.kmsKeyArn` is missing"),
        ] {
            let refusal = refused(given.clone());
            assert!(refusal.contains(says), "{given}: {refusal}");
        }
    }

    #[test]
    fn text_and_json_values_mean_the_same() {
        assert_eq!(
            parsed(json!({ "startScan": "true", "failOnVulnerability": "false", "suppressErrorOnRollback": "false", "pollingTimeoutSeconds": "60" })),
            parsed(json!({ "startScan": true, "failOnVulnerability": false, "suppressErrorOnRollback": false, "pollingTimeoutSeconds": 60 })),
        );
        assert_eq!(parsed(json!({ "failOnVulnerability": "false" })).on_block, OnBlock::Warn);
        assert_eq!(parsed(json!({ "scanType": "BASIC", "startScan": "true" })).scan, AskedScan::Basic { start_scan: true });
        assert_eq!(parsed(json!({ "scanType": "ENHANCED", "startScan": "false" })).scan, AskedScan::Enhanced);
    }

    #[test]
    fn what_starts_like_a_digest_has_to_be_one() {
        let digest = ImageDigest::of(b"x");
        let gate = parsed(json!({ "imageTag": digest, "imageDigest": digest }));
        assert_eq!((gate.image, gate.image_digest), (ImageRef::Digest(digest.clone()), Some(digest.clone())));
        let gate = parsed(json!({ "imageTag": "1.4.2", "imageDigest": digest }));
        assert_eq!((gate.image, gate.image_digest), (ImageRef::Tag("1.4.2".into()), Some(digest.clone())));
        assert!(refused(json!({ "imageTag": "sha256:short" })).starts_with("the property `imageTag` is `sha256:short`, no image digest"));
        assert!(refused(json!({ "imageTag": digest, "imageDigest": ImageDigest::of(b"y") })).contains("`imageDigest` is another digest"));
    }

    #[test]
    fn without_an_image_the_text_is_the_known_one() {
        for more in [
            json!({ "repositoryName": null }),
            json!({ "repositoryName": "" }),
            json!({ "repositoryName": ["team/web-app"] }),
            json!({ "repositoryName": null, "encoding": "flat" }),
        ] {
            assert!(refused(more.clone()).starts_with("addr and repositoryName are required."), "{more}");
        }
        assert_eq!(parsed(json!({ "addr": null })), parsed(json!({})), "written by hand, it has no address");
    }

    #[test]
    fn what_this_version_does_not_know_is_refused_by_name() {
        for (more, text) in [
            (
                json!({ "encoding": "flat" }),
                "this version of ecr-scan-verifier does not know the property `encoding`; update the pipeline (or remove the property)",
            ),
            (
                json!({ "encoding": "flat", "trustedRoots": "x", "Severity": [] }),
                "this version of ecr-scan-verifier does not know the properties `Severity`, `encoding` and `trustedRoots`; update the pipeline (or remove the properties)",
            ),
        ] {
            assert_eq!(refused(more), text);
        }
        for known in ["ServiceToken", "ServiceTimeout", "defaultLogGroupName"] {
            assert_eq!(parsed(json!({ known: "x" })), parsed(json!({})), "{known}");
        }
    }

    const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
    const PROFILE: &str = "arn:aws:signer:eu-west-1:123456789012:/signing-profiles/release";
    const KMS_KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/1234";

    #[test]
    fn signers_are_asked_for_in_the_original_constructs_words() {
        let asked = |verification: Value| parsed(json!({ "signatureVerification": verification })).signatures.expect("it asks for somebody");
        let key = || AskedSigner::PublicKey(KEY.to_owned());
        let kms = || AskedSigner::Kms(KMS_KEY.parse().unwrap());
        let profile = || AskedSigner::Profiles { identities: vec![PROFILE.to_owned()], roots: Vec::new() };
        for (verification, rule, signers, on_unsigned) in [
            (json!({ "type": "COSIGN", "publicKey": KEY, "failOnUnsigned": "true" }), Rule::AllOf, vec![key()], OnUnsigned::Fail),
            (
                json!({ "type": "COSIGN", "publicKey": format!("{KEY}{KEY}") }),
                Rule::AllOf,
                vec![AskedSigner::PublicKey(format!("{KEY}{KEY}"))],
                OnUnsigned::Fail,
            ),
            (json!({ "type": "COSIGN", "kmsKeyArn": KMS_KEY, "failOnUnsigned": "false" }), Rule::AllOf, vec![kms()], OnUnsigned::Warn),
            (json!({ "type": "NOTATION", "trustedIdentities": [PROFILE], "failOnUnsigned": true }), Rule::AllOf, vec![profile()], OnUnsigned::Fail),
            (
                json!({ "type": "ANY_OF", "signers": [{ "type": "COSIGN", "publicKey": KEY }, { "type": "NOTATION", "trustedIdentities": [PROFILE] }] }),
                Rule::AnyOf,
                vec![key(), profile()],
                OnUnsigned::Fail,
            ),
            (
                json!({ "type": "ALL_OF", "signers": [{ "type": "COSIGN", "kmsKeyArn": KMS_KEY }], "failOnUnsigned": "false" }),
                Rule::AllOf,
                vec![kms()],
                OnUnsigned::Warn,
            ),
        ] {
            assert_eq!(asked(verification.clone()), Asked { rule, signers, on_unsigned }, "{verification}");
        }
        assert_eq!(parsed(json!({})).signatures, None);
        let only = parsed(
            json!({ "scanType": "SIGNATURE_ONLY", "startScan": "false", "severity": ["CRITICAL"], "signatureVerification": { "type": "COSIGN", "publicKey": KEY } }),
        );
        assert_eq!((only.scan, only.signatures.is_some()), (AskedScan::SignatureOnly, true));
    }

    #[test]
    fn a_signer_that_cannot_be_meant_is_refused_by_name() {
        let listed = |signer: Value| json!({ "type": "ALL_OF", "signers": [signer] });
        let many: Vec<Value> = (0..11).map(|_| json!({ "type": "COSIGN", "publicKey": KEY })).collect();
        for (verification, says) in [
            (json!("COSIGN"), "`signatureVerification` is text"),
            (json!({}), "`signatureVerification.type` is `` (Unknown signature verification type)"),
            (json!({ "type": "PGP" }), "`signatureVerification.type` is `PGP` (Unknown signature verification type)"),
            (json!({ "type": "COSIGN" }), "Cosign verification requires either publicKey or kmsKeyArn"),
            (json!({ "type": "COSIGN", "publicKey": KEY, "kmsKeyArn": KMS_KEY }), "has `publicKey` and `kmsKeyArn`"),
            (json!({ "type": "COSIGN", "publicKey": "cosign.pub" }), "`signatureVerification.publicKey` cannot be used: it is no PEM"),
            (json!({ "type": "COSIGN", "kmsKeyArn": "alias/x" }), "`signatureVerification.kmsKeyArn` is `alias/x`, no ARN of a KMS key"),
            (json!({ "type": "COSIGN", "publicKey": KEY, "trustedIdentities": [PROFILE] }), "`signatureVerification.trustedIdentities` belongs to `NOTATION`"),
            (json!({ "type": "COSIGN", "publicKey": KEY, "failOnUnsigned": "no" }), "`signatureVerification.failOnUnsigned` is `no`"),
            (json!({ "type": "COSIGN", "publicKey": KEY, "keyless": "true" }), "`signatureVerification.keyless` is not known"),
            (json!({ "type": "COSIGN", "publicKey": KEY, "signers": [] }), "`signatureVerification.signers` belongs to `ALL_OF`"),
            (json!({ "type": "NOTATION" }), "`signatureVerification.trustedIdentities` names nobody"),
            (json!({ "type": "NOTATION", "trustedIdentities": [] }), "`signatureVerification.trustedIdentities` names nobody"),
            (json!({ "type": "NOTATION", "trustedIdentities": [PROFILE], "trustedRoots": [] }), "`signatureVerification.trustedRoots` is an empty list"),
            (json!({ "type": "NOTATION", "trustedIdentities": [PROFILE], "trustedRoots": ["x"] }), "`signatureVerification.trustedRoots` cannot be used"),
            (json!({ "type": "ALL_OF", "signers": [] }), "`signatureVerification.signers` has 0 entries"),
            (json!({ "type": "ANY_OF", "signers": many }), "`signatureVerification.signers` has 11 entries"),
            (json!({ "type": "ANY_OF" }), "`signatureVerification.signers` is no list"),
            (json!({ "type": "ALL_OF", "publicKey": KEY, "signers": [] }), "`signatureVerification.publicKey` belongs into one of the `signers`"),
            (listed(json!("COSIGN")), "`signatureVerification.signers[0]` is text"),
            (listed(json!({ "type": "ALL_OF", "signers": [] })), "`signatureVerification.signers[0].signers` is not known here"),
            // What holds for all of them is said once.
            (
                listed(json!({ "type": "COSIGN", "publicKey": KEY, "failOnUnsigned": "false" })),
                "`signatureVerification.signers[0].failOnUnsigned` is not known here",
            ),
        ] {
            let refused = refused(json!({ "signatureVerification": verification.clone() }));
            assert!(refused.contains(says), "{verification}: {refused}");
        }
        let private = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----";
        let refusal = refused(json!({ "signatureVerification": { "type": "COSIGN", "publicKey": private } }));
        assert!(refusal.contains("it is a private key") && !refusal.contains("c2VjcmV0"), "{refusal}");
        assert!(refused(json!({ "scanType": "SIGNATURE_ONLY" })).starts_with("ScanConfig.signatureOnly() requires signatureVerification to be specified."));
    }

    #[test]
    fn exactly_one_of_severity_and_its_threshold() {
        for (more, rule) in [
            (json!({ "severity": ["HIGH", "UNTRIAGED"] }), r#"v1:{"severity":["HIGH","UNTRIAGED"]}"#),
            (json!({ "severity": ["UNDEFINED"] }), r#"v1:{"severity":["UNDEFINED"]}"#),
            (json!({ "severityThreshold": "LOW", "ignoreFindings": ["CVE-1"] }), r#"v1:{"ignoreFindings":["CVE-1"],"severityThreshold":"LOW"}"#),
        ] {
            assert_eq!(parsed(more.clone()).policy.canonical(), rule, "{more}");
        }
        for (more, text) in [
            (json!({ "severity": ["HIGH"], "severityThreshold": "HIGH" }), "`severityThreshold` stands beside `severity`"),
            (json!({ "severity": [] }), "`severity` is an empty list"),
            (json!({ "severity": [], "severityThreshold": "HIGH" }), "`severityThreshold` stands beside `severity`"),
            (json!({ "severity": "HIGH" }), "`severity` is text; give a list of texts"),
            (json!({ "severity": ["HIGH", "SEVERE"] }), "`severity` names `SEVERE`, no severity"),
            (json!({ "severity": ["high"] }), "`severity` names `high`, no severity"),
            (json!({ "severity": [7] }), "`severity` holds a number"),
            (json!({ "severityThreshold": "UNTRIAGED" }), "`severityThreshold` names `UNTRIAGED`, no severity; use INFORMATIONAL, LOW, MEDIUM, HIGH, CRITICAL"),
            (json!({ "severityThreshold": "" }), "`severityThreshold` is empty"),
            (json!({ "severityThreshold": ["HIGH"] }), "`severityThreshold` is a list"),
        ] {
            let refused = refused(more);
            assert!(refused.starts_with("the property ") && refused.contains(text), "{refused}");
        }
    }

    #[test]
    fn what_is_beyond_severity_is_part_of_the_policy() {
        let gate = parsed(json!({
            "severityThreshold": "HIGH", "graceDays": "14", "ignoreUnfixed": "true", "maxFindings": { "HIGH": "5" }, "blockAlways": ["CVE-9"],
            "exploit": { "exploitAvailable": "true" }, "exemptions": [{ "id": "CVE-1", "reason": "not reachable", "until": "2026-12-31" }],
            "platforms": ["linux/arm64"], "maxScanAgeSeconds": "86400", "onUnscanned": "warn"
        }));
        assert_eq!(
            gate.policy.canonical(),
            r#"v1:{"blockAlways":["CVE-9"],"exemptions":[{"id":"CVE-1","reason":"not reachable","until":"2026-12-31"}],"exploit":{"exploitAvailable":true},"graceDays":14,"ignoreUnfixed":true,"maxFindings":{"HIGH":5},"severityThreshold":"HIGH"}"#
        );
        assert_eq!((gate.platforms, gate.max_scan_age_s, gate.on_unscanned), (vec!["linux/arm64".to_owned()], Some(86400), OnUnscanned::Warn));
    }

    #[test]
    fn a_value_that_is_none_is_refused_with_the_name_of_its_property() {
        for (more, text) in [
            (json!({ "platforms": [] }), "`platforms` is an empty list"),
            (json!({ "platforms": ["arm64"] }), "`platforms` names `arm64`, no platform"),
            (json!({ "platforms": ["Linux/arm64"] }), "`platforms` names `Linux/arm64`"),
            (json!({ "maxScanAgeSeconds": "60" }), "`maxScanAgeSeconds` is `60`"),
            (json!({ "maxScanAgeSeconds": "a day" }), "`maxScanAgeSeconds` is `a day`"),
            (json!({ "onUnscanned": "WARN" }), "`onUnscanned` is `WARN`; give block, warn or allow"),
            (json!({ "graceDays": "0" }), "`graceDays` is not between 1 and 365"),
            (json!({ "blockAlways": "CVE-1" }), "`blockAlways` is no list of texts"),
            (json!({ "exploit": { "epss": "0,1" } }), "`exploit.epss` is not between 0 and 1"),
            (json!({ "exemptions": [{ "id": "CVE-1", "until": "2026-12-31" }] }), "`exemptions[0].reason` is missing"),
            (json!({ "ignoreFindings": ["CVE-1"], "blockAlways": ["CVE-1"] }), "`blockAlways` names `CVE-1`"),
            (json!({ "failOnVulnerability": "yes" }), "`failOnVulnerability` is `yes`; give true or false"),
            (json!({ "failOnVulnerability": "" }), "`failOnVulnerability` is ``; give true or false"),
            (json!({ "suppressErrorOnRollback": 1 }), "`suppressErrorOnRollback` is a number; give true or false"),
            (json!({ "startScan": "True" }), "`startScan` is `True`; give true or false"),
            (json!({ "scanType": "ENHANCED", "startScan": "true" }), "`startScan` is true, but enhanced scanning starts by itself"),
            (json!({ "scanType": "DEEP" }), "`scanType` is `DEEP`"),
            (json!({ "ignoreFindings": "CVE-2026-10001" }), "`ignoreFindings` is text; give a list of texts"),
            (json!({ "ignoreFindings": ["CVE-2026-10001", ""] }), "`ignoreFindings` holds an empty text"),
            (json!({ "imageTag": "" }), "`imageTag` is empty"),
            (json!({ "imageDigest": "1.4.2" }), "`imageDigest` is `1.4.2`, no image digest"),
            (json!({ "repositoryArn": "team/web-app" }), "`repositoryArn` is `team/web-app`, no ARN"),
            (json!({ "repositoryArn": "arn:aws:ecr:eu-west-1:123456789012:repository/other" }), "`repositoryArn` names another repository"),
        ] {
            let refused = refused(more);
            assert!(refused.contains(text), "{refused}");
        }
    }

    #[test]
    fn a_gate_waits_from_one_second_to_58_minutes() {
        for (given, seconds) in [("1", 1), ("3480", 3480), ("0060", 60)] {
            assert_eq!(parsed(json!({ "pollingTimeoutSeconds": given })).polling_timeout_s, seconds);
        }
        for (given, shown) in [
            (json!("0"), "0"),
            (json!("3481"), "3481"),
            (json!(-1), "-1"),
            (json!(1.5), "1.5"),
            (json!("+60"), "+60"),
            (json!(" 60"), " 60"),
            (json!(""), ""),
            (json!("99999999999999999999"), "99999999999999999999"),
            (json!([]), "a list"),
        ] {
            let text = format!("pollingTimeout must be between 1 and 3480 seconds, got {shown}.");
            assert!(refused(json!({ "pollingTimeoutSeconds": given })).starts_with(&text), "{given}");
        }
    }

    #[test]
    fn the_hash_sorts_even_if_the_map_does_not() {
        let (one, two) = (Value::from("1"), json!({ "y": "2", "x": "3" }));
        let (a, b) = ("a".to_owned(), "b".to_owned());
        let mut text = String::new();
        write_object(vec![(&b, &one), (&a, &two)], &mut text);
        assert_eq!(text, r#"{"a":{"x":"3","y":"2"},"b":"1"}"#);
    }

    #[test]
    fn the_hash_is_of_what_is_asked_and_not_of_how_it_is_written() {
        let hash = |value: Value| properties_hash(&map(value));
        let plain = hash(json!({ "a": { "x": "1", "y": ["2", "3"] }, "b": "4" }));
        assert_eq!(plain, sha256_hex(br#"{"a":{"x":"1","y":["2","3"]},"b":"4"}"#));
        assert_eq!(plain, hash(json!({ "b": "4", "ServiceToken": "t", "ServiceTimeout": "960", "a": { "y": ["2", "3"], "x": "1" } })));
        for other in [
            json!({ "a": { "x": "1", "y": ["3", "2"] }, "b": "4" }),
            json!({ "a": { "x": "1", "y": ["2", "3"] }, "b": 4 }),
            json!({ "a": { "x": "1", "y": ["2", "3"], "ServiceToken": "t" }, "b": "4" }),
            json!({ "a": { "x": "1", "y": ["2", "3"] }, "b\":\"4": "" }),
        ] {
            assert_ne!(plain, hash(other.clone()), "{other}");
        }
    }
}
