//! Amazon Inspector: whether it has scanned an image, what keeps it from doing so, and how likely its findings are exploited.
//!
//! IAM: `inspector2:ListCoverage`, `inspector2:ListFindings` (they have no resource types).

use std::collections::HashMap;
use std::time::Instant;

use aws_config::SdkConfig;
use aws_sdk_inspector2::Client;
use aws_sdk_inspector2::types::{CoverageFilterCriteria, CoverageStringComparison, CoverageStringFilter, FilterCriteria, StringComparison, StringFilter};

use super::{missing, timestamp, why};
use crate::domain::finding::Epss;
use crate::domain::image::{ImageDigest, Repository};
use crate::domain::protocol::{PageToken, Why};
use crate::domain::scan::{Coverage, Report};

/// The most that may be asked for; Inspector gives 25 a page, whatever one asks.
const PAGE: i32 = 100;

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

    /// Writes into a whole list of findings how likely each is exploited: ECR's answer, from which the list is, does not say so.
    /// At `until` it stops after a page, and answers where to go on.
    ///
    /// What Inspector does not list, or lists without a score, stays unscored. So a list of its that lags behind can make an image
    /// look worse, never better.
    pub async fn read_epss(
        &self,
        repository: &Repository,
        digest: &ImageDigest,
        report: &mut Report,
        from: Option<PageToken>,
        until: Instant,
    ) -> Result<Option<PageToken>, Why> {
        let attempt = format!("read how likely the findings of {}@{digest} are exploited", repository.name);
        let filter = |value: &str| StringFilter::builder().comparison(StringComparison::Equals).value(value).build();
        let unbuilt = |error: &dyn std::fmt::Display| Why::new(format!("could not {attempt}: {error}"));
        let criteria = FilterCriteria::builder()
            .ecr_image_hash(filter(digest.as_str()).map_err(|error| unbuilt(&error))?)
            .ecr_image_repository_name(filter(&repository.name).map_err(|error| unbuilt(&error))?)
            .build();
        let mut places: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, finding) in report.findings.iter().enumerate() {
            if let Some(arn) = &finding.arn {
                places.entry(arn.clone()).or_default().push(place);
            }
        }
        let mut token = from.map(|token| token.0);
        // An image without findings has nothing to be asked about.
        while !report.findings.is_empty() {
            let request = self.client.list_findings().filter_criteria(criteria.clone()).max_results(PAGE).set_next_token(token.clone());
            let page = request.send().await.map_err(|error| why(&attempt, &error))?;
            for finding in page.findings.unwrap_or_default() {
                let epss = finding.epss.and_then(|epss| Epss::of(epss.score));
                for place in places.get(&finding.finding_arn).into_iter().flatten() {
                    // Listed twice, the higher score counts.
                    let known = &mut report.findings[*place].epss;
                    *known = epss.max(*known);
                }
            }
            let next = page.next_token.filter(|token| !token.is_empty());
            if next.is_some() && next == token {
                return Err(unbuilt(&"its pages lead in a circle"));
            }
            let Some(next) = next else { break };
            if Instant::now() >= until {
                return Ok(Some(PageToken(next)));
            }
            token = Some(next);
        }
        report.says_epss = true;
        Ok(None)
    }
}
