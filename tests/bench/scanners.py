"""What ECR and Inspector say of the images of a run. An image is called by a word; its manifest, and so its digest, follow from it."""
import hashlib
import json
import time

ACCOUNT, REGION, REPOSITORY = "123456789012", "eu-west-1", "team/web-app"
REPOSITORY_ARN = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{REPOSITORY}"
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
PAGE = 1000
# None of them is CRITICAL or HIGH: the gate lets the image pass, and every finding has to be counted for that.
SEVERITIES = ("MEDIUM", "LOW", "MEDIUM", "INFORMATIONAL", "LOW", "UNTRIAGED")
WORDS = ("An issue was found in how untrusted input of this package is parsed. Whoever can hand it a crafted file may read beyond the "
         "end of a buffer, which can end the process or disclose some of its memory. ") * 3


def manifest(name):
    layer = hashlib.sha256(name.encode()).hexdigest()
    return json.dumps({
        "schemaVersion": 2, "mediaType": MEDIA_TYPE,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": f"sha256:{layer}", "size": 1469},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": f"sha256:{layer}", "size": 30428708}],
    })


def digest(name):
    return "sha256:" + hashlib.sha256(manifest(name).encode()).hexdigest()


def counts(findings):
    said = {}
    for n in range(findings):
        severity = SEVERITIES[n % len(SEVERITIES)]
        said[severity] = said.get(severity, 0) + 1
    return said


def finding(n):
    """An enhanced finding of about 2 KB, as ECR hands it on."""
    cve, package, seen = f"CVE-2025-{10000 + n}", f"library-{n % 400}", 1773480000 + n
    vector = "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:U/C:L/I:N/A:L"
    return {
        "awsAccountId": ACCOUNT, "description": WORDS, "exploitAvailable": "NO", "fixAvailable": "YES",
        "findingArn": f"arn:aws:inspector2:{REGION}:{ACCOUNT}:finding/{hashlib.md5(cve.encode()).hexdigest()}",
        "firstObservedAt": seen, "lastObservedAt": seen, "updatedAt": seen,
        "packageVulnerabilityDetails": {
            "cvss": [{"baseScore": 5.4, "scoringVector": vector, "source": source, "version": "3.1"} for source in ("NVD", "DEBIAN_CVE")],
            "referenceUrls": [f"https://bugs.example.org/{cve}/{k}" for k in range(5)], "relatedVulnerabilities": [],
            "source": "DEBIAN_CVE", "sourceUrl": f"https://security.example.org/tracker/{cve}", "vendorCreatedAt": seen, "vendorSeverity": "medium",
            "vulnerabilityId": cve,
            "vulnerablePackages": [{
                "arch": "AMD64", "epoch": 0, "name": f"{package}{part}", "packageManager": "OS", "release": "4+deb12u1", "version": f"2.{n % 50}.1",
                "fixedInVersion": f"0:2.{n % 50}.1-4+deb12u2", "sourceLayerHash": "sha256:" + hashlib.sha256(package.encode()).hexdigest(),
            } for part in ("", "-dev")],
        },
        "remediation": {"recommendation": {"text": "None Provided"}},
        "resources": [{
            "details": {"awsEcrContainerImage": {
                "architecture": "amd64", "imageHash": "sha256:" + "5c" * 32, "imageTags": ["1.4.2"], "platform": "DEBIAN_12", "pushedAt": seen,
                "registry": ACCOUNT, "repositoryName": REPOSITORY}},
            "id": f"{REPOSITORY_ARN}/sha256:{'5c' * 32}", "tags": {}, "type": "AWS_ECR_CONTAINER_IMAGE",
        }],
        "score": 5.4, "scoreDetails": {"cvss": {"adjustments": [], "score": 5.4, "scoreSource": "DEBIAN_CVE", "scoringVector": vector, "version": "3.1"}},
        "severity": SEVERITIES[n % len(SEVERITIES)], "status": "ACTIVE", "title": f"{cve} - {package}", "type": "PACKAGE_VULNERABILITY",
    }


class Scanners:
    def __init__(self):
        self.images, self.pages = {}, {}

    def says(self, name, findings):
        """The image is there; `findings`: so many, or None: not scanned yet. The pages are made now, not while somebody waits for them."""
        self.images[digest(name)] = {"manifest": manifest(name), "findings": findings, "since": int(time.time())}
        for start in range(0, findings or 0, PAGE):
            self.page(start, min(findings, start + PAGE))

    def page(self, start, end):
        if (start, end) not in self.pages:
            self.pages[start, end] = json.dumps([finding(n) for n in range(start, end)], separators=(",", ":"))
        return self.pages[start, end]

    def answer(self, operation, call):
        """Status and body, or None for what nobody here knows."""
        return getattr(self, operation, lambda _: None)(call)

    def image(self, call):
        return self.images.get((call.get("imageId") or {}).get("imageDigest"))

    def DescribeImageScanFindings(self, call):
        image = self.image(call)
        if not image or image["findings"] is None:
            return 400, {"__type": "ScanNotFoundException", "message": "Image scan does not exist"}
        start = int(call.get("nextToken") or 0)
        end = min(image["findings"], start + PAGE)
        about = json.dumps({
            "registryId": ACCOUNT, "repositoryName": REPOSITORY, "imageId": call["imageId"],
            "imageScanStatus": {"status": "ACTIVE", "description": "Continuous scan is selected for image."},
            **({"nextToken": str(end)} if end < image["findings"] else {}),
        })
        found = json.dumps({"imageScanCompletedAt": image["since"], "findingSeverityCounts": counts(image["findings"])})
        return 200, f'{about[:-1]}, "imageScanFindings": {found[:-1]}, "enhancedFindings": {self.page(start, end)}}}}}'.encode()

    def BatchGetImage(self, call):
        found = [(image_id, self.images.get(image_id.get("imageDigest"))) for image_id in call["imageIds"]]
        images = [{"registryId": ACCOUNT, "repositoryName": REPOSITORY, "imageId": image_id, "imageManifest": image["manifest"],
                   "imageManifestMediaType": MEDIA_TYPE} for image_id, image in found if image]
        failures = [{"imageId": image_id, "failureCode": "ImageNotFound", "failureReason": "Requested image not found"} for image_id, image in found if not image]
        return 200, {"images": images, "failures": failures}

    def DescribeImages(self, call):
        ids = [image_id for image_id in call.get("imageIds", []) if image_id.get("imageDigest") in self.images]
        return 200, {"imageDetails": [{"registryId": ACCOUNT, "repositoryName": REPOSITORY, "imageDigest": image_id["imageDigest"],
                                       "imagePushedAt": self.images[image_id["imageDigest"]]["since"] - 30} for image_id in ids]}

    def GetRegistryScanningConfiguration(self, _):
        return 200, {"registryId": ACCOUNT, "scanningConfiguration": {"scanType": "ENHANCED", "rules": []}}

    def BatchGetRepositoryScanningConfiguration(self, call):
        return 200, {"scanningConfigurations": [{"repositoryName": name, "scanOnPush": False, "scanFrequency": "CONTINUOUS_SCAN"}
                                                for name in call["repositoryNames"]]}

    def ListCoverage(self, call):
        wanted = call["filterCriteria"]["resourceId"][0]["value"]
        return 200, {"coveredResources": [{
            "accountId": ACCOUNT, "resourceId": wanted, "resourceType": "AWS_ECR_CONTAINER_IMAGE", "scanType": "PACKAGE",
            "scanStatus": {"statusCode": "ACTIVE", "reason": "PENDING_INITIAL_SCAN"},
        }]}
