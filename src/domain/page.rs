//! One page of DescribeImageScanFindings: bytes as ECR sends them in, what it says of the scan out.
//!
//! A finding is some 3 KB of JSON, of which a tenth is kept. What is not kept is skipped and never becomes a value, and what is kept is
//! borrowed from the page until it lies in a [`Finding`]: 20,000 findings are 58 MB.
//!
//! Members that we do not know are no business of ours. One that we know and that is not what it should be makes the page unreadable:
//! guessed at, it could be a finding that is not there any more.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::finding::{Counts, Finding, FindingStatus, Fix, Package, Rating, yes_or_no};
use super::scan::Report;

#[derive(Debug)]
pub struct Page {
    /// The image of which ECR speaks, where it says so.
    pub digest: Option<String>,
    /// Where the list goes on.
    pub next: Option<String>,
    /// Whether there is the list that only Inspector fills, be it an empty one.
    pub is_inspectors: bool,
    pub report: Report,
}

#[derive(Debug, thiserror::Error)]
#[error("the page is not what ECR documents: {0}")]
pub struct Unreadable(#[from] serde_json::Error);

/// Reads a page.
pub fn read(page: &[u8]) -> Result<Page, Unreadable> {
    let answer: Answer = serde_json::from_slice(page)?;
    let next = answer.next_token.filter(|token| !token.is_empty());
    let mut report = Report { more: next.is_some(), ..Report::default() };
    if let Some(status) = answer.image_scan_status {
        (report.status, report.description) = (status.status, status.description);
    }
    let mut is_inspectors = false;
    if let Some(found) = answer.image_scan_findings {
        is_inspectors = found.enhanced_findings.is_some();
        report.listed = is_inspectors || found.findings.is_some();
        report.completed_at = found.image_scan_completed_at.and_then(Seconds::time);
        report.stated_counts = found.finding_severity_counts.map(|counts| Counts::stated(counts.iter().map(|(word, count)| (word.as_str(), *count))));
        let (basic, enhanced) = (found.findings.unwrap_or_default(), found.enhanced_findings.unwrap_or_default());
        report.has_basic_findings = !basic.is_empty();
        report.has_enhanced_findings = !enhanced.is_empty();
        report.findings = enhanced.into_iter().map(|Enhanced(finding)| finding).collect();
        report.findings.extend(basic.into_iter().map(|Basic(finding)| finding));
    }
    Ok(Page { digest: answer.image_id.and_then(|id| id.image_digest), next, is_inspectors, report })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    image_id: Option<ImageId>,
    image_scan_status: Option<ScanStatus>,
    image_scan_findings: Option<Found>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageId {
    image_digest: Option<String>,
}

#[derive(Deserialize)]
struct ScanStatus {
    status: Option<String>,
    description: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    image_scan_completed_at: Option<Seconds>,
    /// A count that is no count makes the page unreadable; as a zero it would call a list whole.
    finding_severity_counts: Option<BTreeMap<String, u64>>,
    findings: Option<Vec<Basic>>,
    enhanced_findings: Option<Vec<Enhanced>>,
}

/// Seconds since 1970, with fractions.
#[derive(Clone, Copy, Deserialize)]
struct Seconds(f64);

impl Seconds {
    /// None outside of the years that there are.
    fn time(self) -> Option<Timestamp> {
        let (whole, fraction) = (self.0.floor(), self.0 - self.0.floor());
        // Microseconds are what a double holds of our century.
        let micros = (fraction * 1e6).round();
        Timestamp::from_microsecond((whole as i64).checked_mul(1_000_000)?.checked_add(micros as i64)?).ok()
    }
}

struct Basic(Finding);

impl<'de> Deserialize<'de> for Basic {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Listed<'a> {
            #[serde(borrow)]
            name: Option<Text<'a>>,
            #[serde(borrow)]
            severity: Option<Text<'a>>,
            #[serde(borrow)]
            attributes: Option<Vec<Attribute<'a>>>,
        }
        #[derive(Deserialize)]
        struct Attribute<'a> {
            #[serde(borrow)]
            key: Option<Text<'a>>,
            #[serde(borrow)]
            value: Option<Text<'a>>,
        }
        let listed = Listed::deserialize(from)?;
        let attribute = |key: &str| {
            let attribute = listed.attributes.iter().flatten().find(|attribute| attribute.key.as_ref().is_some_and(|Text(text)| text == key));
            attribute.and_then(|attribute| attribute.value.as_ref()).map(|Text(text)| text.clone().into_owned())
        };
        let version = attribute("package_version");
        let packages = attribute("package_name").map(|name| Package { name, version, fixed_in: None }).into_iter().collect();
        Ok(Self(Finding { packages, ..Finding::new(owned(listed.name).unwrap_or_default(), rating(listed.severity.as_ref())) }))
    }
}

struct Enhanced(Finding);

impl<'de> Deserialize<'de> for Enhanced {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Listed<'a> {
            #[serde(borrow)]
            title: Option<Text<'a>>,
            finding_arn: Option<String>,
            #[serde(borrow)]
            severity: Option<Text<'a>>,
            #[serde(borrow)]
            status: Option<Text<'a>>,
            #[serde(borrow)]
            fix_available: Option<Text<'a>>,
            #[serde(borrow)]
            exploit_available: Option<Text<'a>>,
            first_observed_at: Option<Seconds>,
            package_vulnerability_details: Option<Details>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Details {
            vulnerability_id: Option<String>,
            vulnerable_packages: Option<Vec<Vulnerable>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Vulnerable {
            name: Option<String>,
            version: Option<String>,
            fixed_in_version: Option<String>,
        }
        let listed = Listed::deserialize(from)?;
        let (id, packages) = listed.package_vulnerability_details.map(|details| (details.vulnerability_id, details.vulnerable_packages)).unwrap_or_default();
        let package = |package: Vulnerable| Package {
            name: package.name.unwrap_or_default(),
            version: package.version,
            fixed_in: package.fixed_in_version.filter(|fixed| fixed != "NotAvailable"),
        };
        Ok(Self(Finding {
            id: id.or_else(|| owned(listed.title)).or_else(|| listed.finding_arn.clone()).unwrap_or_default(),
            severity: rating(listed.severity.as_ref()),
            status: FindingStatus::parse(word(listed.status.as_ref())),
            packages: packages.unwrap_or_default().into_iter().map(package).collect(),
            fix: Fix::parse(word(listed.fix_available.as_ref())),
            exploit: yes_or_no(word(listed.exploit_available.as_ref())),
            first_seen: listed.first_observed_at.and_then(Seconds::time),
            arn: listed.finding_arn,
            epss: None,
        }))
    }
}

/// A text that lies in the page, unless something in it was escaped.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Borrows;
        impl<'de> Visitor<'de> for Borrows {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_str(Borrows)
    }
}

fn word<'t>(text: Option<&'t Text<'_>>) -> Option<&'t str> {
    text.map(|Text(text)| text.as_ref())
}

fn rating(text: Option<&Text<'_>>) -> Rating {
    Rating::parse(word(text))
}

fn owned(text: Option<Text<'_>>) -> Option<String> {
    text.map(|Text(text)| text.into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::finding::Severity;

    fn page(answer: &Value) -> Page {
        read(answer.to_string().as_bytes()).unwrap()
    }

    fn found(body: Value) -> Value {
        json!({ "imageScanStatus": { "status": "ACTIVE" }, "imageScanFindings": body })
    }

    #[test]
    fn an_enhanced_finding_keeps_what_is_judged_and_nothing_else() {
        let finding = json!({
            "awsAccountId": "123456789012", "description": "Long: \"quoted\"\n", "exploitAvailable": "YES", "fixAvailable": "PARTIAL", "findingArn": "arn:1",
            "firstObservedAt": 1_773_487_613.25, "severity": "HIGH", "status": "SUPPRESSED", "title": "CVE-1 - xz",
            "packageVulnerabilityDetails": {
                "cvss": [{ "baseScore": 7.5, "more": [[[{}]]] }], "vulnerabilityId": "CVE-1",
                "vulnerablePackages": [{ "name": "x\u{e4}\"z", "version": "5.6.0", "fixedInVersion": "5.6.1" }, { "name": "b", "fixedInVersion": "NotAvailable" }],
            },
            "resources": [{ "id": "x", "title": "another", "severity": "LOW" }],
        });
        let body = json!({ "imageScanCompletedAt": 1_773_487_613, "findingSeverityCounts": { "HIGH": 1, "LOW": 0 }, "enhancedFindings": [finding] });
        let mut answer = found(body);
        answer["imageId"] = json!({ "imageDigest": "sha256:4f", "imageTag": "1" });
        answer["nextToken"] = json!("next");
        let page = page(&answer);
        assert_eq!((page.digest.as_deref(), page.next.as_deref(), page.is_inspectors), (Some("sha256:4f"), Some("next"), true));
        let package = |name: &str, version: Option<&str>, fixed_in: Option<&str>| Package {
            name: name.into(),
            version: version.map(str::to_owned),
            fixed_in: fixed_in.map(str::to_owned),
        };
        let expected = Finding {
            arn: Some("arn:1".into()),
            status: FindingStatus::Suppressed,
            packages: vec![package("x\u{e4}\"z", Some("5.6.0"), Some("5.6.1")), package("b", None, None)],
            fix: Some(Fix::Partial),
            exploit: Some(true),
            first_seen: Some("2026-03-14T11:26:53.25Z".parse().unwrap()),
            ..Finding::new("CVE-1", Rating::Rated(Severity::High))
        };
        let report = page.report;
        assert_eq!(report.findings, [expected]);
        assert_eq!(report.status.as_deref(), Some("ACTIVE"));
        assert_eq!(report.completed_at, Some("2026-03-14T11:26:53Z".parse().unwrap()));
        assert_eq!(report.stated_counts.map(|counts| counts.to_string()).as_deref(), Some("HIGH: 1"));
        assert!(report.listed && report.more && report.has_enhanced_findings && !report.has_basic_findings);
    }

    #[test]
    fn a_basic_finding_has_its_package_among_its_attributes() {
        let attributes = json!([{ "key": "package_version", "value": "1.1" }, { "key": "CVSS2_SCORE" }, { "key": "package_name", "value": "openssl" }]);
        let body = json!({ "findings": [{ "name": "CVE-2", "severity": "CRITICAL", "uri": "x", "attributes": attributes }, { "name": "CVE-3" }] });
        let page = page(&found(body));
        let packages = vec![Package { name: "openssl".into(), version: Some("1.1".into()), fixed_in: None }];
        let first = Finding { packages, ..Finding::new("CVE-2", Rating::Rated(Severity::Critical)) };
        assert_eq!(page.report.findings, [first, Finding::new("CVE-3", Rating::Undefined)]);
        assert!(page.report.has_basic_findings && !page.is_inspectors && page.next.is_none());
    }

    #[test]
    fn a_finding_is_called_by_what_there_is() {
        for (finding, id) in [
            (json!({ "packageVulnerabilityDetails": { "vulnerabilityId": "CVE-1" }, "title": "t", "findingArn": "a" }), "CVE-1"),
            (json!({ "packageVulnerabilityDetails": null, "title": "t", "findingArn": "a" }), "t"),
            (json!({ "findingArn": "a" }), "a"),
        ] {
            assert_eq!(page(&found(json!({ "enhancedFindings": [finding] }))).report.findings[0].id, id);
        }
    }

    #[test]
    fn a_list_that_is_missing_is_not_an_empty_one() {
        for (body, listed, is_inspectors) in [
            (json!({}), false, false),
            (json!({ "findings": null }), false, false),
            (json!({ "findings": [] }), true, false),
            (json!({ "enhancedFindings": [] }), true, true),
        ] {
            let page = page(&found(body.clone()));
            assert_eq!((page.report.listed, page.is_inspectors), (listed, is_inspectors), "{body}");
        }
        assert!(!page(&json!({ "imageScanStatus": { "status": "PENDING" } })).report.listed);
        assert!(!page(&json!({ "nextToken": "" })).report.more, "an empty token leads nowhere");
    }

    #[test]
    fn what_cannot_be_read_is_no_page() {
        for body in [
            json!({ "findings": {} }),
            json!({ "findings": [null] }),
            json!({ "enhancedFindings": [null] }),
            json!({ "enhancedFindings": [{ "severity": 7 }] }),
            json!({ "enhancedFindings": [{ "status": ["CLOSED"] }] }),
            json!({ "enhancedFindings": [{ "firstObservedAt": "yesterday" }] }),
            json!({ "enhancedFindings": [{ "packageVulnerabilityDetails": "CVE-1" }] }),
            json!({ "findingSeverityCounts": { "HIGH": -1 } }),
            json!({ "findingSeverityCounts": { "HIGH": 1.5 } }),
            json!({ "findingSeverityCounts": { "HIGH": null } }),
            json!({ "imageScanCompletedAt": "2026-03-14" }),
        ] {
            assert!(read(found(body.clone()).to_string().as_bytes()).is_err(), "{body}");
        }
        let error = read(found(json!({ "enhancedFindings": [{ "severity": 7 }] })).to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains("integer `7`, expected a text"), "{error}");
        let twice = r#"{"imageScanFindings":{"findings":[{"name":"CVE-1"}],"findings":[]}}"#;
        for text in ["", "null", "[]", "{", r#"{"imageScanFindings":{"findings":[{"name":"CVE-1"}"#, "{} {}", twice] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_is_read_to_the_microsecond_and_none_outside_of_all_years() {
        for (seconds, time) in [
            (0.0, Some("1970-01-01T00:00:00Z")),
            (-0.5, Some("1969-12-31T23:59:59.5Z")),
            (1_773_487_613.512, Some("2026-03-14T11:26:53.512Z")),
            (1e300, None),
            (-1e300, None),
        ] {
            assert_eq!(Seconds(seconds).time(), time.map(|time| time.parse().unwrap()), "{seconds}");
        }
    }
}
