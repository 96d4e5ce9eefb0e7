//! ECR: what a reference names, which scanner is in charge, and what basic scanning or Inspector found.
//!
//! IAM: `ecr:BatchGetImage`, `ecr:DescribeImageScanFindings`, `ecr:DescribeImages`, `ecr:StartImageScan`,
//! `ecr:BatchGetRepositoryScanningConfiguration` on the repository; `ecr:GetRegistryScanningConfiguration` on the registry; for
//! the walk `ecr:DescribeRepositories` on all repositories.
//! Under enhanced scanning DescribeImageScanFindings also asks for `inspector2:ListFindings` and `inspector2:ListCoverage`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_sdk_ecr::Client;
use aws_sdk_ecr::operation::describe_image_scan_findings::{DescribeImageScanFindingsError as FindingsError, DescribeImageScanFindingsOutput};
use aws_sdk_ecr::operation::start_image_scan::StartImageScanError;
use aws_sdk_ecr::types::{ImageDetail, ImageIdentifier, ScanType};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{self, BeforeDeserializationInterceptorContextMut, Output};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use aws_smithy_types::config_bag::ConfigBag;
use jiff::Timestamp;

use super::{missing, timestamp, why};
use crate::domain::head::Child;
use crate::domain::image::{ImageDigest, ImageRef, Repository};
use crate::domain::manifest::{self, Manifest, MediaType};
use crate::domain::page::{self, Page};
use crate::domain::plan::Started;
use crate::domain::protocol::{Depth, PageToken, Resolved, Why};
use crate::domain::scan::{Answered, Report, ScanSource};
use crate::domain::walk::Listed;

/// How long the registry's configuration is believed; an answer that contradicts it drops it at once.
const REGISTRY_IS_FRESH: Duration = Duration::from_secs(180);
/// The most that ECR gives in a page.
const PAGE: i32 = 1000;
/// The most digests that DescribeImages takes, and as many images as a walk looks at between two notes of where it is.
const IMAGES_PAGE: usize = 100;
/// Indexes within indexes within indexes are followed, and no further.
const NESTING: usize = 3;
/// So many manifests are read for one index.
const MANIFESTS: usize = 60;
/// More images than this are not even counted: a gate judges forty together.
const IMAGES: usize = 200;
/// Always all of them: without the index types ECR might pick an image of an index by itself.
const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

pub struct Ecr {
    client: Client,
    registry: Mutex<Option<(Instant, ScanSource)>>,
}

impl Ecr {
    pub fn new(config: &SdkConfig) -> Self {
        Self { client: Client::new(config), registry: Mutex::new(None) }
    }

    /// What a reference names, in one call for an image. Manifests are checked against their digest.
    pub async fn resolve(&self, repository: &Repository, image: &ImageRef, expected: Option<&ImageDigest>) -> Result<Resolved, Why> {
        let attempt = format!("read the manifest of {}:{image}", repository.name);
        let id = match image {
            ImageRef::Tag(tag) => ImageIdentifier::builder().image_tag(tag).set_image_digest(expected.map(ToString::to_string)).build(),
            ImageRef::Digest(digest) => ImageIdentifier::builder().image_digest(digest.as_str()).build(),
        };
        let Some(found) = self.manifest(repository, id, &attempt).await? else { return Ok(Resolved::NotFound) };
        let (digest, manifest) = match found {
            Found::Manifest(digest, manifest) => (digest, manifest),
            Found::OtherDigest => return Ok(Resolved::OtherDigest),
            Found::Unusable(why) => return Ok(Resolved::Unusable(why)),
        };
        match manifest {
            Manifest::Image => Ok(Resolved::Image(digest)),
            Manifest::NotAnImage(media_type, subject) => Ok(Resolved::NotAnImage(digest, media_type, subject)),
            Manifest::Index(entries) => Ok(match self.images_of_index(repository, entries).await? {
                Ok(children) => Resolved::Index(digest, children),
                Err(why) => Resolved::Unusable(why),
            }),
        }
    }

    /// The images that count, in the order of the index; indexes inside it are followed. Or why there is no saying which they are.
    async fn images_of_index(&self, repository: &Repository, entries: Vec<manifest::Entry>) -> Result<Result<Vec<Child>, String>, Why> {
        let mut children: Vec<Child> = Vec::new();
        let mut reads = 0;
        let mut level = entries;
        for depth in 0.. {
            let mut next = Vec::new();
            for entry in level {
                match entry.media_type {
                    MediaType::Image if children.iter().any(|known| known.digest == entry.digest) => {}
                    MediaType::Image => children.push(Child { digest: entry.digest, platform: entry.platform }),
                    MediaType::Index => {
                        reads += 1;
                        if depth >= NESTING || reads > MANIFESTS {
                            return Ok(Err(format!("it is an index with more than {NESTING} levels or {MANIFESTS} indexes in it")));
                        }
                        let attempt = format!("read the index {}@{}", repository.name, entry.digest);
                        let id = ImageIdentifier::builder().image_digest(entry.digest.as_str()).build();
                        match self.manifest(repository, id, &attempt).await? {
                            Some(Found::Manifest(_, Manifest::Index(entries))) => next.extend(entries),
                            Some(Found::Unusable(why)) => return Ok(Err(format!("of the index {} in it, {why}", entry.digest))),
                            _ => return Ok(Err(format!("it is an index that refers to {}, and that is no index, or not there", entry.digest))),
                        }
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            level = next;
            if children.len() > IMAGES {
                break;
            }
        }
        if children.len() > IMAGES {
            return Ok(Err(format!("it is an index of more than {IMAGES} images")));
        }
        Ok(Ok(children))
    }

    async fn manifest(&self, repository: &Repository, id: ImageIdentifier, attempt: &str) -> Result<Option<Found>, Why> {
        let answer = self
            .client
            .batch_get_image()
            // Without an account: the registry of whoever asks.
            .set_registry_id(Some(repository.account.clone()).filter(|account| !account.is_empty()))
            .repository_name(&repository.name)
            .image_ids(id)
            .set_accepted_media_types(Some(ACCEPTED.map(str::to_owned).to_vec()))
            .send()
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.as_service_error().is_some_and(|error| error.is_repository_not_found_exception()) => return Ok(None),
            // A tag that ECR would not take is the tag of no image.
            Err(error) if error.as_service_error().is_some_and(|error| error.is_invalid_parameter_exception()) => return Ok(None),
            Err(error) => return Err(why(attempt, &error)),
        };
        let Some(image) = answer.images.unwrap_or_default().into_iter().next() else {
            let failure = answer.failures.unwrap_or_default().into_iter().next();
            let code = failure.as_ref().and_then(|failure| failure.failure_code.as_ref()).map(|code| code.as_str().to_owned());
            return match code.as_deref() {
                Some("ImageNotFound" | "InvalidImageTag" | "InvalidImageDigest") => Ok(None),
                Some("ImageTagDoesNotMatchDigest") => Ok(Some(Found::OtherDigest)),
                // ECR says so of this very image (its key is gone, its layers are out of reach), and will say so again.
                Some(code) => {
                    let reason = failure.and_then(|failure| failure.failure_reason).unwrap_or_default();
                    Ok(Some(Found::Unusable(format!("ECR does not give it out ({code}: {reason})"))))
                }
                None => Err(missing(attempt, "image, nor what is wrong with it")),
            };
        };
        let text = image.image_manifest.ok_or_else(|| missing(attempt, "manifest"))?;
        let named = image.image_id.and_then(|id| id.image_digest).ok_or_else(|| missing(attempt, "digest"))?;
        let digest: ImageDigest = named.parse().map_err(|error| Why { text: format!("could not {attempt}: {error}"), denied: false })?;
        let found = ImageDigest::of(text.as_bytes());
        if found != digest {
            return Err(Why { text: format!("could not {attempt}: the manifest that came has the digest {found}, not {digest}"), denied: false });
        }
        Ok(Some(match manifest::read(&text, image.image_manifest_media_type.as_deref()) {
            Ok(manifest) => Found::Manifest(digest, manifest),
            // These bytes are what the digest names, so they will be the same next time.
            Err(error) => Found::Unusable(error.to_string()),
        }))
    }

    /// Which scanner is in charge of this registry.
    pub async fn registry(&self, fresh: bool) -> Result<ScanSource, Why> {
        let cached = self.registry.lock().expect("nobody panics with this lock").filter(|(at, _)| !fresh && at.elapsed() < REGISTRY_IS_FRESH);
        if let Some((_, source)) = cached {
            return Ok(source);
        }
        let attempt = "read the registry's scanning configuration";
        let answer = self.client.get_registry_scanning_configuration().send().await.map_err(|error| why(attempt, &error))?;
        let source = match answer.scanning_configuration.and_then(|configuration| configuration.scan_type) {
            Some(ScanType::Enhanced) => ScanSource::Enhanced,
            Some(ScanType::Basic) => ScanSource::Basic,
            Some(other) => return Err(Why { text: format!("could not {attempt}: the scan type {other} is unknown to this version"), denied: false }),
            None => return Err(missing(attempt, "scan type")),
        };
        *self.registry.lock().expect("nobody panics with this lock") = Some((Instant::now(), source));
        Ok(source)
    }

    fn forget_registry(&self) {
        *self.registry.lock().expect("nobody panics with this lock") = None;
    }

    /// Whether images of this repository are scanned only when somebody asks.
    pub async fn is_scanned_on_demand_only(&self, repository: &Repository) -> Result<bool, Why> {
        let attempt = format!("read the scanning configuration of {}", repository.name);
        let answer =
            self.client.batch_get_repository_scanning_configuration().repository_names(&repository.name).send().await.map_err(|error| why(&attempt, &error))?;
        let configuration = answer.scanning_configurations.unwrap_or_default().into_iter().next();
        let configuration = configuration.ok_or_else(|| missing(&attempt, "configuration"))?;
        Ok(configuration.scan_frequency.is_none_or(|frequency| frequency.as_str() == "MANUAL"))
    }

    /// Asks for a basic scan.
    pub async fn start_scan(&self, repository: &Repository, digest: &ImageDigest) -> Result<Started, Why> {
        let id = ImageIdentifier::builder().image_digest(digest.as_str()).build();
        let sent = self.client.start_image_scan().registry_id(&repository.account).repository_name(&repository.name).image_id(id).send().await;
        let error = match sent {
            Ok(_) => return Ok(Started::Yes),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(StartImageScanError::LimitExceededException(_)) => Ok(Started::Already),
            Some(StartImageScanError::UnsupportedImageTypeException(_)) => Ok(Started::Unsupported),
            Some(StartImageScanError::ImageArchivedException(_)) => Ok(Started::Archived),
            Some(StartImageScanError::ImageNotFoundException(_) | StartImageScanError::RepositoryNotFoundException(_)) => Ok(Started::NoImage),
            // ECR says "This feature is disabled" when Inspector has taken over: the configuration that we knew is not true any more.
            Some(StartImageScanError::ValidationException(problem)) if problem.to_string().contains("feature is disabled") => {
                self.forget_registry();
                Ok(Started::RegistryIsEnhanced)
            }
            _ => Err(why(format!("start the scan of {}@{digest}", repository.name), &error)),
        }
    }

    /// The findings of one image, all pages or the first; from the beginning, or from where an earlier reading stopped. At
    /// `until` it stops after a page.
    pub async fn findings(
        &self,
        repository: &Repository,
        digest: &ImageDigest,
        depth: Depth,
        begun: Option<(Report, PageToken)>,
        until: Instant,
    ) -> Result<Read, Why> {
        let attempt = format!("read the findings of {}@{digest}", repository.name);
        let id = ImageIdentifier::builder().image_digest(digest.as_str()).build();
        let unreadable = |reason: &dyn std::fmt::Display| Why { text: format!("could not {attempt}: {reason}"), denied: false };
        let (mut whole, mut token): (Option<Report>, Option<String>) = begun.map(|(report, token)| (report, token.0)).unzip();
        let mut is_inspectors = false;
        loop {
            let request = self.client.describe_image_scan_findings().registry_id(&repository.account).repository_name(&repository.name).image_id(id.clone());
            let reader = PageReader::default();
            let sent = request.max_results(PAGE).set_next_token(token.clone()).customize().interceptor(reader.clone()).send().await;
            if let Err(error) = sent {
                return match error.as_service_error() {
                    Some(FindingsError::ScanNotFoundException(_)) if whole.is_none() => Ok(Read::Answered(Answered::NoScan)),
                    Some(FindingsError::ImageNotFoundException(_) | FindingsError::RepositoryNotFoundException(_)) => Ok(Read::Answered(Answered::NoImage)),
                    _ => Err(why(&attempt, &error)),
                };
            }
            let page = reader.page().ok_or_else(|| missing(&attempt, "page"))?.map_err(|error| unreadable(&error))?;
            if let Some(other) = page.digest.filter(|other| *other != digest.as_str()) {
                return Err(unreadable(&format_args!("the answer is about {other}")));
            }
            let next = page.next;
            if next.is_some() && next == token {
                return Err(unreadable(&"its pages lead in a circle"));
            }
            is_inspectors |= page.is_inspectors;
            let page = page.report;
            let report = match whole {
                None => page,
                Some(before) => before.followed_by(page).map_err(|error| unreadable(&error))?,
            };
            token = next;
            if token.is_none() || depth == Depth::FirstPage {
                is_inspectors |= report.status.as_deref() == Some("ACTIVE");
                self.doubt_registry(is_inspectors.then_some(ScanSource::Enhanced));
                self.doubt_registry(report.has_basic_findings.then_some(ScanSource::Basic));
                return Ok(Read::Answered(Answered::Findings(report)));
            }
            if Instant::now() >= until
                && let Some(next) = token
            {
                return Ok(Read::OutOfTime(report, PageToken(next)));
            }
            whole = Some(report);
        }
    }

    /// An answer that only `source` gives: should the configuration that we know say otherwise, it is asked for again.
    fn doubt_registry(&self, source: Option<ScanSource>) {
        let known = *self.registry.lock().expect("nobody panics with this lock");
        if source.is_some_and(|source| known.is_some_and(|(_, known)| known != source)) {
            self.forget_registry();
        }
    }

    /// When this image was pushed.
    pub async fn pushed_at(&self, repository: &Repository, digest: &ImageDigest) -> Result<Option<Timestamp>, Why> {
        let id = ImageIdentifier::builder().image_digest(digest.as_str()).build();
        let answer = self.client.describe_images().registry_id(&repository.account).repository_name(&repository.name).image_ids(id).send().await;
        match answer {
            Ok(answer) => Ok(answer.image_details.unwrap_or_default().first().and_then(|image| image.image_pushed_at.as_ref()).and_then(timestamp)),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_image_not_found_exception()) => Ok(None),
            Err(error) => Err(why(format!("read when {}@{digest} was pushed", repository.name), &error)),
        }
    }
}

impl Ecr {
    /// All repositories of this registry, from `page` on, and where the list goes on.
    pub async fn repositories(&self, page: Option<&str>) -> Result<(Vec<Repository>, Option<String>), Why> {
        let attempt = "list the repositories";
        let request = self.client.describe_repositories().max_results(i32::try_from(IMAGES_PAGE).unwrap_or(PAGE));
        let answer = request.set_next_token(page.map(str::to_owned)).send().await.map_err(|error| why(attempt, &error))?;
        let arn = |repository: aws_sdk_ecr::types::Repository| repository.repository_arn.and_then(|arn| arn.parse().ok());
        let repositories = answer.repositories.unwrap_or_default().into_iter().map(|one| arn(one).ok_or_else(|| missing(attempt, "ARN of a repository")));
        Ok((repositories.collect::<Result<_, _>>()?, answer.next_token.filter(|token| !token.is_empty())))
    }

    /// What lies in a repository, from `page` on, and where the list goes on; nothing, when the repository is gone. What is archived
    /// is not listed.
    pub async fn images(&self, repository: &Repository, page: Option<&str>) -> Result<(Vec<Listed>, Option<String>), Why> {
        let attempt = format!("list the images of {}", repository.name);
        let request = self.client.describe_images().registry_id(&repository.account).repository_name(&repository.name);
        let answer = match request.max_results(images_page()).set_next_token(page.map(str::to_owned)).send().await {
            Ok(answer) => answer,
            Err(error) if error.as_service_error().is_some_and(|error| error.is_repository_not_found_exception()) => return Ok((Vec::new(), None)),
            Err(error) => return Err(why(&attempt, &error)),
        };
        let listed = |image: ImageDetail| {
            Some(Listed {
                digest: image.image_digest?.parse().ok()?,
                tags: image.image_tags.unwrap_or_default(),
                pushed_at: image.image_pushed_at.as_ref().and_then(timestamp),
                media_type: image.image_manifest_media_type,
                artifact_type: image.artifact_media_type,
            })
        };
        let images = answer.image_details.unwrap_or_default().into_iter().map(|image| listed(image).ok_or_else(|| missing(&attempt, "digest of an image")));
        Ok((images.collect::<Result<_, _>>()?, answer.next_token.filter(|token| !token.is_empty())))
    }

    /// Which of these images are not in the repository. ECR refuses a call that names one which is not there, and does not say which
    /// one: halves are asked then, so that a page on which nothing is missing, the usual one, costs one call. (BatchGetImage would say
    /// it at once, and count as a pull of each: "not pulled for 30 days" would be true of nothing any more.)
    pub async fn missing_of(&self, repository: &Repository, digests: &[ImageDigest]) -> Result<Vec<ImageDigest>, Why> {
        let attempt = format!("look for {} images in {}", digests.len(), repository.name);
        let mut groups: Vec<Vec<ImageDigest>> = digests.chunks(IMAGES_PAGE).map(<[_]>::to_vec).collect();
        let mut missing = Vec::new();
        while let Some(group) = groups.pop() {
            let ids = group.iter().map(|digest| ImageIdentifier::builder().image_digest(digest.as_str()).build()).collect();
            let answer = self.client.describe_images().registry_id(&repository.account).repository_name(&repository.name).set_image_ids(Some(ids)).send().await;
            match answer {
                Ok(answer) => {
                    let found: Vec<String> = answer.image_details.unwrap_or_default().into_iter().filter_map(|image| image.image_digest).collect();
                    missing.extend(group.into_iter().filter(|digest| !found.iter().any(|found| found == digest.as_str())));
                }
                Err(error) => match error.as_service_error() {
                    Some(error) if error.is_repository_not_found_exception() => missing.extend(group),
                    Some(error) if error.is_image_not_found_exception() => match group.split_at(group.len() / 2) {
                        ([], one) => missing.extend_from_slice(one),
                        (some, others) => groups.extend([some.to_vec(), others.to_vec()]),
                    },
                    _ => return Err(why(&attempt, &error)),
                },
            }
        }
        Ok(missing)
    }
}

fn images_page() -> i32 {
    // In a test build alone it can be made smaller.
    #[cfg(feature = "faults")]
    if let Some(page) = std::env::var("FAULT_IMAGES_PAGE").ok().and_then(|text| text.parse().ok()) {
        return page;
    }
    i32::try_from(IMAGES_PAGE).unwrap_or(PAGE)
}

/// Reads the pages of findings past the SDK, which would make a value of every member of every finding: most of the work, and most of
/// it thrown away. Everything else about the call stays the SDK's: signing, retries, and what an error says.
#[derive(Clone, Debug, Default)]
struct PageReader(Arc<Mutex<Option<Result<Page, page::Unreadable>>>>);

impl PageReader {
    /// The page of the call that was made with it.
    fn page(&self) -> Option<Result<Page, page::Unreadable>> {
        self.0.lock().expect("nobody panics with this lock").take()
    }
}

impl Intercept for PageReader {
    fn name(&self) -> &'static str {
        "PageReader"
    }

    fn modify_before_deserialization(
        &self,
        answered: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        call: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Errors stay the SDK's.
        if answered.response().status().is_success() {
            call.interceptor_state().store_put(SharedResponseDeserializer::new(self.clone()));
        }
        Ok(())
    }
}

impl DeserializeResponse for PageReader {
    fn deserialize_nonstreaming_with_config(&self, response: &HttpResponse, _: &ConfigBag) -> Result<Output, OrchestratorError<context::Error>> {
        match response.body().bytes() {
            Some(body) if response.status().is_success() => {
                *self.0.lock().expect("nobody panics with this lock") = Some(page::read(body));
                Ok(Output::erase(DescribeImageScanFindingsOutput::builder().build()))
            }
            // A page that broke off, and an error when it was asked for again: worth another try, and no page.
            _ => Err(OrchestratorError::response("an error after half a page".into())),
        }
    }
}

/// How far a reading of findings came.
pub enum Read {
    Answered(Answered),
    /// What was read, and the page that comes next.
    OutOfTime(Report, PageToken),
}

enum Found {
    Manifest(ImageDigest, Manifest),
    OtherDigest,
    Unusable(String),
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecr::types::ScanStatus;

    use crate::domain::scan::Status;

    /// The day the SDK learns a new status is the day on which this asks for a decision.
    #[test]
    fn every_status_of_the_sdk_is_one_that_we_decided_about() {
        for word in ScanStatus::values() {
            assert!(!matches!(Status::parse(Some(word)), Status::Other(_)), "{word} has no way of its own in domain::scan");
        }
    }
}
