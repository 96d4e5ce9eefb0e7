"""What the functions are handed, made from the samples in events/."""
import copy
import json
import time
import uuid
from pathlib import Path

from scanners import ACCOUNT, REGION, REPOSITORY, REPOSITORY_ARN, counts, digest

SAMPLES = Path(__file__).resolve().parents[2] / "events"
CREATE = json.loads((SAMPLES / "deploy-create-by-digest.json").read_text())
PUSH = json.loads((SAMPLES / "image-pushed.json").read_text())


def deployment(name, answers, ignoring=(), resource="WebAppGate"):
    """A Create by digest. `ignoring` makes it another policy."""
    event = copy.deepcopy(CREATE)
    request_id = str(uuid.uuid4())
    # 900 letters and digits stand for the session token and the signature of a real one.
    signed = f"X-Amz-Date={time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}&X-Amz-Expires=7200&X-Amz-Security-Token={'0' * 900}"
    event.update(RequestId=request_id, LogicalResourceId=resource, ResponseURL=f"{answers}/answer/{request_id}?{signed}")
    event["ResourceProperties"].update(imageTag=digest(name), ignoreFindings=list(ignoring))
    return event


def enhanced_scan_ended(name, findings):
    """Its counts agree with the list: CRITICAL, HIGH and MEDIUM each, and the rest in the total."""
    said = counts(findings)
    return event("aws.inspector2", "Inspector2 Scan", {
        "scan-status": "INITIAL_SCAN_COMPLETE", "repository-name": REPOSITORY_ARN, "image-digest": digest(name), "image-tags": ["1.4.2"], "version": "1.0",
        "finding-severity-counts": {"CRITICAL": 0, "HIGH": 0, "MEDIUM": said.get("MEDIUM", 0), "TOTAL": findings},
    })


def push(name, tag):
    return event("aws.ecr", "ECR Image Action", {**PUSH["detail"], "repository-name": REPOSITORY, "image-digest": digest(name), "image-tag": tag})


def timer(request_id):
    return {"v": 1, "kind": "timer", "requestId": request_id, "n": 1}


def event(source, kind, detail):
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"version": "0", "id": str(uuid.uuid4()), "detail-type": kind, "source": source, "account": ACCOUNT, "time": at, "region": REGION,
            "resources": [REPOSITORY_ARN], "detail": detail}


def from_queue(*bodies):
    """A batch as Lambda hands it over."""
    records = [{
        "messageId": str(uuid.uuid4()), "receiptHandle": "receipt", "body": json.dumps(body), "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {}, "md5OfBody": "", "eventSource": "aws:sqs", "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:scan", "awsRegion": REGION,
    } for body in bodies]
    return {"Records": records}
