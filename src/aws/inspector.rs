//! Amazon Inspector: whether it has scanned an image, and what keeps it from doing so.
//!
//! IAM: `inspector2:ListCoverage` (it has no resource types).

use aws_config::SdkConfig;
use aws_sdk_inspector2::Client;
use aws_sdk_inspector2::types::{CoverageFilterCriteria, CoverageStringComparison, CoverageStringFilter};

use super::{missing, timestamp, why};
use crate::domain::image::{ImageDigest, Repository};
use crate::domain::protocol::Why;
use crate::domain::scan::Coverage;

pub struct Inspector {
    client: Client,
}

impl Inspector {
    pub fn new(config: &SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }

    /// Inspector's coverage of one image. It cannot be asked by digest, only by the image's ARN.
    pub async fn coverage(&self, repository: &Repository, digest: &ImageDigest) -> Result<Option<Coverage>, Why> {
        let image = repository.image_arn(digest);
        let attempt = format!("read Inspector's coverage of {image}");
        let filter = CoverageStringFilter::builder().comparison(CoverageStringComparison::Equals).value(&image).build();
        let filter = filter.map_err(|error| Why { text: format!("could not {attempt}: {error}"), denied: false })?;
        let criteria = CoverageFilterCriteria::builder().resource_id(filter).build();
        let answer = self.client.list_coverage().filter_criteria(criteria).send().await.map_err(|error| why(&attempt, &error))?;
        let Some(resource) = answer.covered_resources.unwrap_or_default().into_iter().find(|resource| resource.resource_id == image) else { return Ok(None) };
        let status = resource.scan_status.ok_or_else(|| missing(&attempt, "scan status"))?;
        Ok(Some(Coverage {
            code: status.status_code.as_str().to_owned(),
            reason: status.reason.as_str().to_owned(),
            last_scanned_at: resource.last_scanned_at.as_ref().and_then(timestamp),
        }))
    }
}
