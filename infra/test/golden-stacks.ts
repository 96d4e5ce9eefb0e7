// The stacks that golden templates show, and that cfn-lint reads.
import { Stack } from 'aws-cdk-lib';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as ssm from 'aws-cdk-lib/aws-ssm';
import { EcrScanPipeline, EcrScanVerifier, ScanConfig, Severity } from '../src';
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

/** Everything under the customer's key. */
export function encryptedPipeline(): Stack {
  const stack = new Stack(newApp(), 'scanning-encrypted');
  const encryptionKey = new kms.Key(stack, 'Key');
  new EcrScanPipeline(stack, 'Pipeline', { pipelineName: 'demo', architecture: lambda.Architecture.X86_64, encryptionKey });
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
