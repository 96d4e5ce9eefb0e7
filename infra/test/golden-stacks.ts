// The stacks that golden templates show, and that cfn-lint reads.
import { Duration, Stack } from 'aws-cdk-lib';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as s3 from 'aws-cdk-lib/aws-s3';
import * as sns from 'aws-cdk-lib/aws-sns';
import * as ssm from 'aws-cdk-lib/aws-ssm';
import {
  AlertOn,
  EcrScanPipeline,
  EcrScanVerifier,
  OnUnscanned,
  SbomOutput,
  ScanConfig,
  ScanLogsLayout,
  ScanLogsOutput,
  Severity,
  SignatureVerification,
} from '../src';
import { PROFILE, PUBLIC_KEY, ROOT, signingKey } from './signers';
import { DIGEST, HOME, newApp } from './support';

/** An account's one pipeline. */
export function explicitPipeline(): Stack {
  const stack = new Stack(newApp(), 'scanning');
  new EcrScanPipeline(stack, 'Pipeline', { pipelineName: 'demo', severityThreshold: Severity.HIGH });
  return stack;
}

/** A stack that knows of no pipeline: two gates share an implicit one. */
export function implicitPipeline(): Stack {
  const stack = new Stack(newApp(), 'payments');
  const service = new ssm.StringParameter(stack, 'Service', { stringValue: 'stands for what runs the image' });
  new EcrScanVerifier(stack, 'ApiVerifier', {
    repository: new ecr.Repository(stack, 'Api', { repositoryName: 'payments-api' }),
    imageTag: DIGEST,
    scanConfig: ScanConfig.basic(),
    blockConstructs: [service],
  });
  new EcrScanVerifier(stack, 'WorkerVerifier', {
    repository: ecr.Repository.fromRepositoryName(stack, 'Worker', 'payments-worker'),
    imageTag: DIGEST,
    scanConfig: ScanConfig.enhanced(),
    severityThreshold: Severity.HIGH,
    blockConstructs: [service],
  });
  return stack;
}

/** Everything that watches: alerts, alarms, a dashboard. */
export function watchedPipeline(): Stack {
  const stack = new Stack(newApp(), 'scanning-watched');
  const encryptionKey = new kms.Key(stack, 'Key', { enableKeyRotation: true });
  const topic = new sns.Topic(stack, 'Operators', { masterKey: encryptionKey, enforceSSL: true });
  new EcrScanPipeline(stack, 'Pipeline', {
    pipelineName: 'demo',
    alertTopic: topic,
    alertOn: AlertOn.NEWEST_OF_TAG,
    alertSeverity: Severity.HIGH,
    alertQuietPeriod: Duration.hours(1),
    alarms: { topic },
    dashboard: true,
  });
  return stack;
}

/** Everything under the customer's key. */
export function encryptedPipeline(): Stack {
  const stack = new Stack(newApp(), 'scanning-encrypted');
  const encryptionKey = new kms.Key(stack, 'Key', { enableKeyRotation: true });
  new EcrScanPipeline(stack, 'Pipeline', { pipelineName: 'demo', architecture: lambda.Architecture.X86_64, encryptionKey });
  return stack;
}

/** A gate with every output, and what has to be there for them. */
export function gateWithOutputs(): Stack {
  const stack = new Stack(newApp(), 'payments-outputs');
  const encryptionKey = new kms.Key(stack, 'Key', { enableKeyRotation: true });
  const bucket = (id: string, own: s3.BucketProps = {}): s3.Bucket =>
    new s3.Bucket(stack, id, { enforceSSL: true, ...own });
  new EcrScanVerifier(stack, 'Verifier', {
    repository: ecr.Repository.fromRepositoryName(stack, 'Repository', 'payments-api'),
    imageTag: '1.4.2',
    scanConfig: ScanConfig.enhanced({ sbomOutput: SbomOutput.cycloneDx14({ bucket: bucket('Sboms'), prefix: 'sboms', encryptionKey }) }),
    scanLogsOutput: ScanLogsOutput.s3({ bucket: bucket('Logs', { encryptionKey }), prefix: 'scans', layout: ScanLogsLayout.DIGEST }),
    strictOutputs: true,
    vulnsNotificationTopic: new sns.Topic(stack, 'Topic', { masterKey: encryptionKey, enforceSSL: true }),
    pipeline: EcrScanPipeline.fromName(stack, 'Pipeline', 'demo'),
  });
  return stack;
}

/** A gate for each way to ask for signatures. */
export function gatesWithSignatures(): Stack {
  const stack = new Stack(newApp(), 'payments-signed');
  const pipeline = EcrScanPipeline.fromName(stack, 'Pipeline', 'demo');
  const repository = ecr.Repository.fromRepositoryName(stack, 'Repository', 'payments-api');
  const byProfile = SignatureVerification.notation({ trustedIdentities: [PROFILE, `${PROFILE}/Ab12Cd34Ef`] });
  const byPublicKey = SignatureVerification.cosignPublicKey({ publicKey: PUBLIC_KEY });
  const byKey = SignatureVerification.cosignKms({ key: signingKey(stack) });
  const gate = (id: string, signatureVerification: SignatureVerification, scanConfig = ScanConfig.enhanced()): EcrScanVerifier =>
    new EcrScanVerifier(stack, id, { repository, imageTag: DIGEST, scanConfig, signatureVerification, pipeline });
  gate('ByProfile', byProfile);
  gate('ByRoot', SignatureVerification.notation({ trustedIdentities: [PROFILE], trustedRoots: [ROOT] }));
  gate('ByPublicKey', byPublicKey);
  gate('ByKey', byKey);
  gate('ByAll', SignatureVerification.allOf({ signers: [byProfile, byKey] }));
  gate('ByAny', SignatureVerification.anyOf({ signers: [byPublicKey, byKey], failOnUnsigned: false }));
  gate('Alone', byPublicKey, ScanConfig.signatureOnly());
  return stack;
}

/** The gate whose request is `events/deploy-create.json`. */
export function sampleGate(): Stack {
  const stack = new Stack(newApp(), 'payments', { env: HOME });
  new EcrScanVerifier(stack, 'Verifier', {
    repository: ecr.Repository.fromRepositoryName(stack, 'Repository', 'payments-api'),
    imageTag: '1.4.2',
    scanConfig: ScanConfig.basic(),
    severity: [Severity.CRITICAL, Severity.HIGH],
    ignoreFindings: ['CVE-2022-0563'],
    pipeline: EcrScanPipeline.fromName(stack, 'Pipeline', 'demo'),
  });
  return stack;
}

/** The gate whose request is `events/deploy-create-full-policy.json`: everything is said that can be said of an image. */
export function fullPolicyGate(): Stack {
  const stack = new Stack(newApp(), 'payments', { env: HOME });
  new EcrScanVerifier(stack, 'Verifier', {
    repository: ecr.Repository.fromRepositoryName(stack, 'Repository', 'payments-api'),
    imageTag: '1.4.2',
    scanConfig: ScanConfig.enhanced(),
    severityThreshold: Severity.HIGH,
    ignoreFindings: ['CVE-2022-0563'],
    exemptions: [
      { id: 'CVE-2023-4911', reason: 'The loader is not reachable from outside', until: '2026-06-30' },
      {
        id: 'CVE-2024-3094',
        reason: 'sshd does not run in this image',
        until: '2026-04-30',
        package: 'xz-utils',
        repository: 'payments-api',
        untilFixed: true,
      },
    ],
    ignoreUnfixed: true,
    maxFindings: { critical: 0, high: 5, medium: 50 },
    blockAlways: ['CVE-2021-44228'],
    graceDays: 14,
    exploit: { exploitAvailable: true },
    onUnscanned: OnUnscanned.WARN,
    platforms: ['linux/arm64/v8', 'linux/amd64'],
    maxScanAge: Duration.days(7),
    pipeline: EcrScanPipeline.fromName(stack, 'Pipeline', 'demo'),
  });
  return stack;
}

/** All of them, for what looks at every template. */
export const GOLDEN_STACKS = [
  explicitPipeline,
  watchedPipeline,
  implicitPipeline,
  encryptedPipeline,
  gateWithOutputs,
  gatesWithSignatures,
  sampleGate,
  fullPolicyGate,
];
