//! Events, as AWS sends them.
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::local::images::Image;
use crate::local::scans::{Coverage, Finding, Findings};

/// One entry for PutEvents.
#[derive(Clone, Debug)]
pub struct Event {
    source: &'static str,
    detail_type: &'static str,
    pub detail: Value,
    resources: Vec<String>,
    at: Timestamp,
    id: Option<String>,
    account: Option<String>,
    region: Option<String>,
}

impl Event {
    pub fn new(source: &'static str, detail_type: &'static str, detail: Value) -> Self {
        Self { source, detail_type, detail, resources: Vec::new(), at: Timestamp::now(), id: None, account: None, region: None }
    }

    pub fn pushed(image: &Image) -> Self {
        let mut detail = json!({
            "result": "SUCCESS", "repository-name": image.repository(), "image-digest": image.digest(), "action-type": "PUSH",
            "image-tag": image.tag(), "manifest-media-type": image.manifest.kind,
        });
        if !image.manifest.artifact.is_empty() {
            detail["artifact-media-type"] = json!(image.manifest.artifact);
        }
        Self::new("aws.ecr", "ECR Image Action", detail)
    }

    pub fn deleted(image: &Image) -> Self {
        let mut event = Self::pushed(image);
        event.detail["action-type"] = json!("DELETE");
        event
    }

    /// A basic scan is done.
    pub fn scanned(image: &Image, found: &Findings) -> Self {
        let detail = json!({
            "scan-status": "COMPLETE", "repository-name": image.repository(), "finding-severity-counts": found.counts(),
            "image-digest": image.digest(), "image-tags": tags(image),
        });
        Self::new("aws.ecr", "ECR Image Scan", detail).about(image.scanned.repository_arn())
    }

    /// The first enhanced scan is done. It counts no LOW: TOTAL holds them.
    pub fn inspected(image: &Image, found: &Findings) -> Self {
        let counts = found.counts();
        let of = |severity: &str| counts[severity].as_u64().unwrap_or_default();
        let total: u64 = counts.as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
        let detail = json!({
            "scan-status": "INITIAL_SCAN_COMPLETE", "repository-name": image.scanned.repository_arn(), "image-digest": image.digest(),
            "finding-severity-counts": { "CRITICAL": of("CRITICAL"), "HIGH": of("HIGH"), "MEDIUM": of("MEDIUM"), "TOTAL": total },
            "image-tags": tags(image), "version": "1.0",
        });
        Self::new("aws.inspector2", "Inspector2 Scan", detail).about(image.scanned.arn())
    }

    pub fn finding(image: &Image, finding: &Finding) -> Self {
        let mut detail = finding.inspector(&image.scanned);
        // In events these are texts of a form of their own.
        for time in ["firstObservedAt", "lastObservedAt", "updatedAt"] {
            detail[time] = json!("Wed Sep 04 16:55:38.411 UTC 2024");
        }
        detail["resources"][0]["details"]["awsEcrContainerImage"]["pushedAt"] = json!("Wed Sep 04 16:50:11.000 UTC 2024");
        Self::new("aws.inspector2", "Inspector2 Finding", detail).about(image.scanned.arn())
    }

    pub fn coverage(image: &Image, coverage: &Coverage) -> Self {
        let detail = json!({
            "scanStatus": { "reason": coverage.reason, "statusCodeValue": coverage.code }, "scanType": "PACKAGE", "provider": "AWS",
            "providerAccountId": image.scanned.account, "providerRegion": crate::local::wire::REGION, "eventTimestamp": Timestamp::now().to_string(), "version": "1.0.0",
        });
        Self::new("aws.inspector2", "Inspector2 Coverage", detail).about(image.scanned.arn())
    }

    pub fn about(mut self, arn: String) -> Self {
        self.resources = vec![arn];
        self
    }

    pub fn at(mut self, at: Timestamp) -> Self {
        self.at = at;
        self
    }

    /// The envelope's id: the same in an event that comes twice.
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    pub fn in_account(mut self, account: &str) -> Self {
        self.account = Some(account.to_owned());
        self
    }

    pub fn in_region(mut self, region: &str) -> Self {
        self.region = Some(region.to_owned());
        self
    }

    /// PutEvents takes whole seconds, as events have them.
    /// The event as EventBridge hands it on to a queue.
    pub fn delivered(&self, account: &str, id: &str) -> Value {
        json!({
            "version": "0", "id": id, "detail-type": self.detail_type, "source": self.source, "account": account, "region": crate::local::wire::REGION,
            "time": self.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), "resources": self.resources, "detail": self.detail,
        })
    }

    pub fn entry(&self) -> Value {
        let mut entry = json!({
            "Source": self.source, "DetailType": self.detail_type, "Detail": self.detail.to_string(), "Resources": self.resources, "Time": self.at.as_second(),
        });
        for (name, given) in [("Id", &self.id), ("Account", &self.account), ("Region", &self.region)] {
            if let Some(given) = given {
                entry[name] = json!(given);
            }
        }
        entry
    }
}

fn tags(image: &Image) -> Vec<&str> {
    image.tag.iter().map(String::as_str).collect()
}
