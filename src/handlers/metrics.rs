//! Numbers for CloudWatch, as lines of the log (embedded metric format): no call, no permission, nothing that can fail.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

const NAMESPACE: &str = "EcrScanVerifier";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Count,
    Seconds,
}

/// Writes one number of this pipeline.
pub fn count(pipeline: &str, name: &'static str, value: i64, unit: Unit) {
    println!("{}", line(pipeline, None, &[(name, value, unit)], Timestamp::now()));
}

/// A gate has decided: what, and how long the deployment had to wait for it.
pub fn decision(pipeline: &str, verdict: &str, waited_s: i64) {
    println!("{}", line(pipeline, Some(verdict), &[("GateDecisions", 1, Unit::Count)], Timestamp::now()));
    count(pipeline, "GateWaitSeconds", waited_s, Unit::Seconds);
}

fn line(pipeline: &str, verdict: Option<&str>, metrics: &[(&'static str, i64, Unit)], now: Timestamp) -> Value {
    let named: Vec<Value> = metrics.iter().map(|(name, _, unit)| json!({ "Name": name, "Unit": format!("{unit:?}") })).collect();
    let dimensions = if verdict.is_some() { json!([["Pipeline"], ["Pipeline", "Verdict"]]) } else { json!([["Pipeline"]]) };
    let mut members = Map::from_iter([
        (
            "_aws".to_owned(),
            json!({
                "Timestamp": now.as_millisecond(),
                "CloudWatchMetrics": [{ "Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": named }],
            }),
        ),
        ("Pipeline".to_owned(), json!(pipeline)),
    ]);
    members.extend(verdict.map(|verdict| ("Verdict".to_owned(), json!(verdict))));
    members.extend(metrics.iter().map(|(name, value, _)| ((*name).to_owned(), json!(value))));
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_line_that_cloudwatch_reads() {
        let now = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
        assert_eq!(
            line("demo", Some("BLOCK"), &[("GateDecisions", 1, Unit::Count)], now),
            json!({
                "_aws": { "Timestamp": 1_700_000_000_123_i64, "CloudWatchMetrics": [{
                    "Namespace": "EcrScanVerifier", "Dimensions": [["Pipeline"], ["Pipeline", "Verdict"]],
                    "Metrics": [{ "Name": "GateDecisions", "Unit": "Count" }],
                }] },
                "Pipeline": "demo", "Verdict": "BLOCK", "GateDecisions": 1,
            })
        );
    }
}
