// What blocks: checks of the policy props, and the text in which the pipeline's policy travels to its functions.
// The functions parse, canonicalise and hash it themselves; here it only has to be right and always the same text.
import { Stack, Token, Tokenization } from 'aws-cdk-lib';
import { MaxFindings, PolicyOptions } from '../policy-options';
import { Severity } from '../severity';
import { checkExemptions, exemptionTexts } from './exemptions';
import { flagText, isBlank } from './texts';

export interface PolicyProps extends PolicyOptions {
  readonly severity?: Severity[];
  readonly severityThreshold?: Severity;
  readonly ignoreFindings?: string[];
}

const DEFAULT_SEVERITY = [Severity.CRITICAL];

/** The five that have an order, lowest first. */
export const RATED = [Severity.INFORMATIONAL, Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL];

// All variables of a Lambda function together may take 4 KB; the others of ours need less than 1 KB.
const MOST_BYTES_OF_POLICY = 3000;

export function checkPolicy(props: PolicyProps): void {
  checkSeverities(props);
  checkExemptions(props.exemptions ?? []);
  checkMaxFindings(props);
  checkBlockAlways(props);
  checkGraceDays(props);
  checkExploit(props);
}

function checkSeverities(props: PolicyProps): void {
  if (props.severity !== undefined && props.severityThreshold !== undefined) {
    throw new Error(
      "Give either 'severity' or 'severityThreshold', not both: 'severity' lists exactly the severities that block, 'severityThreshold' blocks at its severity and above.",
    );
  }
  if (props.severity?.length === 0) {
    throw new Error(
      "severity must contain at least one severity: with an empty list nothing would ever block. Leave it out for [CRITICAL], or use 'severityThreshold'. To be told without being blocked, set failOnVulnerability to false.",
    );
  }
  if (props.severityThreshold !== undefined && !RATED.includes(props.severityThreshold)) {
    throw new Error(
      `severityThreshold must be one of ${RATED.join(', ')}, got '${props.severityThreshold}': a finding without a rating is neither above nor below any other. List it in 'severity' instead.`,
    );
  }
}

const LIMITABLE = Object.entries({
  critical: Severity.CRITICAL,
  high: Severity.HIGH,
  medium: Severity.MEDIUM,
  low: Severity.LOW,
  informational: Severity.INFORMATIONAL,
}) as [keyof MaxFindings, Severity][];

function checkMaxFindings({ maxFindings }: PolicyProps): void {
  for (const [member] of LIMITABLE) {
    const most = maxFindings?.[member];
    if (most !== undefined && !Token.isUnresolved(most) && !(Number.isSafeInteger(most) && most >= 0)) {
      throw new Error(`maxFindings.${member} must be a whole number, 0 or more, got ${most}: it says how many findings of that severity may pass.`);
    }
  }
  if (maxFindings && limits(maxFindings).length === 0) {
    throw new Error(
      `maxFindings must limit at least one severity: give one of ${LIMITABLE.map(([member]) => member).join(', ')}, or leave it out.`,
    );
  }
}

function checkBlockAlways({ blockAlways, ignoreFindings, exemptions }: PolicyProps): void {
  if (blockAlways?.length === 0) {
    throw new Error("blockAlways must contain at least one id, for example 'CVE-2024-3094'. Leave it out when no finding blocks always.");
  }
  for (const id of blockAlways ?? []) {
    if (isBlank(id)) {
      throw new Error("blockAlways contains an empty id: name a vulnerability, for example 'CVE-2024-3094', or take it out.");
    }
    const excusedBy = ignoreFindings?.includes(id) ? 'ignoreFindings' : exemptions?.some((e) => e.id === id) ? 'exemptions' : undefined;
    if (excusedBy) {
      throw new Error(`blockAlways and ${excusedBy} both name '${id}': it cannot block always and be excused as well. Take it out of one of them.`);
    }
  }
}

function checkGraceDays({ graceDays }: PolicyProps): void {
  if (graceDays !== undefined && !Token.isUnresolved(graceDays) && !(Number.isInteger(graceDays) && graceDays >= 1 && graceDays <= 365)) {
    throw new Error(`graceDays must be a whole number from 1 to 365, got ${graceDays}. Leave it out to block from the first day.`);
  }
}

function checkExploit({ exploit }: PolicyProps): void {
  const epss = exploit?.epss;
  if (epss !== undefined && !Token.isUnresolved(epss) && !(epss >= 0 && epss <= 1)) {
    throw new Error(`exploit.epss must be between 0 and 1, got ${epss}: it is the likelihood of an exploit from which on a finding blocks, as in 0.1.`);
  }
  if (exploit && !exploit.exploitAvailable && epss === undefined) {
    throw new Error(
      'exploit must say which findings block: give exploitAvailable: true, or epss. Leave it out to block with and without a known exploit.',
    );
  }
}

/** Basic scanning says less of a finding than Inspector. What a policy asks for and nobody answers would be a guess. */
export function checkNeedsOf(props: PolicyProps, scanType: string): void {
  if (scanType !== 'BASIC') {
    return;
  }
  const untilFixed = props.exemptions?.findIndex((exemption) => exemption.untilFixed) ?? -1;
  const needs: [string, boolean, string][] = [
    ['ignoreUnfixed', props.ignoreUnfixed === true, 'does not know whether a fix exists'],
    [`exemptions[${untilFixed}].untilFixed`, untilFixed >= 0, 'does not know whether a fix exists'],
    ['graceDays', props.graceDays !== undefined, 'does not date its findings'],
    ['exploit', props.exploit !== undefined, 'does not know exploits'],
  ];
  for (const [prop, given, why] of needs) {
    if (given) {
      throw new Error(`${prop} cannot work with ScanConfig.basic(): basic scanning ${why}. Use ScanConfig.enhanced(), or leave it out.`);
    }
  }
}

/** One of the two is always said, so that a template shows what blocks. */
export function blockingProps(props: PolicyProps): { severity?: string[]; severityThreshold?: string } {
  return props.severityThreshold === undefined
    ? { severity: props.severity ?? DEFAULT_SEVERITY }
    : { severityThreshold: props.severityThreshold };
}

/** The rated severities that pass although a lower (or an unrated) one blocks. */
export function leftOut({ severity = [], maxFindings = {} }: PolicyProps): Severity[] {
  const limited = limits(maxFindings).map(([rated]) => rated);
  const lowest = Math.max(0, RATED.findIndex((rated) => severity.includes(rated)));
  const ratedBlocks = RATED.some((rated) => severity.includes(rated));
  // [UNDEFINED] alone names nothing of the order, so the list has no gap; but CRITICAL passes, and nobody expects that.
  const expected = ratedBlocks ? RATED.slice(lowest) : [Severity.CRITICAL];
  return expected.filter((rated) => !severity.includes(rated) && !limited.includes(rated));
}

/** What the policy says besides severities and ignored findings, in the form in which it travels; what is not said is left out. */
export function policyTexts(props: PolicyOptions) {
  const { exemptions, ignoreUnfixed, maxFindings, blockAlways, graceDays, exploit } = props;
  return {
    exemptions: exemptions?.length ? exemptionTexts(exemptions) : undefined,
    ignoreUnfixed: flagText(ignoreUnfixed),
    maxFindings: maxFindings && Object.fromEntries(limits(maxFindings).map(([severity, most]) => [severity, Tokenization.stringifyNumber(most)])),
    blockAlways,
    graceDays: graceDays === undefined ? undefined : Tokenization.stringifyNumber(graceDays),
    exploit: exploit && {
      exploitAvailable: flagText(exploit.exploitAvailable),
      epss: exploit.epss === undefined ? undefined : likelihoodText(exploit.epss),
    },
  };
}

/** As the functions read it: without an exponent, which JavaScript writes from seven decimals on. */
function likelihoodText(epss: number): string {
  return Token.isUnresolved(epss) ? Tokenization.stringifyNumber(epss) : epss.toFixed(12).replace(/\.?0+$/, '');
}

function limits(maxFindings: MaxFindings): [Severity, number][] {
  return LIMITABLE.flatMap(([member, severity]) => (maxFindings[member] === undefined ? [] : [[severity, maxFindings[member]]]));
}

export function policyText(stack: Stack, props: PolicyProps): string {
  const { severity, severityThreshold } = blockingProps(props);
  const { blockAlways, exemptions, exploit, graceDays, ignoreUnfixed, maxFindings } = policyTexts(props);
  const policy = {
    blockAlways: blockAlways && sortedSet(blockAlways),
    exemptions,
    exploit,
    graceDays,
    ignoreFindings: props.ignoreFindings?.length ? sortedSet(props.ignoreFindings) : undefined,
    ignoreUnfixed,
    maxFindings,
    severity: severity && sortedSet(severity),
    severityThreshold,
  };
  const bytes = Buffer.byteLength(JSON.stringify(policy));
  if (bytes > MOST_BYTES_OF_POLICY) {
    throw new Error(
      `The pipeline's policy takes ${bytes} bytes, and a function's environment has room for ${MOST_BYTES_OF_POLICY}. Shorten ignoreFindings and exemptions: the gates have lists of their own.`,
    );
  }
  return stack.toJsonString(policy);
}

function sortedSet(values: string[]): string[] {
  const unique = [...new Set(values)];
  // The text of a token is its number in this run: sorting by it would reorder the template from run to run.
  return unique.some((value) => Token.isUnresolved(value)) ? unique : unique.sort();
}
