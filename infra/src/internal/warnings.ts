// What is allowed, but may not be what somebody meant.
import { Annotations, Token } from 'aws-cdk-lib';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import { IConstruct } from 'constructs';
import { EcrScanVerifierProps } from '../ecr-scan-verifier';
import { Exemption } from '../policy-options';
import { SignatureVerificationBindOutput } from '../signature-verification';
import { isoDay } from './exemptions';
import { isDigest } from './images';
import { ChosenByTheFirst } from './implicit-pipeline';
import { Outputs } from './outputs';
import { PolicyProps, leftOut } from './policy';

export function warnOfPolicy(scope: IConstruct, props: PolicyProps): void {
  warnOfGaps(scope, props);
  props.exemptions?.forEach((exemption) => warnOfExemption(scope, exemption));
}

function warnOfGaps(scope: IConstruct, props: PolicyProps): void {
  const { severity } = props;
  const passing = leftOut(props);
  if (severity && passing.length > 0) {
    Annotations.of(scope).addWarningV2(
      '@ecr-scan-verifier:severityNotUpwardClosed',
      `severity [${severity.join(', ')}] blocks exactly these: a finding of severity ${passing.join(' or ')} does not block. Add what is missing, or use 'severityThreshold', which means at or above.`,
    );
  }
}

const LONGEST_EXEMPTION_DAYS = 365;

function warnOfExemption(scope: IConstruct, { id, until }: Exemption): void {
  const today = new Date();
  const longest = new Date(today.getTime() + LONGEST_EXEMPTION_DAYS * 24 * 3600 * 1000);
  if (Token.isUnresolved(until)) {
    return;
  }
  if (until < isoDay(today)) {
    Annotations.of(scope).addWarningV2(
      '@ecr-scan-verifier:exemptionEnded',
      `The exemption of '${id}' ended on ${until} and excuses nothing. Take it out of 'exemptions', or give it a later last day.`,
    );
  }
  if (until > isoDay(longest)) {
    Annotations.of(scope).addWarningV2(
      '@ecr-scan-verifier:exemptionFarAhead',
      `The exemption of '${id}' lasts until ${until}, more than ${LONGEST_EXEMPTION_DAYS} days from today: by then nobody remembers why. Choose an earlier last day, and renew it when it is still right.`,
    );
  }
}

export function warnOfMovableTag(scope: IConstruct, repository: ecr.IRepository, imageTag: string): void {
  if (canMove(repository, imageTag)) {
    Annotations.of(scope).addWarningV2(
      '@ecr-scan-verifier:mutableTag',
      `imageTag '${imageTag}' can be moved to another image, and CloudFormation does not ask again while the tag stays the same. Deploy by digest (imageTag: 'sha256:...'), or run what was verified: pass verifier.imageUri on to what runs the image.`,
    );
  }
}

function canMove(repository: ecr.IRepository, imageTag: string): boolean {
  // CDK's image assets: the tag is a hash of the content (and a prefix, if one was chosen).
  const isContentHash = /(^|[^0-9a-f])[0-9a-f]{64}$/.test(imageTag);
  if (Token.isUnresolved(imageTag) || isDigest(imageTag) || isContentHash) {
    return false;
  }
  // Known only of a repository that is made in this app; an imported one may be set either way, so there only the tag
  // speaks for itself.
  const resource = repository.node.defaultChild;
  const mutability = resource instanceof ecr.CfnRepository ? (resource.imageTagMutability ?? 'MUTABLE') : undefined;
  return mutability === 'MUTABLE' || (imageTag === 'latest' && mutability !== 'IMMUTABLE');
}

export function warnOfDifferences(scope: IConstruct, asked: ChosenByTheFirst, given: ChosenByTheFirst): void {
  warnOfArchitectures(scope, asked.architecture, given.architecture);
  if (asked.defaultLogGroup?.node.path !== given.defaultLogGroup?.node.path) {
    Annotations.of(scope).addWarningV2(
      '@ecr-scan-verifier:duplicateLambdaDefaultLogGroup',
      "You have to set the same log group for 'defaultLogGroup' for each EcrScanVerifier construct in the same stack.",
    );
  }
}

/** The functions of a pipeline that is made elsewhere log where that pipeline lets them. */
export function warnOfDefaultLogGroup(scope: IConstruct, pipelineName: string, logGroup?: logs.ILogGroup): void {
  if (logGroup) {
    Annotations.of(scope).addWarningV2(
      '@ecr-scan-verifier:defaultLogGroupWithoutEffect',
      `defaultLogGroup has no effect together with 'pipeline': the functions of pipeline '${pipelineName}' log to groups of their own. To have the logs of this gate's scans in a log group, use scanLogsOutput: ScanLogsOutput.cloudWatchLogs({ logGroup }).`,
    );
  }
}

export function warnOfUnblocked(scope: IConstruct, blocked: IConstruct[], failOnVulnerability?: boolean, signatures?: SignatureVerificationBindOutput): void {
  if (blocked.length > 0 && failOnVulnerability === false) {
    const signed = signatures?.failOnUnsigned ? ' and that is signed' : '';
    Annotations.of(scope).addWarningV2(
      '@ecr-scan-verifier:blockConstructsWithoutFailing',
      `blockConstructs waits for the gate, but no finding keeps it back: with failOnVulnerability: false the gate lets every image through whose scan is complete${signed}. Leave out failOnVulnerability to have findings keep it back.`,
    );
  }
}

/** Where only signatures decide. The original took all of these. */
export function warnOfSignatureOnly(
  scope: IConstruct,
  blocked: IConstruct[],
  { severity, ignoreFindings, failOnVulnerability }: EcrScanVerifierProps,
  signatures?: SignatureVerificationBindOutput,
): void {
  const idle = Object.entries({ severity, ignoreFindings, failOnVulnerability }).filter(([, value]) => value !== undefined).map(([prop]) => prop);
  if (idle.length > 0) {
    Annotations.of(scope).addWarningV2(
      '@ecr-scan-verifier:findingsNotLookedAt',
      `${idle.join(', ')} decide${idle.length === 1 ? 's' : ''} about findings, and with ScanConfig.signatureOnly() none are looked at. Leave out what has no effect, or use ScanConfig.basic() or ScanConfig.enhanced() together with signatureVerification.`,
    );
  }
  if (blocked.length > 0 && signatures?.failOnUnsigned === false) {
    Annotations.of(scope).addWarningV2(
      '@ecr-scan-verifier:blockConstructsWithoutFailing',
      'blockConstructs waits for the gate, but neither findings nor a missing signature keep it back: with ScanConfig.signatureOnly() and failOnUnsigned: false the gate lets every image through whose signatures could be looked at. Leave out failOnUnsigned to have it keep back what is not signed.',
    );
  }
}

export function warnOfStrictness(scope: IConstruct, strictOutputs: boolean, outputs: Outputs): void {
  if (strictOutputs && !outputs.scanLogsOutput && !outputs.sbomOutput) {
    Annotations.of(scope).addWarningV2(
      '@ecr-scan-verifier:strictOutputsWithoutOutputs',
      "strictOutputs has no effect: this gate writes neither scan logs nor a bill of materials. Give 'scanLogsOutput' or 'sbomOutput', or leave it out. (A notification never decides.)",
    );
  }
}

function warnOfArchitectures(scope: IConstruct, asked: lambda.Architecture, given: lambda.Architecture): void {
  if (asked.name !== given.name) {
    Annotations.of(scope).addWarningV2(
      '@ecr-scan-verifier:differentArchitectures',
      `architecture ${asked.name} has no effect: the verifiers of a stack share their functions, and the first one chose ${given.name}. Give all of them the same 'architecture'.`,
    );
  }
}
