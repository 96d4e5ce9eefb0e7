//! The ResponseURL: where CloudFormation wants its answer, signed in advance, so whoever holds it can answer in our name.
//!
//! It is kept as the text it came as (a URL library may encode its query anew, and then the signature is wrong), shown to
//! nobody, and checked before anything is sent to it: a request is JSON that anyone may write who may call the function.

use std::fmt;

use jiff::Timestamp;

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ResponseUrl(String);

/// Why nothing is sent there. Holds nothing of the URL; for a log there is [`ResponseUrl::host`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadResponseUrl {
    #[error("the request has no ResponseURL, so there is nowhere to send an answer")]
    Missing,
    #[error("the ResponseURL is no plain https address ({0}), so no answer is sent to it")]
    NotPlain(&'static str),
    #[error("the ResponseURL leads to a host where CloudFormation takes no answers, so none is sent")]
    ForeignHost,
}

/// The bucket that CloudFormation keeps in each region for answers starts with this.
const BUCKET: &str = "cloudformation-custom-resource-response-";

/// The end of every host name of a partition: aws, aws-cn, aws-iso, -b, -e, -f, aws-eusc (aws-us-gov shares the first).
const SUFFIXES: [&str; 7] = ["amazonaws.com", "amazonaws.com.cn", "c2s.ic.gov", "sc2s.sgov.gov", "cloud.adc-e.uk", "csp.hci.ic.gov", "amazonaws.eu"];

/// How long a ResponseURL is good for; the older kind of signature states the end, not the beginning.
const VALID_S: i64 = 7200;

impl ResponseUrl {
    /// The whole URL, for the one who sends the answer and for the table that keeps it until then.
    pub fn as_secret(&self) -> &str {
        &self.0
    }

    /// The host alone, for logs.
    pub fn host(&self) -> Option<&str> {
        let authority = authority(after_scheme(&self.0)?.1);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let host = host.split_once(':').map_or(host, |(host, _)| host);
        let plain = !host.is_empty() && host.len() <= 253 && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
        plain.then_some(host)
    }

    /// Whether an answer may be sent here: to CloudFormation's bucket in S3 by https, or to exactly this other origin.
    pub fn check(&self, test_origin: Option<&str>) -> Result<(), BadResponseUrl> {
        match plain_host(&self.0, test_origin).map_err(BadResponseUrl::NotPlain)? {
            Some(host) if !takes_answers(host) => Err(BadResponseUrl::ForeignHost),
            _ => Ok(()),
        }
    }

    /// Whether it leads to CloudFormation's bucket of another region than `region`: there CloudFormation has asked nothing of us.
    pub fn is_of_another_region(&self, region: &str) -> bool {
        let bucket = self.host().and_then(|host| host.split('.').next()?.strip_prefix(BUCKET));
        bucket.is_some_and(|of| of != region.replace('-', ""))
    }

    /// When CloudFormation signed it, which is when its patience began.
    pub fn signed_at(&self) -> Option<Timestamp> {
        let query = self.0.split_once('?')?.1.split('#').next()?;
        let value = |name: &str| query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value));
        value("X-Amz-Date").and_then(basic_time).or_else(|| {
            let expires: i64 = value("Expires")?.parse().ok()?;
            Timestamp::from_second(expires.checked_sub(VALID_S)?).ok()
        })
    }
}

/// The host of a plain https address; `None` where it is at exactly this other origin, which tests alone name.
pub fn plain_host<'a>(url: &'a str, test_origin: Option<&str>) -> Result<Option<&'a str>, &'static str> {
    // Clients differ in what they make of such letters, and some read a host behind them that we do not see.
    if !url.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        return Err("it holds letters that no address has");
    }
    let (scheme, rest) = after_scheme(url).ok_or("it names no host")?;
    let authority = authority(rest);
    if test_origin.is_some_and(|origin| origin == format!("{scheme}://{authority}")) {
        return Ok(None);
    }
    if scheme != "https" {
        return Err("it is not https");
    }
    if authority.contains('@') {
        return Err("it holds a user name");
    }
    if url.contains('#') {
        return Err("it holds a fragment");
    }
    let host = authority.strip_suffix(":443").unwrap_or(authority);
    if host.contains(':') {
        return Err("it names a port of its own");
    }
    Ok(Some(host))
}

/// Whether this host is one of S3's, in any partition. Anybody may have a bucket there.
pub fn is_of_s3(host: &str) -> bool {
    let is_service = |label: &str| label == "s3" || label.starts_with("s3-");
    let is_region = |label: &str| label.contains('-') && label.ends_with(|c: char| c.is_ascii_digit());
    SUFFIXES.iter().any(|suffix| {
        let Some(labels) = host.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.')) else { return false };
        // Further in front anybody may write `s3`: it can be the name of a load balancer, or of a database.
        match labels.split('.').collect::<Vec<_>>().as_slice() {
            [.., service] if is_service(service) => true,
            [.., service, "dualstack", region] | [.., service, region] => is_service(service) && is_region(region),
            _ => false,
        }
    })
}

/// `20260314T092653Z`.
fn basic_time(text: &str) -> Option<Timestamp> {
    let digits = |range: std::ops::Range<usize>| text.get(range).filter(|part| part.bytes().all(|b| b.is_ascii_digit()));
    if text.len() != 16 || text.get(8..9) != Some("T") || text.get(15..) != Some("Z") {
        return None;
    }
    let (date, time) = (digits(0..8)?, digits(9..15)?);
    format!("{}-{}-{}T{}:{}:{}Z", &date[..4], &date[4..6], &date[6..], &time[..2], &time[2..4], &time[4..]).parse().ok()
}

/// The three ways to write a bucket's host: `BUCKET.s3.SUFFIX`, `BUCKET.s3-REGION.SUFFIX`, `BUCKET.s3.REGION.SUFFIX`.
fn takes_answers(host: &str) -> bool {
    let name = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    SUFFIXES.iter().any(|suffix| {
        let Some(labels) = host.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.')) else { return false };
        let labels: Vec<&str> = labels.split('.').collect();
        let [bucket, service @ ..] = labels.as_slice() else { return false };
        let Some(of) = bucket.strip_prefix(BUCKET) else { return false };
        // The bucket is called by its region without dashes. Anybody can make one that only begins like it.
        let is_region = of.trim_end_matches(|c: char| c.is_ascii_digit());
        let is_region = is_region.len() < of.len() && !is_region.is_empty() && is_region.bytes().all(|b| b.is_ascii_lowercase());
        let is_there = |region: &str| name(region) && region.replace('-', "") == of;
        is_region
            && match service {
                ["s3"] => true,
                ["s3", region] => is_there(region),
                [dashed] => dashed.strip_prefix("s3-").is_some_and(is_there),
                _ => false,
            }
    })
}

fn after_scheme(url: &str) -> Option<(&str, &str)> {
    url.split_once("://")
}

fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

impl From<String> for ResponseUrl {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for ResponseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseUrl(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "https://cloudformation-custom-resource-response-euwest1.s3.eu-west-1.amazonaws.com/arn%3Aaws%3A/1%7CGate?X-Amz-Date=20260314T092653Z";

    fn url(text: &str) -> ResponseUrl {
        ResponseUrl::from(text.to_owned())
    }

    fn bucket_at(rest: &str) -> String {
        format!("https://cloudformation-custom-resource-response-{rest}")
    }

    #[test]
    fn an_answer_goes_to_cloudformations_bucket_in_every_way_to_write_it() {
        for rest in [
            "useast1.s3.amazonaws.com/x",
            "euwest1.s3-eu-west-1.amazonaws.com/x?a=b",
            "euwest1.s3.eu-west-1.amazonaws.com/x?a=b&c=%7C/@:\"'",
            "euwest1.s3.eu-west-1.amazonaws.com:443/x",
            "euwest1.s3.eu-west-1.amazonaws.com",
            "cnnorth1.s3.cn-north-1.amazonaws.com.cn/x",
            "cnnorth1.s3-cn-north-1.amazonaws.com.cn/x",
            "usgovwest1.s3-us-gov-west-1.amazonaws.com/x",
            "usisoeast1.s3.us-iso-east-1.c2s.ic.gov/x",
            "usisobeast1.s3.us-isob-east-1.sc2s.sgov.gov/x",
            "euscdeeast1.s3.eusc-de-east-1.amazonaws.eu/x",
        ] {
            assert_eq!(url(&bucket_at(rest)).check(None), Ok(()), "{rest}");
        }
    }

    #[test]
    fn an_answer_goes_to_the_bucket_of_ones_own_region() {
        assert!(!url(GOOD).is_of_another_region("eu-west-1"));
        assert!(url(GOOD).is_of_another_region("us-east-1"));
        assert!(url(&bucket_at("evil1.s3.amazonaws.com/x")).is_of_another_region("eu-west-1"));
        assert!(!url("http://127.0.0.1:4566/x").is_of_another_region("eu-west-1"), "a test's own place");
    }

    #[test]
    fn an_answer_goes_nowhere_else() {
        use BadResponseUrl::ForeignHost;
        let not = BadResponseUrl::NotPlain;
        let (letters, user) = (not("it holds letters that no address has"), not("it holds a user name"));
        for (text, why) in [
            ("", not("it names no host")),
            ("pre-signed-url", not("it names no host")),
            ("//cloudformation-custom-resource-response-x.s3.amazonaws.com/", not("it names no host")),
            ("https://", ForeignHost),
            ("https:///x", ForeignHost),
            ("https://evil.example/x", ForeignHost),
            ("https://bucket.s3.amazonaws.com/x", ForeignHost),
            (&bucket_at("euwest1.s3.us-east-1.amazonaws.com/x"), ForeignHost),
            (&bucket_at("euwest1.s3-us-east-1.amazonaws.com/x"), ForeignHost),
            (&bucket_at("evil.s3.amazonaws.com/x"), ForeignHost),
            (&bucket_at("evil-corp1.s3.amazonaws.com/x"), ForeignHost),
            ("https://s3.amazonaws.com/cloudformation-custom-resource-response-x/y", ForeignHost),
            ("https://evil.example/cloudformation-custom-resource-response-x.s3.amazonaws.com/", ForeignHost),
            ("https://evil.example?cloudformation-custom-resource-response-x.s3.amazonaws.com/", ForeignHost),
            ("http://cloudformation-custom-resource-response-x.s3.amazonaws.com/", not("it is not https")),
            ("HTTPS://cloudformation-custom-resource-response-x.s3.amazonaws.com/", not("it is not https")),
            ("ftp://cloudformation-custom-resource-response-x.s3.amazonaws.com/", not("it is not https")),
            ("https:evil.example://cloudformation-custom-resource-response-x.s3.amazonaws.com/", not("it is not https")),
            (&bucket_at("x.s3.amazonaws.com@evil.example/"), user.clone()),
            (&bucket_at("x.s3.amazonaws.com:443@evil.example/"), user.clone()),
            ("https://user:word@cloudformation-custom-resource-response-x.s3.amazonaws.com/", user),
            (&bucket_at("x.s3.amazonaws.com\\@evil.example/"), letters.clone()),
            ("https://evil.example\\.s3.amazonaws.com/", letters.clone()),
            (&bucket_at("x.s3.amazonaws.com /"), letters.clone()),
            (&format!(" {GOOD}"), letters.clone()),
            (&format!("{GOOD}\n"), letters.clone()),
            (&format!("{GOOD}\0"), letters.clone()),
            (&bucket_at("x.s3.amazonaws.com\r\nHost: evil.example/"), letters.clone()),
            (&bucket_at("\u{ff0e}x.s3.amazonaws.com/"), letters),
            (&bucket_at("x.s3.amazonaws.com/#@evil.example"), not("it holds a fragment")),
            (&bucket_at("x.s3.amazonaws.com:8443/"), not("it names a port of its own")),
            (&bucket_at("x.s3.amazonaws.com:/"), not("it names a port of its own")),
            (&bucket_at("x.s3.amazonaws.com:443:443/"), not("it names a port of its own")),
            (&bucket_at("x.S3.amazonaws.com/"), ForeignHost),
            (&bucket_at("X.s3.amazonaws.com/"), ForeignHost),
            (&bucket_at("x.s3.amazonaws.com./"), ForeignHost),
            (&bucket_at("x.s3..amazonaws.com/"), ForeignHost),
            (&bucket_at("x.s3.amazonaws.com.evil.example/"), ForeignHost),
            (&bucket_at("x.s3.evil.com/"), ForeignHost),
            (&bucket_at("x.s3.evilamazonaws.com/"), ForeignHost),
            (&bucket_at("x.s3-.amazonaws.com/"), ForeignHost),
            (&bucket_at("x.s3evil.amazonaws.com/"), ForeignHost),
            (&bucket_at("x.s3.eu-west-1.elb.amazonaws.com/"), ForeignHost),
            (&bucket_at("x.ec2.eu-west-1.amazonaws.com/"), ForeignHost),
            (&bucket_at("x.amazonaws.com/"), ForeignHost),
            (&bucket_at("x%2es3.amazonaws.com/"), ForeignHost),
            (&bucket_at(".s3.amazonaws.com/"), ForeignHost),
            ("https://evil.cloudformation-custom-resource-response-x.s3.amazonaws.com/", ForeignHost),
            ("https://s3.amazonaws.com/", ForeignHost),
            ("https://amazonaws.com/", ForeignHost),
        ] {
            assert_eq!(url(text).check(None), Err(why), "{text:?}");
        }
    }

    #[test]
    fn a_host_is_s3s_by_the_service_behind_the_bucket() {
        for host in [
            "s3.amazonaws.com",
            "bucket.s3.amazonaws.com",
            "bucket.with.dots.s3-eu-west-1.amazonaws.com",
            "bucket.s3.eu-west-1.amazonaws.com",
            "bucket.s3.dualstack.eu-west-1.amazonaws.com",
            "bucket.s3-fips.us-gov-west-1.amazonaws.com",
            "bucket.s3-fips.dualstack.us-gov-west-1.amazonaws.com",
            "bucket.s3-accelerate.amazonaws.com",
            "s3.cn-north-1.amazonaws.com.cn",
            "bucket.s3.us-iso-east-1.c2s.ic.gov",
        ] {
            assert!(is_of_s3(host), "{host}");
        }
        for host in [
            "s3-evil-123456789.eu-west-1.elb.amazonaws.com",
            "s3.abcdefghijkl.eu-west-1.rds.amazonaws.com",
            "s3.evil.amazonaws.com",
            "bucket.s3.eu-west-1.amazonaws.com.evil.example",
            "bucket.s3x.eu-west-1.amazonaws.com",
            "s3.dualstack.amazonaws.com",
            "amazonaws.com",
            "",
        ] {
            assert!(!is_of_s3(host), "{host}");
        }
    }

    #[test]
    fn a_test_may_name_one_other_origin_and_that_is_taken_to_the_letter() {
        let origin = Some("http://127.0.0.1:4566");
        for (text, allowed) in [
            ("http://127.0.0.1:4566/_answers/1", true),
            ("http://127.0.0.1:4566?x", true),
            ("http://127.0.0.1:45660/", false),
            ("http://127.0.0.1:4566@evil.example/", false),
            ("http://127.0.0.1:4566\\@evil.example/", false),
            ("http://127.0.0.1/", false),
            ("https://127.0.0.1:4566/", false),
            ("http://localhost:4566/", false),
            (GOOD, true),
        ] {
            assert_eq!(url(text).check(origin).is_ok(), allowed, "{text}");
        }
        assert!(url("http://127.0.0.1:4566/").check(None).is_err());
        assert!(url("http://127.0.0.1:4566/").check(Some("")).is_err());
    }

    #[test]
    fn the_signature_says_when_the_wait_began() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        for (query, signed) in [
            ("?X-Amz-Algorithm=A&X-Amz-Date=20260314T092653Z&X-Amz-Expires=7200", at("2026-03-14T09:26:53Z")),
            ("?AWSAccessKeyId=EXAMPLE&Expires=1773487613&Signature=x", at("2026-03-14T09:26:53Z")),
            ("?X-Amz-Date=20260314T092653Z&Expires=1", at("2026-03-14T09:26:53Z")),
            ("?X-Amz-Date=yesterday&Expires=1773487613", at("2026-03-14T09:26:53Z")),
            ("", None),
            ("/X-Amz-Date=20260314T092653Z", None),
            ("?X-Amz-Date", None),
            ("?X-Amz-Date=", None),
            ("?X-Amz-Date=20261314T092653Z", None),
            ("?X-Amz-Date=2026031aT092653Z", None),
            ("?X-Amz-Date=+0260314T092653Z", None),
            ("?X-Amz-Date=2026é314T09265Z", None),
            ("?Expires=never", None),
            ("?Expires=9223372036854775807", None),
            ("?Expires=-9223372036854775808", None),
            ("?x=1#&X-Amz-Date=20260314T092653Z", None),
        ] {
            assert_eq!(url(&format!("https://bucket{query}")).signed_at(), signed, "{query}");
        }
    }

    #[test]
    fn a_log_may_name_the_host_and_nothing_else() {
        for (text, host) in [
            (GOOD, Some("cloudformation-custom-resource-response-euwest1.s3.eu-west-1.amazonaws.com")),
            ("http://127.0.0.1:4566/secret", Some("127.0.0.1")),
            ("https://user:word@evil.example:1/secret", Some("evil.example")),
            ("https://secret text/", None),
            ("secret", None),
            ("https://?secret", None),
        ] {
            assert_eq!(url(text).host(), host, "{text}");
        }
        assert_eq!(format!("{:?} {:#?}", url(GOOD), Some(url(GOOD))), "ResponseUrl(***) Some(\n    ResponseUrl(***),\n)");
    }
}
