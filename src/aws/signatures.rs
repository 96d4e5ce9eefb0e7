//! What signs an image: its signatures out of ECR, keys out of KMS, and AWS Signer's word on revocation.
//!
//! It finds and fetches; what any of it is worth, `domain::signature` says. Nothing that arrives is believed: every manifest and
//! blob is compared with its digest, is small, and comes from S3. Where something could not be had, a signature says so in its
//! place, so that "we could not look" never reads as "unsigned".
//!
//! IAM: `ecr:BatchGetImage` (ListImageReferrers asks for it too, and has no action of its own) and `ecr:GetDownloadUrlForLayer` on
//! the repository; `kms:GetPublicKey` on each key; `signer:GetRevocationStatus` on `*`. Blobs come from addresses that ECR signed in advance.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::{Duration, Instant};

use aws_config::{Region, SdkConfig};
use aws_sdk_ecr::Client;
use aws_sdk_ecr::types::{Image, ImageFailure, ImageIdentifier, ImageReferrer, SubjectIdentifier};
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use jiff::Timestamp;
use tokio::time::timeout;
use tracing::warn;

use super::verdicts::Verdicts;
use super::{kind_of, missing, why};
use crate::domain::image::{ImageDigest, ImageRef, Repository};
use crate::domain::protocol::Why;
use crate::domain::response_url::{is_of_s3, plain_host};
use crate::domain::signature::artifact::{self, Found, FoundBy, Signature, Wanted};
use crate::domain::signature::asked::{Asked, KmsKey, KmsKeys};
use crate::domain::signature::bundle;
use crate::domain::signature::key::CosignKey;
use crate::domain::signature::notation::{ARTIFACT, Subject};
use crate::domain::signature::signer::{RevocationAnswer, RevocationQuestion};
use crate::domain::signature::trust::{Kind, Trust};
use crate::domain::signature::verdict::{Reason, Verdict};
use crate::domain::signature::verify::Verification;

/// ListImageReferrers gives no more in a page.
const PAGE: i32 = 50;
/// So many pages are read: whoever may push can make more.
const PAGES: usize = 20;
/// BatchGetImage takes 100 images, and one of them is Cosign's tag.
const MOST_REFERRERS: usize = 99;
/// Always all of them: ECR would pick an image of an index by itself, or convert a manifest, and its digest would be another.
const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const WHOLE: Duration = Duration::from_secs(8);
/// For all blobs of an image together.
const ALL_BLOBS: Duration = Duration::from_secs(20);
/// The same in numbers: a function has 256 MB, and whoever may push can offer more.
const MOST_BLOBS: usize = 200;
const MOST_BYTES: u64 = 16 << 20;
/// For all questions to AWS Signer about an image together.
const ALL_QUESTIONS: Duration = Duration::from_secs(20);

pub struct Signatures {
    ecr: Client,
    signer: aws_sdk_signerdata::Client,
    config: SdkConfig,
    http: SharedHttpConnector,
    /// The one origin, besides S3, from which a blob may come. Tests alone set it.
    test_origin: Option<String>,
}

/// An image, and all that may be a signature of it.
#[derive(Clone, Debug)]
pub struct Gathered {
    pub subject: Subject,
    pub signatures: Vec<Signature>,
    /// The first thing that AWS refused to give out.
    refusal: Option<Why>,
}

/// What decides about deployments verifies. Behind a pointer, so that KMS and Signer are linked into those functions alone.
pub trait Verifies: Send + Sync {
    /// What a gate asks for, of one digest; `None`: there is no such image. An error that is denied is for good.
    fn verdict<'a>(
        &'a self,
        kept: &'a Verdicts,
        repository: &'a Repository,
        digest: &'a ImageDigest,
        asked: &'a Asked,
        now: Timestamp,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Verdict>, Why>> + Send + 'a>>;
}

impl Verifies for Signatures {
    fn verdict<'a>(
        &'a self,
        kept: &'a Verdicts,
        repository: &'a Repository,
        digest: &'a ImageDigest,
        asked: &'a Asked,
        now: Timestamp,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Verdict>, Why>> + Send + 'a>> {
        Box::pin(self.find_out(kept, repository, digest, asked, now))
    }
}

/// The first thing that AWS refused to say.
#[derive(Default)]
struct Refusals(Option<Why>);

impl Refusals {
    fn note(&mut self, why: Why) -> String {
        let text = why.text.clone();
        if why.denied && self.0.is_none() {
            self.0 = Some(why);
        }
        text
    }
}

impl Signatures {
    /// `region`: of the registry.
    pub fn new(config: &SdkConfig, region: &str, http: SharedHttpConnector, test_origin: Option<String>) -> Self {
        let config = in_region(config, region);
        Self { ecr: Client::new(&config), signer: aws_sdk_signerdata::Client::new(&config), http, config, test_origin }
    }

    /// The image that is named, and its signatures. `None`: there is no such image.
    pub async fn of(&self, repository: &Repository, image: &ImageRef) -> Result<Option<Gathered>, Why> {
        let Some(subject) = self.subject(repository, image).await? else { return Ok(None) };
        let (referrers, left_out) = self.referrers(repository, &subject.digest).await?;
        let mut refusals = Refusals::default();
        let mut signatures = self.signatures(repository, &subject.digest, &referrers, &mut refusals).await?;
        if left_out > 0 {
            let why = format!("more than {MOST_REFERRERS} manifests refer to the image, and the others were not looked at");
            signatures.push(unusable(None, why));
        }
        Ok(Some(Gathered { subject, signatures, refusal: refusals.0 }))
    }

    /// What a gate asks for, of one digest. What was found good before, under the very same trust, is used again, and AWS Signer
    /// asked anew; all else is fetched and judged, since somebody may have signed meanwhile. `None`: there is no such image.
    ///
    /// An error that is denied is for good: whoever could say whether it is signed refuses to, and will again.
    async fn find_out(&self, kept: &Verdicts, repository: &Repository, digest: &ImageDigest, asked: &Asked, now: Timestamp) -> Result<Option<Verdict>, Why> {
        let mut refusals = Refusals::default();
        let mut keys = KmsKeys::new();
        for key in asked.kms_keys() {
            keys.insert(key.clone(), self.kms_key(key).await.map_err(|why| refusals.note(why)));
        }
        let trust = asked.trust(&repository.partition, &keys).map_err(|error| Why::new(format!("could not use what `signatureVerification` says: {error}")))?;
        let fingerprint = trust.fingerprint();
        if let Some(fingerprint) = &fingerprint
            && let Some(good) = kept.signed(repository, digest, fingerprint).await?
        {
            let verification = self.ask(Verification::resume(&trust, &good, now), &mut refusals).await;
            match verification.verdict() {
                verdict @ Verdict::Verified(_) => return Ok(Some(verdict)),
                Verdict::Refused(_) => {}
            }
        }
        let Some(image) = self.of(repository, &ImageRef::Digest(digest.clone())).await? else { return Ok(None) };
        let verification = self.ask(Verification::begin(&trust, &image.subject, &image.signatures, now), &mut refusals).await;
        let verdict = verification.verdict();
        if let Some(why) = refusals.0.or(image.refusal).filter(|_| !verdict.is_forgivable()) {
            return Err(why);
        }
        if let Some(fingerprint) = &fingerprint {
            // Whoever asks next looks again then.
            if let Err(why) = kept.keep_signed(repository, digest, fingerprint, &verdict, &verification.good(), now).await {
                warn!("{}", why.text);
            }
        }
        Ok(Some(verdict))
    }

    /// Judges what was gathered, and asks AWS Signer what it has to be asked.
    pub async fn verify(&self, trust: &Trust, image: &Gathered, now: Timestamp) -> Verdict {
        self.ask(Verification::begin(trust, &image.subject, &image.signatures, now), &mut Refusals::default()).await.verdict()
    }

    async fn ask(&self, mut verification: Verification, refusals: &mut Refusals) -> Verification {
        let until = Instant::now() + ALL_QUESTIONS;
        while let Some(question) = verification.question().cloned() {
            let left = until.saturating_duration_since(Instant::now());
            let answer = timeout(left, self.revocation(&question, refusals)).await;
            verification.hear(answer.unwrap_or_else(|_| RevocationAnswer::None(format!("no answer within {} s", ALL_QUESTIONS.as_secs()))));
        }
        verification
    }

    /// A public key out of KMS, in the region of its ARN. What KMS says of the key itself is for good: that it does not exist, is
    /// disabled, or is one that signs nothing we know.
    pub async fn kms_key(&self, key: &KmsKey) -> Result<CosignKey, Why> {
        let attempt = format!("read the public key {key}");
        let kms = aws_sdk_kms::Client::new(&in_region(&self.config, key.region()));
        let answer = kms.get_public_key().key_id(key.arn()).send().await.map_err(|error| {
            let is_for_good = error.as_service_error().is_some_and(|error| {
                error.is_not_found_exception()
                    || error.is_disabled_exception()
                    || error.is_kms_invalid_state_exception()
                    || error.is_invalid_key_usage_exception()
                    || error.is_invalid_arn_exception()
                    || error.is_unsupported_operation_exception()
            });
            let why = why(&attempt, &error);
            Why { denied: why.denied || is_for_good, ..why }
        })?;
        let spki = answer.public_key.ok_or_else(|| missing(&attempt, "key"))?;
        let algorithms: Vec<&str> = answer.signing_algorithms.as_deref().unwrap_or_default().iter().map(|algorithm| algorithm.as_str()).collect();
        CosignKey::from_kms(spki.as_ref(), &algorithms).map_err(|error| Why { text: format!("could not use the public key {key}: {error}"), denied: true })
    }

    /// Fails closed: no answer, or one without a list, is none.
    async fn revocation(&self, question: &RevocationQuestion, refusals: &mut Refusals) -> RevocationAnswer {
        let asked = self
            .signer
            .get_revocation_status()
            .signature_timestamp(aws_smithy_types::DateTime::from_secs(question.signature_timestamp.as_second()))
            .platform_id(&question.platform_id)
            .profile_version_arn(&question.profile_version_arn)
            .job_arn(&question.job_arn)
            .set_certificate_hashes(Some(question.certificate_hashes.clone()))
            .send()
            .await;
        match asked {
            Ok(answer) => answer.revoked_entities.map_or_else(|| RevocationAnswer::None("its answer has no list".to_owned()), RevocationAnswer::Revoked),
            Err(error) => RevocationAnswer::None(refusals.note(why("ask AWS Signer whether the signature is revoked", &error))),
        }
    }

    async fn subject(&self, repository: &Repository, image: &ImageRef) -> Result<Option<Subject>, Why> {
        let id = match image {
            ImageRef::Tag(tag) => ImageIdentifier::builder().image_tag(tag),
            ImageRef::Digest(digest) => ImageIdentifier::builder().image_digest(digest.as_str()),
        };
        let attempt = format!("read the manifest of {}", image.of(&repository.name));
        let Some((images, failures)) = self.manifests(repository, vec![id.build()], &attempt).await? else { return Ok(None) };
        let Some(found) = images.into_iter().next() else {
            return match failures.first() {
                Some(failure) if is_not_there(failure) => Ok(None),
                Some(failure) => Err(Why::new(format!("could not {attempt}: {}", said_of(failure)))),
                None => Err(missing(&attempt, "image, nor what is wrong with it")),
            };
        };
        let manifest = found.image_manifest.as_deref().ok_or_else(|| missing(&attempt, "manifest"))?;
        let media_type = found.image_manifest_media_type.as_deref().ok_or_else(|| missing(&attempt, "media type"))?;
        let subject = Subject::of(manifest.as_bytes(), media_type);
        let named = match image {
            ImageRef::Digest(digest) => digest.as_str(),
            ImageRef::Tag(_) => found.image_id.as_ref().and_then(|id| id.image_digest()).ok_or_else(|| missing(&attempt, "digest"))?,
        };
        if subject.digest.as_str() != named {
            return Err(Why::new(format!("could not {attempt}: the manifest that came has the digest {}, not {named}", subject.digest)));
        }
        Ok(Some(subject))
    }

    /// What refers to the image, what is likely to be a signature first; and how many were left out.
    async fn referrers(&self, repository: &Repository, digest: &ImageDigest) -> Result<(Vec<ImageReferrer>, usize), Why> {
        let attempt = format!("list what refers to {}@{digest}", repository.name);
        let subject = SubjectIdentifier::builder().image_digest(digest.as_str()).build().map_err(|error| Why::new(format!("could not {attempt}: {error}")))?;
        let (mut all, mut token) = (Vec::new(), None);
        for _ in 0..PAGES {
            let request = self.ecr.list_image_referrers().set_registry_id(account(repository)).repository_name(&repository.name);
            let request = request.subject_id(subject.clone()).max_results(PAGE).set_next_token(token.clone());
            let page = request.send().await.map_err(|error| why(&attempt, &error))?;
            all.extend(page.referrers.unwrap_or_default());
            let next = page.next_token.filter(|token| !token.is_empty());
            if next.is_some() && next == token {
                return Err(Why::new(format!("could not {attempt}: its pages lead in a circle")));
            }
            token = next;
            if token.is_none() {
                break;
            }
        }
        // Older signatures of Notation may come without a type. SBOMs and attestations shall not crowd them out.
        all.sort_by_key(|referrer| !referrer.artifact_type().is_none_or(|kind| kind.is_empty() || kind == ARTIFACT || kind.starts_with(bundle::MEDIA_TYPES)));
        let left_out = all.len().saturating_sub(MOST_REFERRERS) + usize::from(token.is_some());
        all.truncate(MOST_REFERRERS);
        Ok((all, left_out))
    }

    async fn signatures(
        &self,
        repository: &Repository,
        digest: &ImageDigest,
        referrers: &[ImageReferrer],
        refusals: &mut Refusals,
    ) -> Result<Vec<Signature>, Why> {
        let attempt = format!("read the signatures of {}@{digest}", repository.name);
        let tag = cosign_tag(digest);
        let named = referrers.iter().map(|referrer| ImageIdentifier::builder().image_digest(referrer.digest()).build());
        let ids = std::iter::once(ImageIdentifier::builder().image_tag(&tag).build()).chain(named).collect();
        let answer = self.manifests(repository, ids, &attempt).await?;
        let (images, failures) = answer.ok_or_else(|| Why::new(format!("could not {attempt}: ECR does not know the repository any more")))?;
        let (mut signatures, mut all) = (Vec::new(), Vec::new());
        for read in sort_out(&tag, referrers, &images, &failures) {
            match read {
                Read::Signature(signature) => signatures.push(signature),
                Read::Wanted(wanted) => all.push(wanted),
            }
        }
        let until = Instant::now() + ALL_BLOBS;
        let (fetched, left_out) = within_bounds(all);
        for wanted in fetched {
            signatures.push(self.fetch(repository, wanted, until, refusals).await);
        }
        signatures.extend(left_out.into_iter().map(|wanted| wanted.could_not_be_fetched("there are too many, or too large ones, beside it")));
        Ok(signatures)
    }

    /// `None`: there is no such repository, or the image's name is one that no image has.
    async fn manifests(&self, repository: &Repository, ids: Vec<ImageIdentifier>, attempt: &str) -> Result<Option<(Vec<Image>, Vec<ImageFailure>)>, Why> {
        let request = self.ecr.batch_get_image().set_registry_id(account(repository)).repository_name(&repository.name);
        match request.set_image_ids(Some(ids)).set_accepted_media_types(Some(ACCEPTED.map(str::to_owned).to_vec())).send().await {
            Ok(answer) => Ok(Some((answer.images.unwrap_or_default(), answer.failures.unwrap_or_default()))),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_repository_not_found_exception() || error.is_invalid_parameter_exception()) => {
                Ok(None)
            }
            Err(error) => Err(why(attempt, &error)),
        }
    }

    async fn fetch(&self, repository: &Repository, wanted: Wanted, until: Instant, refusals: &mut Refusals) -> Signature {
        if Instant::now() >= until {
            return wanted.could_not_be_fetched(&format!("those before it took {} s", ALL_BLOBS.as_secs()));
        }
        match self.blob(repository, &wanted).await {
            Ok(bytes) => wanted.holds(bytes),
            Err(why) => wanted.could_not_be_fetched(&refusals.note(why)),
        }
    }

    async fn blob(&self, repository: &Repository, wanted: &Wanted) -> Result<Vec<u8>, Why> {
        let request = self.ecr.get_download_url_for_layer().set_registry_id(account(repository)).repository_name(&repository.name);
        let answer = request.layer_digest(wanted.digest.as_str()).send().await.map_err(|error| why("ask ECR for its address", &error))?;
        let url = answer.download_url.ok_or_else(|| missing("ask ECR for its address", "address"))?;
        may_be_fetched(&url, self.test_origin.as_deref()).map_err(Why::new)?;
        let most = usize::try_from(wanted.size).unwrap_or(usize::MAX);
        let got = timeout(WHOLE, get(&self.http, &url, most)).await.unwrap_or_else(|_| Err(format!("no answer within {} s", WHOLE.as_secs())));
        got.map_err(Why::new)
    }
}

/// Reads one byte more than `most` at the very most. A redirect is not followed: it would lead to a host that nobody has checked.
async fn get(http: &SharedHttpConnector, url: &str, most: usize) -> Result<Vec<u8>, String> {
    let mut request = HttpRequest::new(SdkBody::empty());
    request.set_method("GET").map_err(|_| "the method is not one".to_owned())?;
    request.set_uri(url).map_err(|_| "its address is not one".to_owned())?;
    let response = http.call(request).await.map_err(|error| kind_of(&error).to_owned())?;
    if response.status().as_u16() != 200 {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let (mut body, mut bytes) = (ByteStream::new(response.into_body()), Vec::new());
    while let Some(part) = body.next().await {
        bytes.extend_from_slice(&part.map_err(|_| "the connection broke".to_owned())?);
        if bytes.len() > most {
            // The comparison with its digest and size will say what this is.
            bytes.truncate(most.saturating_add(1));
            break;
        }
    }
    Ok(bytes)
}

/// What is fetched, and what is too much. The smallest come first: a real signature has a few thousand bytes, and whoever wants to
/// hide one has to fill the room with larger ones.
fn within_bounds(mut all: Vec<Wanted>) -> (Vec<Wanted>, Vec<Wanted>) {
    all.sort_by_key(|wanted| wanted.size);
    let mut bytes = 0;
    let fits = all.iter().take(MOST_BLOBS).take_while(|wanted| {
        bytes += wanted.size;
        bytes <= MOST_BYTES
    });
    let fits = fits.count();
    let left_out = all.split_off(fits);
    (all, left_out)
}

/// What BatchGetImage's answer comes to, manifest by manifest.
#[derive(Debug)]
enum Read {
    Wanted(Wanted),
    Signature(Signature),
}

/// Each manifest that was asked for, as what it is. One that did not come and is not simply absent might have been the good one.
fn sort_out(tag: &str, referrers: &[ImageReferrer], images: &[Image], failures: &[ImageFailure]) -> Vec<Read> {
    let by_digest: HashMap<&str, &Image> = images.iter().filter_map(|image| Some((image.image_id()?.image_digest()?, image))).collect();
    let tagged = images.iter().find(|image| image.image_id().and_then(|id| id.image_tag()) == Some(tag));
    let failed = |is: &dyn Fn(&ImageIdentifier) -> bool| failures.iter().find(|failure| failure.image_id().is_some_and(is));
    let mut read = Vec::new();
    match (tagged, failed(&|id| id.image_tag() == Some(tag))) {
        (Some(image), _) => read.extend(read_one(image, image.image_id().and_then(|id| id.image_digest()).unwrap_or_default(), FoundBy::Tag)),
        (None, Some(failure)) if is_not_there(failure) => {}
        (None, Some(failure)) => {
            read.push(Read::Signature(unusable(Some(Kind::Cosign), format!("the signature {tag} could not be read: {}", said_of(failure)))))
        }
        (None, None) => read.push(Read::Signature(unusable(Some(Kind::Cosign), format!("the signature {tag} could not be read: ECR's answer leaves it out")))),
    }
    for digest in referrers.iter().map(ImageReferrer::digest) {
        match by_digest.get(digest) {
            // Cosign's tag can be on a manifest that also refers to the image.
            Some(image) if tagged.is_some_and(|tagged| std::ptr::eq(tagged, *image)) => {}
            Some(image) => read.extend(read_one(image, digest, FoundBy::Referrer)),
            None => {
                let said = failed(&|id| id.image_digest() == Some(digest)).map_or_else(|| "ECR's answer leaves it out".to_owned(), said_of);
                read.push(Read::Signature(unusable(None, format!("{digest:.100} refers to the image and could not be read: {said}"))));
            }
        }
    }
    read
}

fn read_one(image: &Image, digest: &str, by: FoundBy) -> Vec<Read> {
    let kind = if by == FoundBy::Tag { Some(Kind::Cosign) } else { None };
    let (Ok(digest), Some(manifest)) = (digest.parse::<ImageDigest>(), image.image_manifest()) else {
        return vec![Read::Signature(unusable(kind, format!("the manifest {digest:.100} came without its digest or its content")))];
    };
    match artifact::read(manifest.as_bytes(), &digest, by) {
        Found::Wanted(wanted) => wanted.into_iter().map(Read::Wanted).collect(),
        Found::Unusable(signature) => vec![Read::Signature(signature)],
        Found::NotASignature => Vec::new(),
    }
}

fn unusable(kind: Option<Kind>, why: String) -> Signature {
    Signature::Unusable { kind, reason: Reason::CouldNotCheck(why) }
}

fn is_not_there(failure: &ImageFailure) -> bool {
    failure.failure_code().is_some_and(|code| ["ImageNotFound", "InvalidImageTag", "InvalidImageDigest"].contains(&code.as_str()))
}

fn said_of(failure: &ImageFailure) -> String {
    format!("{}: {:.200}", failure.failure_code().map_or("no code", |code| code.as_str()), failure.failure_reason().unwrap_or("no reason"))
}

/// Cosign's classic place for the signatures of a digest.
fn cosign_tag(digest: &ImageDigest) -> String {
    format!("{}.sig", digest.as_str().replace(':', "-"))
}

/// Whether a blob may be fetched from here: from S3 by https, or from exactly this other origin.
fn may_be_fetched(url: &str, test_origin: Option<&str>) -> Result<(), String> {
    match plain_host(url, test_origin) {
        Ok(Some(host)) if !is_of_s3(host) => Err("ECR's address leads to a host that is not S3's, so nothing is fetched from it".to_owned()),
        Ok(_) => Ok(()),
        Err(why) => Err(format!("ECR's address is no plain https address ({why}), so nothing is fetched from it")),
    }
}

/// Without an account: the registry of whoever asks.
fn account(repository: &Repository) -> Option<String> {
    Some(repository.account.clone()).filter(|account| !account.is_empty())
}

fn in_region(config: &SdkConfig, region: &str) -> SdkConfig {
    config.clone().into_builder().region(Region::new(region.to_owned())).build()
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecr::types::ImageFailureCode;

    use super::*;

    #[test]
    fn a_blob_comes_from_s3_by_https_and_from_nowhere_else() {
        for good in [
            "https://prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com/ab/cd?X-Amz-Signature=1",
            "https://prod-us-east-1-starport-layer-bucket.s3.us-east-1.amazonaws.com:443/ab",
            "https://s3.cn-north-1.amazonaws.com.cn/bucket/ab",
            "https://bucket.s3-us-gov-west-1.amazonaws.com/ab",
        ] {
            assert_eq!(may_be_fetched(good, None), Ok(()), "{good}");
        }
        for bad in [
            "http://bucket.s3.eu-west-1.amazonaws.com/ab",
            "https://169.254.169.254/latest/meta-data",
            "https://example.com/s3.amazonaws.com",
            "https://bucket.s3.amazonaws.com.example.com/ab",
            "https://s3amazonaws.com/ab",
            "https://bucket.s3.amazonaws.com@example.com/ab",
            "https://bucket.s3.amazonaws.com:8443/ab",
            "https://abc.execute-api.eu-west-1.amazonaws.com/ab",
            "https://example.com\\.s3.amazonaws.com/ab",
            "ab",
        ] {
            let refused = may_be_fetched(bad, Some("http://127.0.0.1:1234"));
            assert!(refused.as_ref().is_err_and(|why| why.contains("nothing is fetched") && !why.contains("/ab")), "{bad}: {refused:?}");
        }
        assert_eq!(may_be_fetched("http://127.0.0.1:1234/blob", Some("http://127.0.0.1:1234")), Ok(()));
        assert!(may_be_fetched("http://127.0.0.1:12345/blob", Some("http://127.0.0.1:1234")).is_err());
    }

    /// What `get` makes of an answer that goes on for ever after these lines.
    async fn got(head: &str) -> Result<Vec<u8>, String> {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let head = format!("HTTP/1.1 {head}\r\n\r\n");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(head.as_bytes());
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        timeout(Duration::from_secs(20), get(&crate::aws::connector(), &format!("http://{address}/blob"), 10)).await.expect("it does not read for ever")
    }

    #[test]
    fn what_is_too_much_is_left_out_and_not_what_is_small() {
        let wanted = |sizes: &[u64]| {
            let layer = |(n, size): (usize, &u64)| {
                let digest = ImageDigest::of(n.to_string().as_bytes());
                format!(r#"{{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"{digest}","size":{size}}}"#)
            };
            let manifest = format!(r#"{{"layers":[{}]}}"#, sizes.iter().enumerate().map(layer).collect::<Vec<_>>().join(","));
            match artifact::read(manifest.as_bytes(), &ImageDigest::of(manifest.as_bytes()), FoundBy::Tag) {
                Found::Wanted(wanted) => wanted,
                other => panic!("{other:?}"),
            }
        };
        let sizes = |all: Vec<Wanted>| all.iter().map(|wanted| wanted.size).collect::<Vec<_>>();
        let mib = 1 << 20;
        let (fetched, left_out) = within_bounds(wanted(&[[mib; 20].as_slice(), &[300]].concat()));
        assert_eq!((sizes(fetched), sizes(left_out)), ([[300].as_slice(), &[mib; 15]].concat(), vec![mib; 5]));
        let many: Vec<Wanted> = (0..3).flat_map(|_| wanted(&[300; 100])).collect();
        let (fetched, left_out) = within_bounds(many);
        assert_eq!((fetched.len(), left_out.len()), (200, 100));
    }

    #[tokio::test]
    async fn no_more_is_read_than_a_signature_has_and_no_redirect_followed() {
        assert_eq!(got("200 OK").await, Ok(vec![b'x'; 11]));
        assert_eq!(got("200 OK\r\ncontent-length: 1000000000000").await, Ok(vec![b'x'; 11]));
        assert_eq!(got("302 Found\r\nlocation: https://example.com/").await, Err("status 302".to_owned()));
        assert_eq!(got("403 Forbidden").await, Err("status 403".to_owned()));
    }

    const TAG: &str = "sha256-1.sig";

    fn referrer(digest: &ImageDigest) -> ImageReferrer {
        ImageReferrer::builder().digest(digest.as_str()).media_type("application/vnd.oci.image.manifest.v1+json").size(1).build().unwrap()
    }

    fn image(id: aws_sdk_ecr::types::builders::ImageIdentifierBuilder, manifest: &str) -> Image {
        Image::builder().image_id(id.build()).image_manifest(manifest).build()
    }

    fn failure(id: aws_sdk_ecr::types::builders::ImageIdentifierBuilder, code: ImageFailureCode) -> ImageFailure {
        ImageFailure::builder().image_id(id.build()).failure_code(code).failure_reason("because").build()
    }

    fn in_words(read: &[Read]) -> Vec<String> {
        let say = |read: &Read| match read {
            Read::Wanted(wanted) => format!("{:?}", wanted.kind()),
            Read::Signature(Signature::Unusable { kind, reason }) => format!("{kind:?} {}", reason.word()),
            Read::Signature(other) => panic!("{other:?}"),
        };
        read.iter().map(say).collect()
    }

    #[test]
    fn what_did_not_come_is_not_taken_for_unsigned() {
        let id = ImageIdentifier::builder;
        let sbom =
            r#"{"config":{"mediaType":"application/vnd.oci.empty.v1+json"},"layers":[{"mediaType":"application/spdx+json","digest":"sha256:1","size":1}]}"#;
        let notation = format!(
            r#"{{"artifactType":"{ARTIFACT}","layers":[{{"mediaType":"application/jose+json","digest":"{}","size":9}}]}}"#,
            ImageDigest::of(b"envelope")
        );
        let (sbom_digest, notation_digest) = (ImageDigest::of(sbom.as_bytes()), ImageDigest::of(notation.as_bytes()));
        let no_tag = || failure(id().image_tag(TAG), ImageFailureCode::ImageNotFound);
        for (what, referrers, images, failures, expected) in [
            ("unsigned", vec![], vec![], vec![no_tag()], vec![]),
            ("the tag is left out", vec![], vec![], vec![], vec!["Some(Cosign) could-not-check"]),
            ("the tag is denied", vec![], vec![], vec![failure(id().image_tag(TAG), ImageFailureCode::KmsError)], vec!["Some(Cosign) could-not-check"]),
            ("an SBOM", vec![&sbom_digest], vec![image(id().image_digest(sbom_digest.as_str()), sbom)], vec![no_tag()], vec![]),
            ("an envelope", vec![&notation_digest], vec![image(id().image_digest(notation_digest.as_str()), &notation)], vec![no_tag()], vec!["Notation"]),
            ("other content", vec![&notation_digest], vec![image(id().image_digest(notation_digest.as_str()), sbom)], vec![no_tag()], vec!["None tampered"]),
            ("left out", vec![&notation_digest], vec![image(id().image_digest(sbom_digest.as_str()), sbom)], vec![no_tag()], vec!["None could-not-check"]),
            (
                "gone meanwhile",
                vec![&notation_digest],
                vec![],
                vec![no_tag(), failure(id().image_digest(notation_digest.as_str()), ImageFailureCode::ImageNotFound)],
                vec!["None could-not-check"],
            ),
            (
                "under the tag, and a referrer",
                vec![&notation_digest],
                vec![image(id().image_tag(TAG).image_digest(notation_digest.as_str()), &notation)],
                vec![],
                vec!["Notation"],
            ),
        ] {
            let referrers: Vec<ImageReferrer> = referrers.into_iter().map(referrer).collect();
            assert_eq!(in_words(&sort_out(TAG, &referrers, &images, &failures)), expected, "{what}");
        }
    }
}
