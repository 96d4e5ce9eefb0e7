// Props that are refused before anything is created: each text names the prop and the way out.
import { Arn, ArnFormat, Duration, Stack, Token, Tokenization } from 'aws-cdk-lib';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import { Construct } from 'constructs';
import { IEcrScanPipeline } from '../ecr-scan-pipeline';
import { EcrScanVerifierProps } from '../ecr-scan-verifier';
import { OnUnscanned } from '../on-unscanned';
import { ScanConfigBindOutput } from '../scan-config';
import { SignatureVerificationBindOutput } from '../signature-verification';
import { checkPartitions } from './signatures';

/** CloudFormation waits for an answer for 3600 s; the last two minutes belong to the answer itself. */
const LONGEST_WAIT = 3480;

export function checkedTimeout(timeout: Duration): number {
  if (timeout.isUnresolved()) {
    throw new Error(
      'pollingTimeout must be known when the app is synthesized: what CloudFormation waits is computed from it. Use a Duration of a plain number.',
    );
  }
  const seconds = timeout.toSeconds();
  if (seconds < 1 || seconds > LONGEST_WAIT) {
    throw new Error(`pollingTimeout must be between 1 and ${LONGEST_WAIT} seconds, got ${seconds}.`);
  }
  return seconds;
}

const SHORTEST_SCAN_AGE = Duration.hours(1);
const LONGEST_SCAN_AGE = Duration.days(365);

export function checkedScanAge(age?: Duration): string | undefined {
  if (age === undefined) {
    return undefined;
  }
  const seconds = age.toSeconds();
  if (!age.isUnresolved() && (seconds < SHORTEST_SCAN_AGE.toSeconds() || seconds > LONGEST_SCAN_AGE.toSeconds())) {
    throw new Error(
      `maxScanAge must be between 1 hour and 365 days, got ${age.toHumanString()}. Leave it out for the default: 24 hours where the gate may start scans, else no limit.`,
    );
  }
  return Tokenization.stringifyNumber(seconds);
}

const MOST_RESCANS = 100_000;

export function checkDailyRescans(count?: number): void {
  if (count !== undefined && !Token.isUnresolved(count) && !(Number.isInteger(count) && count >= 0 && count <= MOST_RESCANS)) {
    throw new Error(
      `dailyRescans must be a whole number from 0 to ${MOST_RESCANS}, got ${count}: so many deployed images are scanned again in a day. With 0 none is.`,
    );
  }
}

export function checkOnUnscanned(choice?: OnUnscanned): void {
  const choices = Object.values(OnUnscanned);
  if (choice !== undefined && !Token.isUnresolved(choice) && !choices.includes(choice)) {
    throw new Error(`onUnscanned must be one of ${choices.join(', ')}, got '${choice}'. Use a member of OnUnscanned.`);
  }
}

export function checkPlatforms(platforms?: string[]): void {
  if (platforms?.length === 0) {
    throw new Error(
      'platforms must contain at least one platform: with an empty list nothing of the image would be looked at. Leave it out, and all of them count.',
    );
  }
  if (platforms === undefined || Token.isUnresolved(platforms)) {
    return;
  }
  platforms.forEach((platform, n) => {
    // As in an index: `os` and `architecture` are Go's words, which have no other characters.
    if (!Token.isUnresolved(platform) && !/^[a-z0-9]+\/[a-z0-9]+(\/[a-z0-9.]+)?$/.test(platform)) {
      throw new Error(
        `platforms contains '${platform}', which is no platform: write os/architecture or os/architecture/variant in lower case, for example linux/arm64 or linux/arm/v7.`,
      );
    }
    if (!Token.isUnresolved(platform) && platforms.indexOf(platform) < n) {
      throw new Error(`platforms contains '${platform}' twice. Name each platform once.`);
    }
  });
}

export function checkRepository(scope: Construct, repository: ecr.IRepository): void {
  refuseElsewhere(scope, repository.env);
  // A repository imported by its attributes claims the environment of the stack; its ARN knows better.
  const arn = Stack.of(scope).resolve(repository.repositoryArn);
  if (typeof arn === 'string') {
    refuseElsewhere(scope, Arn.split(arn, ArnFormat.SLASH_RESOURCE_NAME));
  }
}

function refuseElsewhere(scope: Construct, home: { account?: string; region?: string }): void {
  const stack = Stack.of(scope);
  for (const what of ['account', 'region'] as const) {
    if (known(home[what]) && known(stack[what]) && home[what] !== stack[what]) {
      throw new Error(
        `repository is in ${what} ${home[what]}, but stack '${stack.stackName}' deploys to ${what} ${stack[what]}. A gate looks only at repositories of its own account and region: scans and their events stay there. Put the verifier into a stack of that ${what}, or replicate the image and name the replica.`,
      );
    }
  }
}

export function checkPipeline(scope: Construct, pipeline: IEcrScanPipeline): void {
  const ours = Stack.of(scope);
  const theirs = Stack.of(pipeline);
  for (const what of ['account', 'region'] as const) {
    if (known(theirs[what]) && known(ours[what]) && theirs[what] !== ours[what]) {
      throw new Error(
        `pipeline '${pipeline.pipelineName}' is in ${what} ${theirs[what]}, but stack '${ours.stackName}' deploys to ${what} ${ours[what]}. A gate asks the pipeline of its own account and region: make one there.`,
      );
    }
  }
}

export function checkSignatures(scope: Construct, scanType: string, signatureVerification?: SignatureVerificationBindOutput): void {
  if (scanType === 'SIGNATURE_ONLY' && signatureVerification === undefined) {
    throw new Error('ScanConfig.signatureOnly() requires signatureVerification to be specified.');
  }
  if (signatureVerification) {
    checkPartitions(scope, signatureVerification);
  }
}

/** What decides about findings decides nothing where none are read. (What the original took there only raises a warning.) */
export function checkFindingsMatter(props: EcrScanVerifierProps, scanType: string): void {
  if (scanType !== 'SIGNATURE_ONLY') {
    return;
  }
  const { severityThreshold, onUnscanned, maxScanAge, exemptions, ignoreUnfixed, maxFindings, blockAlways, graceDays, exploit } = props;
  const about = { severityThreshold, onUnscanned, maxScanAge, exemptions, ignoreUnfixed, maxFindings, blockAlways, graceDays, exploit };
  for (const [prop, value] of Object.entries(about)) {
    const isSaid = value !== undefined && value !== false && !(Array.isArray(value) && value.length === 0);
    if (isSaid) {
      throw new Error(
        `${prop} cannot work with ScanConfig.signatureOnly(): no scan is looked at, so no finding would ever block. Use ScanConfig.basic() or ScanConfig.enhanced() together with signatureVerification, or leave it out.`,
      );
    }
  }
}

/** The factories cannot say it; a ScanConfig of somebody else can. */
export function checkSbom(scan: ScanConfigBindOutput): void {
  if (scan.sbomOutput && scan.scanType !== 'ENHANCED') {
    throw new Error(
      `sbomOutput cannot work with scan type ${scan.scanType}: only Amazon Inspector makes a bill of materials. Use ScanConfig.enhanced({ sbomOutput }), or leave it out.`,
    );
  }
}

function known(value?: string): value is string {
  return value !== undefined && value !== '' && !Token.isUnresolved(value);
}
