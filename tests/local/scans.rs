//! Scripted scans: what ECR and Inspector say about an image, answer by answer, in the words of a test.
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::local::faults::Fault;

/// What one read of an image's scan is told. A script is a list of these; the last one stays.
#[derive(Clone, Debug)]
pub enum Scan {
    /// ScanNotFoundException.
    NotFound,
    Pending,
    InProgress,
    /// Basic scanning is done; or an enhanced scan on push is.
    Complete(Findings),
    /// Covered by continuous scanning. May precede its findings.
    Active(Findings),
    Failed(&'static str),
    Unsupported,
    /// Any other status text, with or without findings.
    Status(&'static str, Option<Findings>),
    Fails(Fault),
    /// The whole answer, for shapes that nobody foresaw.
    Raw(Value),
}

/// What a scan found, when it was done, and how much it claims to have found.
#[derive(Clone, Debug)]
pub struct Findings {
    list: Vec<Finding>,
    completed_at: Option<Timestamp>,
    counts: Option<BTreeMap<String, u64>>,
}

impl Findings {
    /// A scan that was done just now, with counts as the list has them.
    pub fn of(list: impl IntoIterator<Item = Finding>) -> Self {
        let list: Vec<_> = list.into_iter().collect();
        let mut counts = BTreeMap::new();
        for finding in &list {
            *counts.entry(finding.severity.to_owned()).or_default() += 1;
        }
        Self { list, completed_at: Some(Timestamp::now()), counts: Some(counts) }
    }

    pub fn none() -> Self {
        Self::of([])
    }

    /// What enhanced scanning says before it has looked: an empty list, no counts, no completed time.
    pub fn not_yet() -> Self {
        Self { list: Vec::new(), completed_at: None, counts: None }
    }

    pub fn completed_at(mut self, at: impl Into<Option<Timestamp>>) -> Self {
        self.completed_at = at.into();
        self
    }

    pub fn claiming<'a>(mut self, counts: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        self.counts = Some(counts.into_iter().map(|(severity, n)| (severity.to_owned(), n)).collect());
        self
    }

    pub fn without_counts(mut self) -> Self {
        self.counts = None;
        self
    }

    pub fn counts(&self) -> Value {
        json!(self.counts.clone().unwrap_or_default())
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn list(&self) -> &[Finding] {
        &self.list
    }

    /// ECR's `imageScanFindings`, this page of it.
    pub fn page(&self, image: &Scanned, enhanced: bool, from: usize, to: usize) -> Value {
        let page = self.list.get(from..to.min(self.list.len())).unwrap_or_default();
        let mut body = json!({});
        if let Some(at) = self.completed_at {
            body["imageScanCompletedAt"] = json!(at.as_second());
            body["vulnerabilitySourceUpdatedAt"] = json!(at.as_second() - 3600);
        }
        if let Some(counts) = &self.counts {
            body["findingSeverityCounts"] = json!(counts);
        }
        if enhanced {
            body["enhancedFindings"] = page.iter().map(|finding| finding.enhanced(image)).collect();
        } else {
            body["findings"] = page.iter().map(Finding::basic).collect();
        }
        body
    }
}

/// The image that was scanned, as answers and events name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scanned {
    pub account: String,
    pub repository: String,
    pub digest: String,
}

impl Scanned {
    pub fn repository_arn(&self) -> String {
        format!("arn:aws:ecr:{}:{}:repository/{}", crate::local::wire::REGION, self.account, self.repository)
    }

    /// The resource id by which Inspector knows the image.
    pub fn arn(&self) -> String {
        format!("{}/{}", self.repository_arn(), self.digest)
    }
}

#[derive(Clone, Debug)]
pub struct Finding {
    id: String,
    severity: &'static str,
    package: String,
    version: String,
    fixed_in: Option<String>,
    status: &'static str,
    exploit: bool,
    epss: Option<f64>,
}

/// `finding("CVE-2024-3094", "CRITICAL").package("xz-utils", "5.6.0").fixed_in("5.6.1")`
pub fn finding(id: impl Into<String>, severity: &'static str) -> Finding {
    let (package, version) = ("openssl".to_owned(), "3.0.11".to_owned());
    Finding { id: id.into(), severity, package, version, fixed_in: None, status: "ACTIVE", exploit: false, epss: None }
}

impl Finding {
    pub fn package(mut self, name: &str, version: &str) -> Self {
        (self.package, self.version) = (name.to_owned(), version.to_owned());
        self
    }

    pub fn fixed_in(mut self, version: &str) -> Self {
        self.fixed_in = Some(version.to_owned());
        self
    }

    pub fn suppressed(mut self) -> Self {
        self.status = "SUPPRESSED";
        self
    }

    pub fn closed(mut self) -> Self {
        self.status = "CLOSED";
        self
    }

    pub fn exploited(mut self) -> Self {
        self.exploit = true;
        self
    }

    pub fn epss(mut self, score: f64) -> Self {
        self.epss = Some(score);
        self
    }

    pub fn arn(&self, image: &Scanned) -> String {
        let id: String = self.id.bytes().chain(image.digest.bytes().skip(7)).map(|b| format!("{b:02x}")).collect();
        format!("arn:aws:inspector2:{}:{}:finding/{}", crate::local::wire::REGION, image.account, &id[..32])
    }

    fn basic(&self) -> Value {
        json!({
            "name": self.id, "severity": self.severity, "description": format!("What is wrong with {}.", self.package),
            "uri": format!("https://nvd.nist.gov/vuln/detail/{}", self.id),
            "attributes": [
                { "key": "package_name", "value": self.package }, { "key": "package_version", "value": self.version },
                { "key": "CVSS2_VECTOR", "value": "AV:N/AC:L/Au:N/C:P/I:P/A:P" }, { "key": "CVSS2_SCORE", "value": "7.5" },
            ],
        })
    }

    fn enhanced(&self, image: &Scanned) -> Value {
        let now = Timestamp::now().as_second();
        json!({
            "awsAccountId": image.account, "findingArn": self.arn(image), "type": "PACKAGE_VULNERABILITY", "status": self.status,
            "severity": self.severity, "title": format!("{} - {}", self.id, self.package), "description": format!("What is wrong with {}.", self.package),
            "firstObservedAt": now, "lastObservedAt": now, "updatedAt": now, "score": 7.5,
            "fixAvailable": if self.fixed_in.is_some() { "YES" } else { "NO" }, "exploitAvailable": if self.exploit { "YES" } else { "NO" },
            "remediation": { "recommendation": { "text": "None Provided" } },
            "packageVulnerabilityDetails": self.details(),
            "resources": [{ "id": image.arn(), "type": "AWS_ECR_CONTAINER_IMAGE", "details": { "awsEcrContainerImage": {
                "architecture": "amd64", "imageHash": image.digest, "platform": "DEBIAN_12", "pushedAt": now, "registry": image.account, "repositoryName": image.repository,
            } } }],
        })
    }

    fn details(&self) -> Value {
        let fixed = self.fixed_in.as_deref().unwrap_or("NotAvailable");
        json!({
            "vulnerabilityId": self.id, "source": "NVD", "sourceUrl": format!("https://nvd.nist.gov/vuln/detail/{}", self.id), "vendorSeverity": self.severity,
            "cvss": [], "referenceUrls": [], "relatedVulnerabilities": [],
            "vulnerablePackages": [{ "name": self.package, "version": self.version, "arch": "X86_64", "epoch": 0, "packageManager": "OS", "fixedInVersion": fixed }],
        })
    }

    /// A finding as Inspector's own ListFindings has it.
    pub fn inspector(&self, image: &Scanned) -> Value {
        let mut body = self.enhanced(image);
        body["inspectorScore"] = body["score"].take();
        body.as_object_mut().expect("an object").remove("score");
        if let Some(score) = self.epss {
            body["epss"] = json!({ "score": score });
        }
        body["resources"][0]["region"] = json!(crate::local::wire::REGION);
        body["resources"][0]["partition"] = json!("aws");
        body
    }
}

/// What Inspector says of an image's coverage.
#[derive(Clone, Debug)]
pub struct Coverage {
    pub code: &'static str,
    pub reason: &'static str,
    pub last_scanned: Option<Timestamp>,
}

impl Coverage {
    pub fn active(reason: &'static str) -> Self {
        Self { code: "ACTIVE", reason, last_scanned: None }
    }

    pub fn inactive(reason: &'static str) -> Self {
        Self { code: "INACTIVE", reason, last_scanned: None }
    }

    pub fn scanned_at(mut self, at: Timestamp) -> Self {
        self.last_scanned = Some(at);
        self
    }

    pub fn resource(&self, image: &Scanned) -> Value {
        let mut body = json!({
            "resourceType": "AWS_ECR_CONTAINER_IMAGE", "resourceId": image.arn(), "accountId": image.account, "scanType": "PACKAGE",
            "scanStatus": { "statusCode": self.code, "reason": self.reason }, "resourceMetadata": { "ecrImage": { "tags": [] } },
        });
        if let Some(at) = self.last_scanned {
            body["lastScannedAt"] = json!(at.as_second());
        }
        body
    }
}
